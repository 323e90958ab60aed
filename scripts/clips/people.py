"""The people of a composed clip as layers: two who play their clips, one who is a photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualface_client.errors import AssetError
from dualface_client.types import ByteArray, FloatArray
from scripts.clips.scenarios import DESK_EDGE, Pose
from scripts.clips.sources import (
    PASSER_BY_PHOTO,
    SOURCES,
    Detector,
    FaceBoxes,
    cut_out,
    outline,
    picture_size,
    read_frames,
)

#: A value for x and one for y.
Scale = npt.NDArray[np.float64]
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
#: The lower end of a source's picture lies this far below the desk's edge, share of the height.
BELOW_DESK = 0.02


@dataclass(frozen=True, slots=True)
class Layer:
    """Something opaque or half opaque at a place of the picture.

    Attributes:
        x_px: Left edge.
        y_px: Top edge.
        bgr: Shape `(h, w, 3)`, uint8.
        alpha: Shape `(h, w)`, float32, 0 to 1.
    """

    x_px: int
    y_px: int
    bgr: ByteArray
    alpha: FloatArray

    def blend_onto(self, canvas: ByteArray) -> None:
        """Draws the layer; it lies inside the canvas."""
        height, width = self.alpha.shape
        if not height or not width:
            return
        under = canvas[self.y_px : self.y_px + height, self.x_px : self.x_px + width]
        under[:] = cv2.blendLinear(self.bgr, under, self.alpha, 1 - self.alpha)

    def opacity_in(self, x1: int, y1: int, x2: int, y2: int) -> FloatArray:
        """The layer's alpha over a rectangle of the picture, 0 where it does not reach."""
        out = np.zeros((y2 - y1, x2 - x1), np.float32)
        height, width = self.alpha.shape
        left, top = max(x1, self.x_px), max(y1, self.y_px)
        right, bottom = min(x2, self.x_px + width), min(y2, self.y_px + height)
        if left < right and top < bottom:
            out[top - y1 : bottom - y1, left - x1 : right - x1] = self.alpha[
                top - self.y_px : bottom - self.y_px, left - self.x_px : right - self.x_px
            ]
        return out


@dataclass(frozen=True, slots=True)
class Room:
    """What a person sits in.

    Attributes:
        size_wh: Size of the scene's picture in pixels.
        desk_edge: See `Scene`.
    """

    size_wh: tuple[int, int]
    desk_edge: float = DESK_EDGE


class Actor:
    """One person's source clip, played at the speed of the composed clip.

    Args:
        identity: Key of `SOURCES`.
        clips_dir: Where the source clips lie.
        detector: Finds the source's faces where the cache lacks them.
        start: Frames after the source's first usable one at which this clip starts.
        duration_s: How long it plays; a source that is too short starts over.
    """

    def __init__(
        self, identity: int, clips_dir: Path, detector: Detector, start: int, duration_s: float
    ) -> None:
        self.identity = identity
        self._spec = SOURCES[identity]
        self._path = clips_dir / self._spec.file_name
        needed = int(duration_s * self._spec.frame_rate) + 2
        room = self._spec.end_frame - self._spec.first_frame
        self._count = min(needed, room)
        self._first = self._spec.first_frame + start % max(room - self._count + 1, 1)
        self._boxes = FaceBoxes(self._path, detector).at(self._first, self._count)
        self._reader: Iterator[ByteArray] = iter(())
        self._position = -1
        self._frame: ByteArray = np.zeros((2, 2, 3), np.uint8)
        self._size_wh = picture_size(self._path)
        self._middle_x = float(np.median(self._boxes[:, ::2].mean(axis=1)))
        # The scenario alone decides the size: slow leaning towards the camera is taken out.
        self._face_heights = _moving_mean(
            self._boxes[:, 3] - self._boxes[:, 1], self._spec.frame_rate
        )

    def _frame_at(self, position: int) -> ByteArray:
        if position < self._position or self._position < 0:
            self._reader = read_frames(self._path, self._first, self._count)
            self._position = -1
        while self._position < position:
            self._frame = next(self._reader)
            self._position += 1
        return self._frame

    def layer(self, time_s: float, pose: Pose, room: Room) -> tuple[Layer, FloatArray]:
        """This person at one moment.

        Args:
            time_s: Time in the composed clip; must not run backwards.
            pose: Where to stand.
            room: The scene around.

        Returns:
            The layer, clipped to the picture, and the face box `(4,)` xyxy in the picture.
        """
        position, scale, shift = self._place(time_s, pose, room)
        box = self._boxes[position]
        person, alpha = cut_out(self._frame_at(position), box, self._spec)
        if pose.light != 1:
            person = np.asarray(np.clip(person * pose.light, 0, 255), np.uint8)
        return _placed(person, alpha, scale, shift, room.size_wh), _moved(box, scale, shift)

    def silhouette(self, time_s: float, pose: Pose, room: Room) -> tuple[Layer, FloatArray]:
        """As `layer`, quick and without pixels: head and body are an opaque rectangle."""
        position, scale, shift = self._place(time_s, pose, room)
        box = _moved(self._boxes[position], scale, shift)
        return _block(box, room), box

    def _place(self, time_s: float, pose: Pose, room: Room) -> tuple[int, Scale, Scale]:
        """Frame of the source, and scale and shift from there into the picture."""
        position = int(time_s * self._spec.frame_rate + 1e-6) % self._count
        foot_x, foot_y = self._middle_x, float(self._size_wh[1])
        return position, *_standing(pose, float(self._face_heights[position]), foot_x, foot_y, room)


