"""Constant-velocity Kalman filter of a box: centre, aspect and height.

The model and its noise are those of DeepSORT and ByteTrack (state `cx, cy, w/h, h` and their
velocities, standard deviations proportional to the height). All its matrices are diagonal in the
four coordinates, so the 8x8 filter splits into independent ones of one coordinate each, and
`cx`, `cy` and `h` share one covariance because their noise is the same. That leaves a handful of
plain floats, which is about thirty times as fast as small NumPy matrices.

Velocities and noise are per reference frame of 1/30 s; steps are real time in these units, so a
variable frame rate needs nothing special. The aspect has no velocity here (DeepSORT gives it one of
standard deviation 1e-5, which never moves it).
"""

from __future__ import annotations

#: Reference frames per second in which ByteTrack's noise is stated.
REFERENCE_FPS = 30.0
_POSITION_WEIGHT = 1 / 20  # standard deviations in heights, as in DeepSORT
_VELOCITY_WEIGHT = 1 / 160
_ASPECT_DRIFT_VAR = 1e-2**2
_ASPECT_NOISE_VAR = 1e-1**2


class BoxFilter:
    """Estimate of one face's box.

    Args:
        box_xyxy_px: First detection, four floats.
    """

    __slots__ = ("_ar", "_p_ar", "_pp", "_pv", "_vv", "cx", "cy", "h", "vh", "vx", "vy")

    def __init__(self, box_xyxy_px: tuple[float, float, float, float]) -> None:
        self.cx, self.cy, self._ar, self.h = _measure(box_xyxy_px)
        self.vx = self.vy = self.vh = 0.0
        self._pp = (2 * _POSITION_WEIGHT * self.h) ** 2
        self._pv = 0.0
        self._vv = (10 * _VELOCITY_WEIGHT * self.h) ** 2
        self._p_ar = _ASPECT_NOISE_VAR

    @property
    def box_xyxy_px(self) -> tuple[float, float, float, float]:
        """The estimated box."""
        return self.ahead(0.0)

    def ahead(self, frames: float) -> tuple[float, float, float, float]:
        """The box that many reference frames from now at constant velocity, same size."""
        cx, cy = self.cx + self.vx * frames, self.cy + self.vy * frames
        half_w, half_h = self._ar * self.h / 2, self.h / 2
        return cx - half_w, cy - half_h, cx + half_w, cy + half_h

    def predict(self, frames: float, lost: bool) -> None:
        """Moves on in time.

        Args:
            frames: Elapsed time in reference frames, not negative.
            lost: True if the last frame had no detection: the size then does not change, as in
                ByteTrack, because a shrinking or growing ghost matches nothing.
        """
        if lost:
            self.vh = 0.0
        self.cx += self.vx * frames
        self.cy += self.vy * frames
        self.h = max(self.h + self.vh * frames, 1.0)
        drift = frames * (_POSITION_WEIGHT * self.h) ** 2
        self._pp += frames * (2 * self._pv + frames * self._vv) + drift
        self._pv += frames * self._vv
        self._vv += frames * (_VELOCITY_WEIGHT * self.h) ** 2
        self._p_ar += frames * _ASPECT_DRIFT_VAR

    def update(self, box_xyxy_px: tuple[float, float, float, float]) -> None:
        """Adds a detection."""
        cx, cy, aspect, height = _measure(box_xyxy_px)
        spread = self._pp + (_POSITION_WEIGHT * self.h) ** 2
        gain, gain_v = self._pp / spread, self._pv / spread
        dx, dy, dh = cx - self.cx, cy - self.cy, height - self.h
        self.cx += gain * dx
        self.cy += gain * dy
        self.h = max(self.h + gain * dh, 1.0)
        self.vx += gain_v * dx
        self.vy += gain_v * dy
        self.vh += gain_v * dh
        self._vv -= gain_v * self._pv
        self._pv -= gain * self._pv
        self._pp -= gain * self._pp
        gain = self._p_ar / (self._p_ar + _ASPECT_NOISE_VAR)
        self._ar += gain * (aspect - self._ar)
        self._p_ar -= gain * self._p_ar


def _measure(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Centre x, centre y, width / height and height; sizes of at least 1 px."""
    left, top, right, bottom = box
    height = max(bottom - top, 1.0)
    return (left + right) / 2, (top + bottom) / 2, max(right - left, 1.0) / height, height
