"""How the picture as a whole moves: a camera that shakes, pans or zooms.

A few corners of the background are followed from one preview to the next (pyramidal Lucas-Kanade),
and most of them have to agree on one shift, rotation and scale. People are left out: a face moves
with its body, and below a face there is nothing else.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dualface_client.picture.ranks import median, spread
from dualface_client.types import Box, ByteArray, FloatArray

_CORNERS = 90
#: Corners are looked for anew when less than this share of them is left, or after this many looks.
_LEFT_SHARE = 0.5
_RENEWED_AFTER_LOOKS = 10
#: Below this many followed corners nothing is said.
_MIN_FOLLOWED = 12
#: How close to the common motion a corner's own has to be, in preview samples.
_AGREES_PX = 0.35
#: Share of the corners that have to agree, how many cells of a 4 x 4 grid they have to be in, and
#: how far across and down they have to reach, as shares of the picture: what moves in one window
#: or at one place only is no camera.
_MIN_SHARE = 0.5
_CELLS = 4
_MIN_CELLS, _MIN_SPREAD = 5, (0.55, 0.5)
_OUTLIERS = 0.05
#: The same for a camera that has moved within as many frames: shake does not stop for a few.
_MOVING_CELLS, _MOVING_SPREAD = 2, (0.1, 0.1)
_MOVED_WITHIN_FRAMES = 25
#: Where more corners stand still than this share, the camera does: windows of a split screen, or a
#: crowd before a wall.
_MAX_STILL_SHARE = 0.2
#: A motion of the middle corner below this is measurement noise, in preview samples a frame.
_STILL_PX = 0.1
#: A person's part of the picture: above the chin and below it in face widths to each side, and
#: above the face in face heights.
_HEAD_WIDTHS, _BODY_WIDTHS = 0.3, 0.9
_HAIR_HEIGHTS = 0.4
#: Of the tracker: window in samples, levels of the pyramid, when to stop.
_WINDOW_PX, _LEVELS = (13, 13), 3
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.01)


class MotionMeter:
    """Measures the motion of the picture from frame to frame."""

    def __init__(self) -> None:
        self._previous: ByteArray | None = None
        self._points: FloatArray = np.zeros((0, 2), np.float32)
        self._age_looks = self._found = 0
        self._still_frames = _MOVED_WITHIN_FRAMES

    def update(
        self,
        preview: ByteArray,
        face_boxes: FloatArray,
        content: Box,
        cut: bool,
        frames: int = 1,
    ) -> tuple[float, float]:
        """Moves on to a later frame.

        Args:
            preview: Shape `(height, width)`, uint8 luma of the picture.
            face_boxes: Shape `(n, 4)` xyxy, of this frame, in samples of the preview.
            content: The picture without bars, in samples.
            cut: True on the first frame of a shot.
            frames: How many frames later than the one before, at least 1.

        Returns:
            x to the right and y down, of the picture's middle, in samples a frame; exactly 0 for a
            camera that stands still, and where nothing can be said.
        """
        # A copy: the memory may hold another picture by the next look.
        previous, self._previous = self._previous, preview.copy()
        if cut or previous is None or previous.shape != preview.shape:
            self._points = np.zeros((0, 2), np.float32)
            self._age_looks = _RENEWED_AFTER_LOOKS  # look for corners in the next frame
            self._still_frames = _MOVED_WITHIN_FRAMES
            return 0.0, 0.0
        background = background_of(preview.shape, face_boxes, content)
        few = len(self._points) < max(_LEFT_SHARE * self._found, 1)
        if self._age_looks >= _RENEWED_AFTER_LOOKS or (few and self._found):
            self._points, self._age_looks = _corners(previous, background), 0
            self._found = len(self._points)
        self._age_looks += 1
        before, after = _followed(previous, preview, self._points, background)
        self._points = after
        moving = self._still_frames < _MOVED_WITHIN_FRAMES
        shift = common_shift(before, after, (preview.shape[1], preview.shape[0]), moving, frames)
        self._still_frames = 0 if any(shift) else self._still_frames + frames
        return shift


def background_of(shape: tuple[int, ...], face_boxes: FloatArray, content: Box) -> ByteArray:
    """Where the background is: 255 there, 0 on people and outside the content.

    Args:
        shape: Height and width of the preview.
        face_boxes: Shape `(n, 4)` xyxy, samples.
        content: The picture without bars, samples.
    """
    background = np.zeros(shape, np.uint8)
    left, top, right, bottom = (round(edge) for edge in content)
    margin = 3  # corners of the bars' edges stand still whatever the camera does
    background[top + margin : bottom - margin, left + margin : right - margin] = 255
    for x1, y1, x2, y2 in face_boxes:
        for widths, from_y in (
            (_HEAD_WIDTHS, y1 - _HAIR_HEIGHTS * (y2 - y1)),
            (_BODY_WIDTHS, y2),
        ):
            low, high = x1 - widths * (x2 - x1), x2 + widths * (x2 - x1)
            background[max(0, int(from_y)) :, max(0, int(low)) : max(0, int(high) + 1)] = 0
    return background


def _corners(preview: ByteArray, where: ByteArray) -> FloatArray:
    found = cv2.goodFeaturesToTrack(preview, _CORNERS, 0.02, 7, mask=where, blockSize=5)
    return np.zeros((0, 2), np.float32) if found is None else np.asarray(found[:, 0], np.float32)


def _followed(
    previous: ByteArray, preview: ByteArray, points: FloatArray, where: ByteArray
) -> tuple[FloatArray, FloatArray]:
    """Places of the corners that were found again, before and after."""
    if not len(points):
        return points, points
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        previous,
        preview,
        points,
        np.empty_like(points),
        winSize=_WINDOW_PX,
        maxLevel=_LEVELS,
        criteria=_STOP,
    )
    moved = np.asarray(moved, np.float32)
    height, width = where.shape
    x, y = np.rint(moved).astype(np.int64).T
    kept = (np.asarray(status)[:, 0] == 1) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    kept[kept] = where[y[kept], x[kept]] > 0
    return points[kept], moved[kept]


def common_shift(
    before: FloatArray,
    after: FloatArray,
    size_wh: tuple[int, int],
    moving: bool = False,
    frames: int = 1,
) -> tuple[float, float]:
    """The motion of the picture's middle that most corners agree on.

    Args:
        before: Shape `(n, 2)`, preview samples.
        after: The same corners later.
        size_wh: Width and height of the preview.
        moving: The camera is known to move, so that less of the background is enough.
        frames: How many frames later, at least 1: noise grows with looks, slow drift with frames.

    Returns:
        x and y in preview samples a frame; 0 and 0 where they do not agree, or do not move.
    """
    if len(before) < _MIN_FOLLOWED:
        return 0.0, 0.0
    moved = np.hypot(*(after - before).T) / frames
    still = np.count_nonzero(moved < min(_STILL_PX, 0.3 * float(moved.max())))
    if median(moved) < _STILL_PX or still > _MAX_STILL_SHARE * len(moved):
        return 0.0, 0.0
    matrix, agrees = cv2.estimateAffinePartial2D(
        before, after, method=cv2.RANSAC, ransacReprojThreshold=_AGREES_PX, maxIters=200
    )
    if matrix is None or not _is_background(before, agrees[:, 0] > 0, size_wh, moving):
        return 0.0, 0.0
    middle = np.array([size_wh[0] / 2, size_wh[1] / 2, 1.0])
    x, y = (np.asarray(matrix) @ middle - middle[:2]) / frames
    return float(x), float(y)


def _is_background(
    points: FloatArray, agrees: npt.NDArray[np.bool_], size_wh: tuple[int, int], moving: bool
) -> bool:
    """Whether those who agree are most, and all over the picture."""
    if np.count_nonzero(agrees) < _MIN_SHARE * len(agrees):
        return False
    places = np.asarray(points[agrees] / np.array(size_wh), np.float32)
    min_spread, min_cells = (_MOVING_SPREAD, _MOVING_CELLS) if moving else (_MIN_SPREAD, _MIN_CELLS)
    cells = set(map(tuple, (places * _CELLS).astype(int).tolist()))
    return len(cells) >= min_cells and bool((spread(places, _OUTLIERS) >= min_spread).all())
