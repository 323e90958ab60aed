"""Scene cuts, from small colour thumbnails, by the rule that video encoders go by.

An encoder codes each block of a frame either from the frame before, moved to where it fits best
(inter), or from itself alone (intra), whichever is cheaper. After a cut the frame before is of
no use, so most blocks are as expensive as they would be by themselves. x264 therefore announces a
scene cut where the cheaper of both costs nearly as much as intra alone (`scenecut_internal` in its
`encoder/slicetype.c`). Here the same is computed on thumbnails, with sums of absolute differences:
intra is a block's difference to its own mean, inter is the best match of a search. Motion that the
search can follow costs little, so hair, hands and pans are no cuts, and contrast cancels out.
Where nearly the whole picture has become brighter or darker, the frame before is also tried with
the light of each block fitted, as encoders do with weighted prediction: a flash is no cut.
Where the frame before could hardly be explained either, the picture moves faster than the search
follows (hair, dancers, a hand before the lens): then more is asked of a cut, as adaptive detectors
do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf

import cv2
import numpy as np
import numpy.typing as npt

from dualface_client.settings.tracking import SceneSettings
from dualface_client.types import ByteArray, FloatArray

#: Height and width of a block; thumbnails of `(36, 64)` have 6 x 8 of them.
_BLOCK_HW_PX = (6, 8)
_BLOCK_PX = _BLOCK_HW_PX[0] * _BLOCK_HW_PX[1]
_SUM_OF_BLOCK = np.full((1, 3), _BLOCK_PX, np.float32)
#: How far a block is searched for, down and across: 11 % and 9 % of the picture per frame.
_REACH_YX_PX = (4, 6)
#: Grey levels within which a row or column at the edge counts as plain, and as unchanged.
_BORDER_LEVELS = 3.0
#: Blocks between plain borders that are needed to judge a cut.
_LEAST_BLOCKS = 4
#: Contrast is fitted up to this factor, as far as H.264's weights reach for a fade in few frames.
_MOST_GAIN = 4.0
#: A change of light is seen in at least this share of the blocks, as a step of their mean luma.
_LIGHT_SHARE = 0.5
_LIGHT_LEVELS = 2.0
#: At most this share of the blocks may step the other way.
_AGAINST_LIGHT_SHARE = 0.05
#: By how much more of a picture has to be new than of the frame before, and what is enough whatever
#: that was. On the clips of `benchmarks/cuts.py`, cuts lie above 0.38 and motion below 0.32.
_NEWER_BY = 0.3
_ALL_NEW = 0.9
#: Share of the difference between its neighbours that a blend of both may differ from their mix.
_BLEND_ERROR = 0.2


class CutDetector:
    """Finds the first frame of a new shot; state of one stream.

    Each frame is compared with the two before it, so that the frame after a flash or a damaged
    picture is recognised. If they do not explain it, the frame before is compared with the two
    before that: where it was as new, this is fast motion. Plain frames (black, white, mere noise)
    belong to no shot: what follows them is compared with what preceded them. If the frame before is
    a mere mixture of its neighbours, as conversions of the frame rate make them, only the one
    before that is compared with. Plain borders that stay as they are, such as the bars of an
    upright video, are left out: they would make any two shots alike.

    Args:
        settings: Thresholds.
    """

    def __init__(self, settings: SceneSettings | None = None) -> None:
        self._settings = settings or SceneSettings()
        self._earlier: deque[FloatArray] = deque(maxlen=3)  # newest first
        self._cut_s = -inf
        #: Whether the last frame had too little detail to belong to a shot.
        self.is_plain = False

    def update(self, thumbnail: ByteArray, time_s: float) -> bool:
        """Takes the next frame.

        Args:
            thumbnail: Shape `(h, w, 3)`, uint8 Y, Cb, Cr, the same shape for the whole stream, a
                whole number of blocks of 6 x 8 pixels.
            time_s: Presentation time in seconds, not decreasing.

        Returns:
            True if a new shot has begun.
        """
        current = thumbnail.astype(np.float32)
        detail = _detail(current)
        self.is_plain = _is_plain(current, detail, self._settings.min_detail)
        if self.is_plain:
            return False
        cut = time_s - self._cut_s >= self._settings.min_shot_s and self._is_new(current, detail)
        if cut:
            self._cut_s = time_s
            self._earlier.clear()
        self._earlier.appendleft(current)
        return cut

    def _is_new(self, current: FloatArray, detail: FloatArray) -> bool:
        if not self._earlier:
            return False
        earlier = list(self._earlier)
        if _may_have_borders(current, earlier[0]):
            inner = _inside_borders(current, earlier[0])
            current, earlier = current[inner], [frame[inner] for frame in earlier]
            if current[..., 0].size < _LEAST_BLOCKS * _BLOCK_PX:
                return False
            detail = _detail(current)  # in blocks that begin elsewhere
        least = self._settings.min_new_share
        share = _new_share(current, detail, earlier[:2], least)
        if share < least:
            return len(earlier) > 1 and (
                _is_blend(earlier[0], earlier[1], current)
                and _new_share(current, detail, earlier[1:2], least) >= least
            )
        if share >= _ALL_NEW or len(earlier) == 1:
            return True
        most = share - _NEWER_BY
        return _new_share(earlier[0], _detail(earlier[0]), earlier[1:], most) < most


def _new_share(
    current: FloatArray, detail: FloatArray, earlier: Sequence[FloatArray], least: float
) -> float:
    """The share of a picture's detail that earlier frames, moved and lit otherwise, do not explain.

    Args:
        current: Shape `(h, w, 3)`.
        detail: Its detail, of the same shape.
        earlier: One or two frames of the same shape, the newest first.
        least: Once the share is below this, its exact value does not matter.
    """
    cost = _blockwise(detail)
    whole = max(float(cost.sum()), 1.0)
    for prediction in _predictions(current, earlier):
        cost = np.minimum(cost, _blockwise(_apart(current, prediction)))
        if cost.sum() < least * whole:
            break  # soon in most frames: what moves little is tried first
    return float(cost.sum()) / whole


def _predictions(current: FloatArray, earlier: Sequence[FloatArray]) -> Iterable[FloatArray]:
    """The earlier frames: as they are, lit otherwise, then moved, by the shortest way first."""
    down, across = _REACH_YX_PX
    height, width = current.shape[:2]
    yield earlier[0]
    yield from (_lit_like(current, frame) for frame in earlier if _is_light(current, frame))
    margins = ((down, down), (across, across), (0, 0))
    padded = [np.pad(frame, margins, mode="edge") for frame in earlier]
    for y, x in _STEPS_YX_PX:
        for frame in padded:
            yield frame[y : y + height, x : x + width]


def _search_steps() -> list[tuple[int, int]]:
    """Top left corners in a padded frame, from no motion to the longest."""
    down, across = _REACH_YX_PX
    steps = [(y, x) for y in range(2 * down + 1) for x in range(2 * across + 1)]
    return sorted(steps, key=lambda step: (step[0] - down) ** 2 + (step[1] - across) ** 2)


_STEPS_YX_PX = _search_steps()


def _blockwise(values: FloatArray) -> FloatArray:
    """Sums over the blocks of `(h, w, 3)`."""
    return np.asarray(cv2.transform(_means(values), _SUM_OF_BLOCK), np.float32)


def _detail(picture: FloatArray) -> FloatArray:
    """Absolute differences to the mean of each block, `(h, w, 3)`."""
    return _apart(picture, _spread(_means(picture)))


def _is_plain(picture: FloatArray, detail: FloatArray, limit: float) -> bool:
    """Whether a picture has less detail than the limit, or would have without its noise."""
    found = float(detail.sum()) / picture[..., 0].size
    if not limit <= found < 2 * limit:
        return found < limit
    # Means of 2 x 2 samples halve noise, and little else.
    calm = _spread(_means(picture, (2, 2)), (2, 2))
    return bool(_detail(calm).sum() < limit * picture[..., 0].size)


def _apart(one: FloatArray, other: FloatArray) -> FloatArray:
    """Absolute differences. OpenCV's calls on so small pictures take a third of NumPy's time."""
    return np.asarray(cv2.absdiff(one, other), np.float32)


def _means(picture: FloatArray, block_hw_px: tuple[int, int] = _BLOCK_HW_PX) -> FloatArray:
    """Means of the blocks of `(h, w, 3)`, for each channel."""
    height, width = picture.shape[:2]
    blocks_wh = width // block_hw_px[1], height // block_hw_px[0]
    return np.asarray(cv2.resize(picture, blocks_wh, interpolation=cv2.INTER_AREA), np.float32)


def _spread(means: FloatArray, block_hw_px: tuple[int, int] = _BLOCK_HW_PX) -> FloatArray:
    """A picture whose blocks have these values."""
    rows, columns = means.shape[:2]
    wh_px = columns * block_hw_px[1], rows * block_hw_px[0]
    return np.asarray(cv2.resize(means, wh_px, interpolation=cv2.INTER_NEAREST), np.float32)


def _is_light(current: FloatArray, earlier: FloatArray) -> bool:
    """Whether most blocks have become brighter, or most have become darker, and few the other."""
    step = (_means(current) - _means(earlier))[..., 0].ravel()
    up, down = float((step > _LIGHT_LEVELS).mean()), float((step < -_LIGHT_LEVELS).mean())
    return max(up, down) >= _LIGHT_SHARE and min(up, down) <= _AGAINST_LIGHT_SHARE


def _lit_like(current: FloatArray, earlier: FloatArray) -> FloatArray:
    """The earlier frame, unmoved, with each block's means and contrast taken from the current."""
    now, before = _spread(_means(current)), _spread(_means(earlier))
    spread, spread_before = (_means(_apart(*pair)) for pair in ((current, now), (earlier, before)))
    gain = np.clip(spread / np.maximum(spread_before, 0.25), 1 / _MOST_GAIN, _MOST_GAIN)
    return np.asarray((earlier - before) * _spread(gain.astype(np.float32)) + now, np.float32)


