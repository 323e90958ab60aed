"""Two-shot: while both faces touch, both tiles glide to one common shot.

The tiles' own cameras continue as before. A third camera frames both faces together, and a
critically damped blend from 0 to 1 moves both tiles from their own crops to its crop and back.
Blending crops of one aspect inside the source gives crops of that aspect inside the source.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dualface_client.framing.spring import Spring
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Crop, FloatArray, Person, SeatAssignment

#: Gap between two face boxes, in mean face widths, up to which they touch, and from which they are
#: apart again. Boxes end at the ears: heads that touch leave about a quarter of a width.
_TOUCH_GAP, _APART_GAP = 0.25, 0.6
_MAX_SPEED = 2.0
#: Below this the blend counts as 0: exactly the tiles' own crops.
_NOTHING = 1e-3
#: Largest share of the common crop's width that both faces take.
_FACES_SHARE = 0.7


class TwoShot:
    """When both tiles show the common shot, and how much of it.

    Args:
        settings: `two_shot_after_s`, `two_shot_release_s`, `hold_s`, `ease_rate`, `face_share`.
        aspect: Width over height of a tile.
        frame_both: Camera of the common shot: takes both faces as one person, the time and whether
            it must jump there, and returns its crop.
    """

    def __init__(
        self,
        settings: FramingSettings,
        aspect: float,
        frame_both: Callable[[Person, float, bool], Crop],
    ) -> None:
        self._settings = settings
        self._aspect = aspect
        self._frame_both = frame_both
        self._blend = Spring(0.0)
        self._time_s: float | None = None
        self._agreed_s = 0.0  # since when the faces have been in this state
        self._on = False

    @property
    def is_on(self) -> bool:
        """Whether the tiles are at the common shot or on their way there."""
        return self._on

    def update(
        self, assignment: SeatAssignment, crops: tuple[Crop, Crop], time_s: float
    ) -> tuple[Crop, Crop]:
        """What the tiles show.

        Args:
            assignment: Who sits where.
            crops: What the tiles' own cameras would show.
            time_s: Presentation time in seconds, not decreasing.
        """
        dt_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        if assignment.scene_cut:
            self._on, self._agreed_s = False, time_s
            self._blend.jump(0.0)
        was_away = self._blend.value < _NOTHING
        self._decide(assignment, time_s)
        share = self._blend.step(float(self._on), dt_s, self._settings.ease_rate, _MAX_SPEED)
        if share < _NOTHING and not self._on:
            self._blend.jump(0.0)
            return crops
        common = self._frame_both(self._both(assignment), time_s, was_away)
        return _between(crops[0], common, share), _between(crops[1], common, share)

    def _decide(self, assignment: SeatAssignment, time_s: float) -> None:
        """Turns on after touching for long enough, and off after being apart for long enough."""
        gap = _gap(assignment.left.box_xyxy_px, assignment.right.box_xyxy_px)
        settings = self._settings
        if self._on:
            # One face behind the other is not apart, but somebody who has left is.
            agrees = gap is not None and gap < _APART_GAP
            patience_s = settings.two_shot_release_s
            if gap is None:
                patience_s = max(patience_s, settings.hold_s)
        else:
            agrees = gap is None or gap > _TOUCH_GAP
            patience_s = settings.two_shot_after_s
        if agrees:
            self._agreed_s = time_s
        elif time_s - self._agreed_s >= patience_s:
            self._on, self._agreed_s = not self._on, time_s

    def _both(self, assignment: SeatAssignment) -> Person:
        """Both faces as one, tall enough for a crop with room for both widths."""
        people = (assignment.left, assignment.right)
        boxes = [person.box_xyxy_px for person in people if person.box_xyxy_px is not None]
        if len(boxes) < len(people):
            return Person(1)  # the camera keeps its crop
        low, high = np.minimum(*boxes)[:2], np.maximum(*boxes)[2:]
        middle = (low + high) / 2
        for_width = float(high[0] - low[0]) / _FACES_SHARE / self._aspect
        height = max(float(high[1] - low[1]), for_width * self._settings.face_share)
        half = np.array([(high[0] - low[0]) / 2, height / 2], np.float32)
        box: FloatArray = np.concatenate([middle - half, middle + half]).astype(np.float32)
        return Person(1, box, 1.0)


def _gap(one: FloatArray | None, other: FloatArray | None) -> float | None:
    """Distance of two boxes in mean widths, 0 if they overlap; None if one is missing."""
    if one is None or other is None:
        return None
    across = max(float(one[0] - other[2]), float(other[0] - one[2]), 0.0)
    down = max(float(one[1] - other[3]), float(other[1] - one[3]), 0.0)
    width = float(one[2] - one[0] + other[2] - other[0]) / 2
    return max(across, down) / max(width, 1.0)


def _between(own: Crop, common: Crop, share: float) -> Crop:
    pairs = zip(
        (own.x_px, own.y_px, own.width_px, own.height_px),
        (common.x_px, common.y_px, common.width_px, common.height_px),
        strict=True,
    )
    return Crop(*(first + share * (second - first) for first, second in pairs))
