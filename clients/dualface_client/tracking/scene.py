"""Scene cuts, from tiny luma thumbnails."""

from __future__ import annotations

from math import exp

import numpy as np

from dualface_client.settings.tracking import SceneSettings
from dualface_client.types import ByteArray, FloatArray

#: Share of pixels that must change in the same direction for a change to be one of light.
_ONE_WAY_SHARE = 0.9
#: Grey levels within which a row or column at the edge counts as plain, and as unchanged.
_PLAIN = 3.0
#: Difference in grey levels that noise alone can cause: no cut below it, however dark the picture.
_NOISE = 2.0
#: Pixels of a thumbnail that must remain between plain borders to judge a cut.
_LEAST_PIXELS = 24


class CutDetector:
    """Finds the first frame of a new shot; state of one stream.

    A cut differs strongly from the frame before, much more than the frames before that did among
    themselves, and does not correlate with it. Plain borders that stay as they are, such as the
    bars of a letterboxed or upright video, are left out: they would make any two shots alike. What
    counts as strong depends on the contrast, so that cuts between dark shots are found. The mean
    brightness is subtracted first, so that a dimmer or a lamp is not a cut. A frame that is
    brighter (or darker) nearly everywhere may be a flash or a dropped frame: it is set aside, and
    the next frame is compared with the one before it. A real cut to a much brighter shot is
    therefore seen one frame late.

    Args:
        settings: Thresholds.
    """

    def __init__(self, settings: SceneSettings | None = None) -> None:
        self._settings = settings or SceneSettings()
        self._reference: FloatArray | None = None
        self._usual = 0.0  # running mean of the differences within the shot
        self._waiting = False
        self._time_s = 0.0

    def update(self, thumbnail: ByteArray, time_s: float) -> bool:
        """Takes the next frame.

        Args:
            thumbnail: Shape `(h, w)`, uint8 luma, the same shape for the whole stream.
            time_s: Presentation time in seconds, not decreasing.

        Returns:
            True if a new shot has begun.
        """
        current = thumbnail.astype(np.float32)
        elapsed_s, self._time_s = max(0.0, time_s - self._time_s), time_s
        if self._reference is None:
            self._reference = current
            return False
        change = current - self._reference
        difference = float(np.abs(change - change.mean()).mean())
        if difference >= self._settings.min_ratio * self._usual:
            before, now = _without_borders(self._reference, current)
            if self._is_cut(before, now):
                if not self._waiting and self._is_light(now - before):
                    self._waiting = True
                    return False
                self._begin(current)
                return True
        self._remember(current, difference, elapsed_s)
        return False

    def _is_cut(self, before: FloatArray, now: FloatArray) -> bool:
        if now.size < _LEAST_PIXELS:
            return False
        settings = self._settings
        change = now - before
        contrast = float(np.sqrt(before.std() * now.std()))
        strong = min(settings.min_difference, settings.min_contrast_share * contrast)
        if float(np.abs(change - change.mean()).mean()) < max(strong, _NOISE):
            return False
        return _correlation(before, now) < settings.max_correlation

    def _is_light(self, change: FloatArray) -> bool:
        step = float(change.mean())
        if abs(step) < self._settings.flash_step:
            return False
        same_way = change > 0 if step > 0 else change < 0
        return float(same_way.mean()) >= _ONE_WAY_SHARE

    def _begin(self, current: FloatArray) -> None:
        self._reference, self._usual, self._waiting = current, 0.0, False

    def _remember(self, current: FloatArray, difference: float, elapsed_s: float) -> None:
        weight = 1.0 - exp(-elapsed_s / self._settings.memory_s)
        self._usual += weight * (difference - self._usual)
        self._reference, self._waiting = current, False


def _without_borders(before: FloatArray, now: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both pictures without the plain rows and columns at their edges that did not change."""
    both = np.stack([before, now])
    for axis in (2, 1):  # plain rows, then plain columns
        kept = np.flatnonzero(both.max(axis=(0, axis)) - both.min(axis=(0, axis)) > _PLAIN)
        if not kept.size:
            return before[:0], now[:0]
        part = slice(int(kept[0]), int(kept[-1]) + 1)
        both = both[:, part] if axis == 2 else both[:, :, part]
    return both[0], both[1]


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's correlation of two pictures; 0 if one is flat."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0
