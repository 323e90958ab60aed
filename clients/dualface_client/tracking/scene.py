"""Scene cuts, from tiny luma thumbnails."""

from __future__ import annotations

from math import exp

import numpy as np

from dualface_client.settings.tracking import SceneSettings
from dualface_client.types import ByteArray, FloatArray

#: Share of pixels that must change in one direction for a change to be a matter of light.
_ONE_WAY_SHARE = 0.9


class CutDetector:
    """Finds the first frame of a new shot; state of one stream.

    A cut differs strongly from the frame before, much more than the frames before that did among
    themselves, and does not correlate with it. The mean brightness is taken out first, so that a
    dimmer or a lamp is no cut. A frame that is brighter (or darker) nearly everywhere may be a
    flash or a dropped frame: it is set aside, and the next frame is compared with the one before
    it. A real cut to a much brighter shot is therefore seen one frame late.

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
            True where a new shot has begun.
        """
        current = thumbnail.astype(np.float32)
        elapsed_s, self._time_s = max(0.0, time_s - self._time_s), time_s
        if self._reference is None:
            self._reference = current
            return False
        change = current - self._reference
        step = float(change.mean())
        difference = float(np.abs(change - step).mean())
        if self._is_cut(current, difference):
            if not self._waiting and self._is_light(change, step):
                self._waiting = True
                return False
            self._begin(current)
            return True
        self._remember(current, difference, elapsed_s)
        return False

    def _is_cut(self, current: FloatArray, difference: float) -> bool:
        settings = self._settings
        floor = max(settings.min_difference, settings.min_ratio * self._usual)
        if difference < floor or self._reference is None:
            return False
        return _correlation(current, self._reference) < settings.max_correlation

    def _is_light(self, change: FloatArray, step: float) -> bool:
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


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's correlation of two pictures; 0 where one is flat."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0
