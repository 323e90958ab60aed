"""Virtual cameras: which part of the source each tile shows.

A camera has an aim (the face it follows, with a dead zone around it) and three critically damped
springs: horizontal and vertical centre of the crop, and the logarithm of its height. The crop
always has the tile's aspect and is always inside the source, so there is never any padding: if the
source is too narrow or too low for the wanted crop, the crop shrinks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log, log1p

from dualface_client.framing.spring import Spring
from dualface_client.framing.two_shot import TwoShot
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Crop, Person, SeatAssignment, Side, TileLayout

#: Distance to the wanted value, on a logarithmic scale or as a share of the crop, that counts as
#: "arrived" when a camera returns from a wide crop.
_ARRIVED = 0.02


@dataclass(frozen=True, slots=True)
class Shot:
    """What a tile shows in one frame.

    Attributes:
        crop: Part of the source, with the tile's aspect, inside the source.
        seen: The face is there now.
        away: The face has been missing for longer than `FramingSettings.hold_s`, or was never seen
            in this shot.
    """

    crop: Crop
    seen: bool
    away: bool


@dataclass(frozen=True, slots=True)
class _Face:
    """Centre and height of a face box, source pixels."""

    x_px: float
    y_px: float
    height_px: float

    @classmethod
    def of(cls, person: Person) -> _Face | None:
        if person.box_xyxy_px is None:
            return None
        left, top, right, bottom = (float(value) for value in person.box_xyxy_px)
        if not (right > left and bottom > top):
            return None
        return cls((left + right) / 2, (top + bottom) / 2, bottom - top)


class Camera:
    """The camera of one tile.

    Args:
        side: Whose half of the source is shown until somebody is seen.
        tile_wh_px: Width and height of the tile.
        source_wh_px: Width and height of the source.
        settings: How it frames and moves.
    """

    def __init__(
        self,
        side: Side,
        tile_wh_px: tuple[int, int],
        source_wh_px: tuple[int, int],
        settings: FramingSettings,
    ) -> None:
        self._settings = settings
        self._source_w, self._source_h = float(source_wh_px[0]), float(source_wh_px[1])
        self._aspect = tile_wh_px[0] / tile_wh_px[1]
        #: Height of the largest crop of the tile's aspect that fits into the source.
        self._widest_px = min(self._source_h, self._source_w / self._aspect)
        self._closest_px = min(self._widest_px, tile_wh_px[1] / settings.max_upscale)
        self._home_x_px = self._source_w * (0.25 if side is Side.LEFT else 0.75)
        self._x = Spring(self._home_x_px)
        self._y = Spring(self._source_h / 2)
        self._zoom = Spring(log(self._widest_px))
        self._size_log: float | None = None  # the face's smoothed height
        self._aim = (self._home_x_px, self._source_h / 2)
        self._zoom_aim = log(self._widest_px)
        self._time_s: float | None = None
        self._seen_s: float | None = None  # when this shot's face was last seen
        self._shot_s = 0.0
        self._identity = 0
        self._easing = False
        self._widens = settings.missing == "wide"
        self._resting = True
        self._still_since_s = 0.0
        self._still_at = self._aim
        self._go_home()

    @property
    def crop(self) -> Crop:
        """What the tile shows at present."""
        height = min(exp(self._zoom.value), self._widest_px)
        width = height * self._aspect
        # Rounding may leave the crop slightly outside, so it is clamped to the source's edge.
        x_px = min(max(self._x.value - width / 2, 0.0), max(0.0, self._source_w - width))
        y_px = min(max(self._y.value - height / 2, 0.0), max(0.0, self._source_h - height))
        return Crop(x_px, y_px, width, height)

    def update(self, person: Person, time_s: float, scene_cut: bool = False) -> Crop:
        """Moves on to the next frame.

        Args:
            person: Whom the tile shows, and where the face is.
            time_s: Presentation time in seconds, not decreasing.
            scene_cut: True on the first frame of a new shot: the camera jumps.

        Returns:
            The part of the source to show, with the tile's aspect, inside the source.
        """
        dt_s = self._advance(time_s, scene_cut)
        face = _Face.of(person)
        if face is not None:
            self._follow(face, person.identity, time_s, dt_s)
        elif self._seen_s is not None and self._widens and self._is_away(time_s):
            self._widen()
        self._move(dt_s)
        return self.crop

    def shot(self, person: Person, time_s: float) -> Shot:
        """What `update` has just settled for this person and time."""
        return Shot(self.crop, _Face.of(person) is not None, self._is_away(time_s))

    def _is_away(self, time_s: float) -> bool:
        since_s = self._shot_s if self._seen_s is None else self._seen_s
        return time_s - since_s > self._settings.hold_s

    def _advance(self, time_s: float, scene_cut: bool) -> float:
        """Sets the clock; a new shot starts at home. Returns the seconds since the last frame."""
        first = self._time_s is None
        dt_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        if first or scene_cut:
            self._shot_s = time_s
            self._seen_s = None
            self._size_log = None
            self._go_home()
        return dt_s

    def _go_home(self) -> None:
        self._aim = (self._home_x_px, self._source_h / 2)
        self._zoom_aim = log(self._widest_px)
        self._easing = False
        self._jump()

    def _widen(self) -> None:
        """Aims at a wide crop around the last place."""
        self._zoom_aim = log(self._widest_px)
        self._size_log = None
        self._easing = True

    def _follow(self, face: _Face, identity: int, time_s: float, dt_s: float) -> None:
        jump = self._must_jump(face, identity, time_s)
        away = self._seen_s is None or self._size_log is None
        wanted = self._wanted_zoom_log(self._smooth_size(face, jump or away, dt_s))
        if jump or away:
            self._zoom_aim = wanted
        else:
            self._zoom_aim = _drag(self._zoom_aim, wanted, log1p(self._settings.zoom_dead_zone))
        self._seen_s, self._identity = time_s, identity
        if jump:
            self._aim = (face.x_px, face.y_px)
        else:
            self._aim_at(face, time_s, dt_s)
        if jump:
            self._jump()
        self._easing = not jump and (away or self._easing) and not self._arrived()

    def _must_jump(self, face: _Face, identity: int, time_s: float) -> bool:
        if self._seen_s is None:
            return time_s - self._shot_s <= self._settings.jump_window_s
        if identity != self._identity and identity and self._identity:
            return True
        if time_s - self._seen_s > self._settings.hold_s and not self._shows(face):
            return True  # panning from where the person left would show everybody else
        width = exp(self._zoom.value) * self._aspect
        distance = max(abs(face.x_px - self._aim[0]), abs(face.y_px - self._aim[1]))
        return distance > self._settings.jump_distance * width

    def _shows(self, face: _Face) -> bool:
        crop = self.crop
        across = 0 <= face.x_px - crop.x_px <= crop.width_px
        return across and 0 <= face.y_px - crop.y_px <= crop.height_px

    def _smooth_size(self, face: _Face, restart: bool, dt_s: float) -> float:
        size_log = log(max(face.height_px, 1.0))
        if not restart and self._size_log is not None:
            weight = 1.0 - exp(-dt_s / self._settings.size_smoothing_s)
            size_log = self._size_log + weight * (size_log - self._size_log)
        self._size_log = size_log
        return size_log

    def _wanted_zoom_log(self, size_log: float) -> float:
        height = exp(size_log) / self._settings.face_share
        return log(min(max(height, self._closest_px), self._widest_px))

    def _aim_at(self, face: _Face, time_s: float, dt_s: float) -> None:
        """Lets a resting camera rest, and a following one keep up."""
        height = exp(self._zoom_aim)
        away = max(
            abs(face.x_px - self._aim[0]) / (height * self._aspect),
            abs(face.y_px - self._aim[1]) / height,
        )
        if self._resting and away <= self._settings.rest_zone:
            drift = 1.0 - exp(-dt_s / self._settings.recentre_s)
            self._aim = (
                self._aim[0] + drift * (face.x_px - self._aim[0]),
                self._aim[1] + drift * (face.y_px - self._aim[1]),
            )
            return
        if self._resting:
            self._resting, self._still_since_s, self._still_at = False, time_s, self._aim
        slack = self._settings.dead_zone * height
        self._aim = (
            _drag(self._aim[0], face.x_px, slack * self._aspect),
            _drag(self._aim[1], face.y_px, slack),
        )
        moved = max(abs(self._aim[0] - self._still_at[0]), abs(self._aim[1] - self._still_at[1]))
        if moved > slack:
            self._still_since_s, self._still_at = time_s, self._aim
        elif time_s - self._still_since_s >= self._settings.rest_after_s:
            self._resting = True

    def _targets(self, height: float) -> tuple[float, float]:
        """Centre of a crop of this height with the aim in its place, inside the source."""
        width = height * self._aspect
        drop = (0.5 - self._settings.centre_y) * height if self._seen_s is not None else 0.0
        x_px = min(max(self._aim[0], width / 2), self._source_w - width / 2)
        y_px = min(max(self._aim[1] + drop, height / 2), self._source_h - height / 2)
        return x_px, y_px

    def _jump(self) -> None:
        self._resting = True
        self._zoom.jump(self._zoom_aim)
        x_px, y_px = self._targets(exp(self._zoom_aim))
        self._x.jump(x_px)
        self._y.jump(y_px)

    def _move(self, dt_s: float) -> None:
        settings = self._settings
        zoom_rate = settings.ease_rate if self._easing else settings.zoom_rate
        height = exp(self._zoom.step(self._zoom_aim, dt_s, zoom_rate, settings.max_zoom_speed))
        height = min(height, self._widest_px)
        x_px, y_px = self._targets(height)
        rate = settings.ease_rate if self._easing else settings.pan_rate
        self._x.step(x_px, dt_s, rate, settings.max_speed * height * self._aspect)
        self._y.step(y_px, dt_s, rate, settings.max_speed * height)
        self._keep_inside(height)

    def _keep_inside(self, height: float) -> None:
        half = height * self._aspect / 2
        self._x.clamp(min(half, self._source_w / 2), max(self._source_w - half, self._source_w / 2))
        half = height / 2
        self._y.clamp(min(half, self._source_h / 2), max(self._source_h - half, self._source_h / 2))

    def _arrived(self) -> bool:
        height = exp(self._zoom.value)
        x_px, y_px = self._targets(height)
        return (
            abs(self._zoom.value - self._zoom_aim) < _ARRIVED
            and abs(self._x.value - x_px) < _ARRIVED * height
            and abs(self._y.value - y_px) < _ARRIVED * height
        )


class CameraPair:
    """The cameras of both tiles.

    Args:
        layout: Sizes of the canvas and its tiles.
        source_wh_px: Width and height of the source, both positive.
        settings: How the cameras frame and move.
    """

    def __init__(
        self,
        layout: TileLayout,
        source_wh_px: tuple[int, int],
        settings: FramingSettings | None = None,
    ) -> None:
        if min(source_wh_px) < 1:
            raise ValueError(f"source size {source_wh_px}: expected a positive width and height")
        settings = settings or FramingSettings()
        self._left = Camera(Side.LEFT, layout.tile_wh_px, source_wh_px, settings)
        self._right = Camera(Side.RIGHT, layout.tile_wh_px, source_wh_px, settings)
        self._common = Camera(Side.LEFT, layout.tile_wh_px, source_wh_px, settings)
        aspect = layout.tile_wh_px[0] / layout.tile_wh_px[1]
        self._two_shot = (
            TwoShot(settings, aspect, self._common.update) if settings.two_shot else None
        )

    def update(self, assignment: SeatAssignment, time_s: float) -> tuple[Shot, Shot]:
        """What the left and the right tile show in one frame.

        Args:
            assignment: Who sits where.
            time_s: Presentation time in seconds, not decreasing.
        """
        for camera, person in ((self._left, assignment.left), (self._right, assignment.right)):
            camera.update(person, time_s, assignment.scene_cut)
        left = self._left.shot(assignment.left, time_s)
        right = self._right.shot(assignment.right, time_s)
        if self._two_shot is None:
            return left, right
        crops = self._two_shot.update(assignment, (left.crop, right.crop), time_s)
        if self._two_shot.is_on:  # nobody is away from a shot of both
            return Shot(crops[0], left.seen, False), Shot(crops[1], right.seen, False)
        return replace(left, crop=crops[0]), replace(right, crop=crops[1])


def _drag(aim: float, wanted: float, slack: float) -> float:
    """Moves `aim` only as far as needed to be within `slack` of `wanted`."""
    return min(max(aim, wanted - slack), wanted + slack)