class Photo:
    """Somebody who does not play: one photo, carried through the picture or hung on the wall.

    Args:
        clips_dir: Where the photo lies.
        detector: Finds the face in it.
        name: The photo's file name.

    Raises:
        AssetError: The photo is missing.
    """

    def __init__(self, clips_dir: Path, detector: Detector, name: str = PASSER_BY_PHOTO) -> None:
        path = clips_dir / name
        if not path.is_file():
            raise AssetError(f"photo {path} is missing: run `make setup`")
        self._bgr = np.asarray(cv2.imread(str(path)), np.uint8)
        self._box = detector.detect(self._bgr).boxes_xyxy_px[0]
        self._alpha = outline(self._bgr.shape[:2], self._box)

    def layer(self, pose: Pose, room: Room) -> tuple[Layer, FloatArray]:
        """This person at one place, as `Actor.layer`."""
        scale, shift = self._place(pose, room)
        layer = _placed(self._bgr, self._alpha, scale, shift, room.size_wh)
        return layer, _moved(self._box, scale, shift)

    def silhouette(self, pose: Pose, room: Room) -> tuple[Layer, FloatArray]:
        """As `layer`, quick and without pixels: head and body are an opaque rectangle."""
        box = _moved(self._box, *self._place(pose, room))
        return _block(box, room), box

    def poster(self, pose: Pose, face_y: float, room: Room) -> tuple[Layer, FloatArray]:
        """The whole photo with the face's centre at a place, as `layer`."""
        left, top, right, bottom = (float(value) for value in self._box)
        scale = np.full(2, pose.height * room.size_wh[1] / (bottom - top))
        centre = np.array([(left + right) / 2, (top + bottom) / 2])
        shift = np.array([pose.x * room.size_wh[0], face_y * room.size_wh[1]]) - scale * centre
        opaque = np.ones(self._bgr.shape[:2], np.float32)
        return _placed(self._bgr, opaque, scale, shift, room.size_wh), _moved(
            self._box, scale, shift
        )

    def _place(self, pose: Pose, room: Room) -> tuple[Scale, Scale]:
        left, top, right, bottom = (float(value) for value in self._box)
        foot_y = float(self._bgr.shape[0])
        return _standing(pose, bottom - top, (left + right) / 2, foot_y, room)


def _standing(
    pose: Pose, face_height_px: float, foot_x: float, foot_y: float, room: Room
) -> tuple[Scale, Scale]:
    """Scale and shift that put a source's lowest point behind the desk, x and y each."""
    width, height = room.size_wh
    scale_y = pose.height * height / face_height_px
    scale = np.array([scale_y * (1 - 0.5 * pose.turn), scale_y])
    foot = np.array([foot_x, foot_y])
    return scale, np.array([pose.x * width, (room.desk_edge + BELOW_DESK) * height]) - scale * foot


def _moved(box_xyxy_px: FloatArray, scale: Scale, shift: Scale) -> FloatArray:
    return (box_xyxy_px * np.tile(scale, 2) + np.tile(shift, 2)).astype(np.float32)


def _block(box_xyxy_px: FloatArray, room: Room) -> Layer:
    """An opaque rectangle for hair, head and body of a face, without pixels."""
    left, top, right, bottom = (float(value) for value in box_xyxy_px)
    low = np.array([left, top - 0.2 * (bottom - top)])
    high = np.array([right, (room.desk_edge + BELOW_DESK) * room.size_wh[1]])
    low = np.clip(np.round(low), 0, room.size_wh).astype(int)
    width, height = (int(v) for v in np.clip(np.round(high) - low, 0, room.size_wh - low))
    return Layer(int(low[0]), int(low[1]), _NO_PIXELS, np.ones((height, width), np.float32))


def _moving_mean(values: FloatArray, reach: int) -> FloatArray:
    """Mean over `reach` neighbours on either side, shape as given."""
    padded = np.pad(values, reach, mode="edge")
    kernel = np.full(2 * reach + 1, 1 / (2 * reach + 1))
    return np.convolve(padded, kernel, mode="valid").astype(np.float32)


def _placed(
    bgr: ByteArray,
    alpha: FloatArray,
    scale: Scale,
    shift: Scale,
    size_wh: tuple[int, int],
) -> Layer:
    """Scales and moves a cut-out, with the part outside the picture left away."""
    source_h, source_w = alpha.shape
    low = np.maximum(np.floor(shift), 0).astype(int)
    high = np.minimum(np.ceil(shift + scale * np.array([source_w, source_h])), size_wh).astype(int)
    width, height = (int(value) for value in np.maximum(high - low, 0))
    if not width or not height:
        return Layer(0, 0, np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.float32))
    # Pixel centres lie at +0.5: an edge at x maps to scale * x + shift.
    offset = shift - low + 0.5 * scale - 0.5
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]], np.float64)
    warped = cv2.warpAffine(
        bgr, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    opacity = cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return Layer(
        int(low[0]),
        int(low[1]),
        np.asarray(warped, np.uint8),
        np.asarray(opacity, np.float32),
    )