def _is_blend(middle: FloatArray, before: FloatArray, after: FloatArray) -> bool:
    """Whether a frame is a mixture of its neighbours, with at least a tenth of each."""
    step, half = (after - before).ravel(), (middle - before).ravel()
    size = float(step @ step)
    if size == 0:
        return False
    share = float(half @ step) / size
    if not 0.1 <= share <= 0.9:
        return False
    error = float(np.abs(half - share * step).sum())
    return error <= _BLEND_ERROR * float(np.abs(step).sum())


def _may_have_borders(current: FloatArray, earlier: FloatArray) -> bool:
    """Whether an outermost row or column is plain and did not change; seldom true, soon known."""
    lumas = current[..., 0], earlier[..., 0]
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        if not _differ(np.concatenate([luma[edge] for luma in lumas]), axis=0):
            return True
    return False


def _differ(luma: FloatArray, axis: int | tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether samples along an axis are more than plain and unchanged."""
    return np.asarray(luma.max(axis=axis) - luma.min(axis=axis) > _BORDER_LEVELS)


def _inside_borders(current: FloatArray, earlier: FloatArray) -> tuple[slice, slice]:
    """Rows and columns without the plain ones at the edges that did not change, whole blocks."""
    both = np.stack([current[..., 0], earlier[..., 0]])
    parts = []
    for axis, block in zip((2, 1), _BLOCK_HW_PX, strict=True):
        kept = np.flatnonzero(_differ(both, axis=(0, axis)))
        first, last = (int(kept[0]), int(kept[-1]) + 1) if kept.size else (0, 0)
        spare = (last - first) % block
        parts.append(slice(first + spare // 2, last - (spare + 1) // 2))
    return parts[0], parts[1]
