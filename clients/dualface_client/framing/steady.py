"""How far the picture is shaken out of the path of its camera.

The motions from frame to frame add up to the camera's path. A weighted line fitted to the path
around a frame is where a steady camera would have had the picture: pans and drifts, which are lines
over a second, are in it, and shake is what is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from dualface_client.types import FloatArray

#: How far the path is looked at to each side; frames that wait may reach less far.
_REACH_S = 0.6
#: Standard deviation of the weights: shake of 1 Hz and more is taken out, slower motion passes.
_SIGMA_S = 0.22
#: Largest offset, as a share of the frame's width and height.
_LIMIT = 0.05
#: Time constant with which a sway is forgotten.
_SWAY_MEMORY_S = 3.0


#: X to the right and y down, source pixels.
Offset = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shake:
    """How the picture is shaken in one frame, source pixels.

    Attributes:
        now: Offset of the frame's content from where a steady camera would show it: subtract it
            from places of faces, add it to the crop.
        lead: The same of the frame that the cameras aim at.
        sway: How far it lies beside its course at most, x and y: a crop that stays this far inside
            the picture can be held steady.
    """

    now: Offset = (0.0, 0.0)
    lead: Offset = (0.0, 0.0)
    sway: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Moved:
    """How the picture moved up to one frame.

    Attributes:
        time_s: Presentation time of the frame.
        motion_xy_px: Since the frame before, source pixels.
        scene_cut: The frame is the first of a shot.
    """

    time_s: float
    motion_xy_px: tuple[float, float]
    scene_cut: bool = False


class Steadier:
    """Follows the camera's path and says how far each frame lies beside its smooth course.

    Args:
        source_wh_px: Width and height of the source.
    """

    def __init__(self, source_wh_px: tuple[int, int]) -> None:
        self._limit_px = _LIMIT * np.array(source_wh_px, np.float64)
        # Time and place on the path of this shot's recent frames, up to the present one.
        self._past: deque[tuple[float, float, float]] = deque()
        self._sway = np.zeros(2)

    def update(self, window: Sequence[Moved], lead: int = 0) -> Shake:
        """Moves on to the window's first frame.

        Args:
            window: The frame and those that follow it, in order; at least one. Each call's first
                frame follows the first one of the call before.
            lead: Row of the window's frame that the cameras aim at, of the same shot.
        """
        now = window[0]
        if now.scene_cut or not self._past:
            self._past.clear()
            self._past.append((now.time_s, 0.0, 0.0))
            self._sway = np.zeros(2)
        else:
            _, x_px, y_px = self._past[-1]
            x_px, y_px = x_px + now.motion_xy_px[0], y_px + now.motion_xy_px[1]
            self._sway *= exp((self._past[-1][0] - now.time_s) / _SWAY_MEMORY_S)
            self._past.append((now.time_s, x_px, y_px))
        while now.time_s - self._past[0][0] > _REACH_S:
            self._past.popleft()
        if not any(each.motion_xy_px != (0.0, 0.0) for each in window) and self._is_still():
            return Shake(sway=(float(self._sway[0]), float(self._sway[1])))
        path = np.array([*self._past, *_ahead(self._past[-1], window)])
        return self._shake(path, len(self._past) - 1, lead)

    def _is_still(self) -> bool:
        """Whether the picture has not moved in the part of the path that is looked at."""
        first = self._past[0][1:]
        return all(place[1:] == first for place in self._past)

    def _shake(self, path: FloatArray, row: int, lead: int) -> Shake:
        """At a row of a path, shape `(n, 3)`: time in s, x and y in pixels."""
        offsets = path[:, 1:] - _lines(path)
        offsets = np.clip(offsets, -self._limit_px, self._limit_px)
        # The ends of the path, where the line is a guess, say little about how far it sways.
        self._sway = np.maximum(self._sway, np.abs(offsets[row:]).max(axis=0))
        now, then = offsets[row], offsets[min(row + lead, len(path) - 1)]
        return Shake(
            (float(now[0]), float(now[1])),
            (float(then[0]), float(then[1])),
            (float(self._sway[0]), float(self._sway[1])),
        )


def _ahead(
    now: tuple[float, float, float], window: Sequence[Moved]
) -> list[tuple[float, float, float]]:
    """The path after the window's first frame, up to the end of the shot."""
    found = []
    start_s, x_px, y_px = now
    for later in window[1:]:
        if later.scene_cut or later.time_s - start_s > _REACH_S:
            break
        x_px, y_px = x_px + later.motion_xy_px[0], y_px + later.motion_xy_px[1]
        found.append((later.time_s, x_px, y_px))
    return found


def _lines(path: FloatArray) -> FloatArray:
    """For each row of a path the value, there, of the line that fits best around it: x and y."""
    times = path[None, :, 0] - path[:, None, 0]
    weights = np.exp(-0.5 * (times / _SIGMA_S) ** 2)
    total, first, second = ((weights * times**k).sum(axis=1, keepdims=True) for k in range(3))
    spread = total * second - first * first
    if float(spread.min()) < 1e-9:  # one frame, or all at one time
        return path[:, 1:]
    shares = weights * (second - first * times) / spread
    return np.asarray(shares @ path[:, 1:])
