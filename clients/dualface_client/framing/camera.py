"""A virtual camera: which part of the source one tile shows.

A camera has an aim (the face it follows, with a dead zone around it) and critically damped springs:
horizontal and vertical centre of the crop, and the logarithms of its height and of its shape. The
crop is always inside its room (`framing.room`), so a bar or a border is never shown: if the room is
too narrow or too low for the wanted crop, the crop shrinks. It keeps clear of other faces: it
shifts, and where that is not enough it tightens.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, log1p

from dualface_client.framing.aim import Aim, drag
from dualface_client.framing.room import TIGHTER, Surroundings, place, shows_part
from dualface_client.framing.spring import Spring
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Box, Crop, Person

#: Distance to the wanted value, on a logarithmic scale or as a share of the crop, that counts as
#: "arrived" when a camera returns from a wide crop.
_ARRIVED = 0.02
#: Space that the crop keeps from another face, in that face's widths: where it is aimed, and where
#: it is moved at once. The first is larger, so that a resting camera does not tremble with the
#: other face's box.
_AIMED_MARGIN, _LEAST_MARGIN = 0.14, 0.06
#: A camera that had to tighten for another face opens again after this long without need.
_OPEN_AFTER_S = 1.0
#: A target that other faces push moves only by more than this share of the crop's width.
_PUSH_SLACK = 0.01
#: Steps by which a crop tightens at once if another face would be cut by it, down to this share of
#: itself without a face of its own.
_SQUEEZE, _LEAST_EMPTY = 0.96, 0.35
#: No tile tightens for others further than to this share of its face in its height; the one
#: picture of whoever is alone may become a close-up.
TIGHTEST_TILE, TIGHTEST_PICTURE = 0.46, 0.66


@dataclass(frozen=True, slots=True)
class _Face:
    """Centre and height of a face box, source pixels."""

    x_px: float
    y_px: float
    height_px: float
    box: Box

    @classmethod
    def of(cls, person: Person) -> _Face | None:
        if person.box_xyxy_px is None:
            return None
        left, top, right, bottom = (float(value) for value in person.box_xyxy_px)
        if not (right > left and bottom > top):
            return None
        return cls((left + right) / 2, (top + bottom) / 2, bottom - top, (left, top, right, bottom))


class Camera:
    """The camera of one tile, or of the whole canvas.

    Args:
        home_share: Where it looks until somebody is seen, as a share of the room's width.
        area_wh_px: Width and height of the rectangle of the canvas that it fills.
        source_wh_px: Width and height of the source, both positive.
        settings: How it frames and moves.
        tightest_share: Largest share of the area's height to which its face may grow so that other
            faces stay out.
    """

    def __init__(
        self,
        home_share: float,
        area_wh_px: tuple[int, int],
        source_wh_px: tuple[int, int],
        settings: FramingSettings,
        tightest_share: float = TIGHTEST_TILE,
    ) -> None:
        self._settings = settings
        self._tightest_share = tightest_share
        source_w, source_h = float(source_wh_px[0]), float(source_wh_px[1])
        self._around = Surroundings((0.0, 0.0, source_w, source_h))
        self._aspect = area_wh_px[0] / area_wh_px[1]
        self._closest_px = area_wh_px[1] / settings.max_upscale
        self._home_share = home_share
        self._x = Spring(0.0)
        self._y = Spring(0.0)
        self._zoom = Spring(0.0)  # logarithm of the crop's height
        self._shape = Spring(0.0)  # logarithm of its aspect over the area's
        self._size_log: float | None = None  # the face's smoothed height
        self._share = settings.face_share
        self._aim = Aim(settings)
        self._zoom_aim = self._shape_aim = 0.0
        self._time_s: float | None = None
        self._seen_s: float | None = None  # when this shot's face was last seen
        self._shot_s = 0.0
        self._identity = 0
        self._face: _Face | None = None  # this frame's, or None
        self._whole = False
        self._widens = settings.alone == "tile" and settings.missing == "wide"
        self._easing = False
        self._tighter = 1.0
        self._tight_s = 0.0
        self._pushed: tuple[float, float] | None = None
        #: Whether the last crop shows part of another face that it could not keep clear of.
        self.is_crowded = False
        self._go_home()

    @property
    def crop(self) -> Crop:
        """What the tile shows at present."""
        width, height = self._size()
        left, top, right, bottom = self._around.room_xyxy_px
        # Rounding may leave the crop slightly outside, so it is clamped to the room's edge.
        x_px = min(max(self._x.value - width / 2, left), max(left, right - width))
        y_px = min(max(self._y.value - height / 2, top), max(top, bottom - height))
        return Crop(x_px, y_px, width, height)

    @property
    def face_share(self) -> float:
        """Height of the face as a share of the tile's once the zoom has settled; 0 if unknown."""
        if self._size_log is None or self._whole:
            return 0.0
        width, height = self._aimed_size()
        return exp(self._size_log) * min(self._aspect / width, 1.0 / height)

    def update(
        self,
        person: Person,
        time_s: float,
        scene_cut: bool = False,
        around: Surroundings | None = None,
        share: float | None = None,
    ) -> Crop:
        """Moves on to the next frame.

        Args:
            person: Whom the tile shows, and where the face is.
            time_s: Presentation time in seconds, not decreasing.
            scene_cut: True on the first frame of a new shot, or on the canvas: the camera jumps.
            around: Room and other faces; the last room and nobody if not given.
            share: Height of the face as a share of the tile's; as set if not given.

        Returns:
            The part of the source to show, inside the room.
        """
        self._around = around or Surroundings(self._around.room_xyxy_px)
        self._share = share or self._settings.face_share
        self._whole = False
        dt_s = self._advance(time_s, scene_cut)
        self._face = _Face.of(person)
        if self._face is not None:
            self._follow(self._face, person.identity, time_s, dt_s)
        elif self._seen_s is None:
            self._go_home()
        elif self._widens and self.is_away(time_s):
            self._widen()
        self._move(dt_s)
        return self.crop

    def show_all(self, time_s: float, scene_cut: bool, room: Box) -> Crop:
        """Moves on towards the whole room, whatever its shape.

        Args:
            time_s: Presentation time in seconds, not decreasing.
            scene_cut: True on the first frame of a new shot, or on the canvas: the camera jumps.
            room: What to show.
        """
        self._around = Surroundings(room)
        self._whole, self._face, self._identity = True, None, 0
        dt_s = self._advance(time_s, scene_cut)
        width, height = self._around.room_wh_px
        self._aim.at = (room[0] + room[2]) / 2, (room[1] + room[3]) / 2
        self._zoom_aim, self._shape_aim = log(height), log(width / height / self._aspect)
        self._size_log = None
        self._easing = True
        if scene_cut:
            self._jump()
        self._move(dt_s)
        return self.crop

    def is_seen(self) -> bool:
        """Whether the face is there in this frame."""
        return self._face is not None

    def is_away(self, time_s: float) -> bool:
        """Whether the face has been missing for longer than `hold_s`, or was not seen yet."""
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
            self._tighter = 1.0
            self._go_home()
        return dt_s

    def _go_home(self) -> None:
        """Shows the largest crop of the tile's shape around the home place."""
        left, top, right, bottom = self._around.room_xyxy_px
        self._aim.at = (left + self._home_share * (right - left), (top + bottom) / 2)
        self._zoom_aim, self._shape_aim = log(self._widest_px()), 0.0
        self._easing = False
        self._jump()

    def _widen(self) -> None:
        """Aims at a wide crop around the last place."""
        self._zoom_aim, self._shape_aim = log(self._widest_px()), 0.0
        self._size_log = None
        self._easing = True

    def _widest_px(self) -> float:
        """Height of the largest crop of the area's aspect that fits into the room."""
        width, height = self._around.room_wh_px
        return min(height, width / self._aspect)

    def _follow(self, face: _Face, identity: int, time_s: float, dt_s: float) -> None:
        jump = self._must_jump(face, identity, time_s)
        away = self._seen_s is None or self._size_log is None
        self._smooth_size(face, jump or away, dt_s)
        width, height = self._wanted_size(face, time_s)
        wanted = log(height)
        if jump or away:
            self._zoom_aim = wanted
        else:
            self._zoom_aim = drag(self._zoom_aim, wanted, log1p(self._settings.zoom_dead_zone))
        self._shape_aim = log(width / height / self._aspect)
        self._seen_s, self._identity = time_s, identity
        if jump:
            self._aim.at = (face.x_px, face.y_px)
            self._jump()
        else:
            height = exp(self._zoom_aim)
            size = height * self._aspect, height
            self._aim.follow((face.x_px, face.y_px), size, time_s, dt_s)
        self._easing = not jump and (away or self._easing) and not self._arrived()

    def _must_jump(self, face: _Face, identity: int, time_s: float) -> bool:
        if self._seen_s is None:
            return time_s - self._shot_s <= self._settings.jump_window_s
        if identity != self._identity and identity and self._identity:
            return True
        if time_s - self._seen_s > self._settings.hold_s and not self._shows(face):
            return True  # panning from where the person left would show everybody else
        width = self._size()[0]
        distance = max(abs(face.x_px - self._aim.at[0]), abs(face.y_px - self._aim.at[1]))
        return distance > self._settings.jump_distance * width

    def _shows(self, face: _Face) -> bool:
        crop = self.crop
        across = 0 <= face.x_px - crop.x_px <= crop.width_px
        return across and 0 <= face.y_px - crop.y_px <= crop.height_px

    def _smooth_size(self, face: _Face, restart: bool, dt_s: float) -> None:
        size_log = log(max(face.height_px, 1.0))
        if not restart and self._size_log is not None:
            weight = 1.0 - exp(-dt_s / self._settings.size_smoothing_s)
            size_log = self._size_log + weight * (size_log - self._size_log)
        self._size_log = size_log

    def _wanted_size(self, face: _Face, time_s: float) -> tuple[float, float]:
        """Of the crop: for the face's share, and tighter where that keeps other faces out."""
        height_px = exp(self._size_log or 0.0)
        share = min(self._share, height_px / min(self._closest_px, self._widest_px()))
        width, height = self._around.size_for(
            height_px, self._aspect, self._settings, share, is_fitted=abs(self._shape_aim) > 1e-6
        )
        self._tighten(face, (width, height), time_s)
        return width * self._tighter, height * self._tighter

    def _tighten(self, face: _Face, size: tuple[float, float], time_s: float) -> None:
        """Chooses how much tighter the crop must be; opens again only after a while."""
        wanted = 1.0
        if self._around.coming:
            least = exp(self._size_log or 0.0) / self._tightest_share / size[1]
            factors = [max(factor, min(least, 1.0)) for factor in TIGHTER]
            wanted = next(
                (
                    factor
                    for factor in factors
                    if self._place(
                        (face.x_px, face.y_px + self._drop(size[1] * factor)),
                        (size[0] * factor, size[1] * factor),
                        self._around.coming,
                        _AIMED_MARGIN,
                    )
                ),
                factors[-1],
            )
        if wanted <= self._tighter:
            self._tighter, self._tight_s = wanted, time_s
        elif time_s - self._tight_s >= _OPEN_AFTER_S:
            self._tighter = wanted

    # -- size and place -----------------------------------------------------------------------

    def _size(self) -> tuple[float, float]:
        """Width and height of the crop now, within the room."""
        return self._fitting(self._zoom.value, self._shape.value)

    def _aimed_size(self) -> tuple[float, float]:
        return self._fitting(self._zoom_aim, self._shape_aim)

    def _fitting(self, zoom: float, shape: float) -> tuple[float, float]:
        """Of this height and shape, shrunk into the room without changing the shape."""
        room_w, room_h = self._around.room_wh_px
        height = exp(zoom)
        width = height * self._aspect * exp(shape)
        scale = min(1.0, room_w / width, room_h / height)
        return width * scale, height * scale

    def _drop(self, height: float) -> float:
        """How far the crop's centre is below the face's, for head room."""
        return (0.5 - self._settings.centre_y) * height

    def _targets(self, size: tuple[float, float]) -> tuple[float, float]:
        """Centre of a crop of this size with the aim in its place, in the room, clear of faces."""
        width, height = size
        drop = self._drop(height) if self._seen_s is not None and not self._whole else 0.0
        centre = self._aim.at[0], self._aim.at[1] + drop
        if self._around.coming:
            found = self._place(centre, size, self._around.coming, _AIMED_MARGIN)
            if found is not None:
                return self._calm(found, centre, width)
        self._pushed = None
        left, top, right, bottom = self._around.room_xyxy_px
        return (
            min(max(centre[0], left + width / 2), max(left + width / 2, right - width / 2)),
            min(max(centre[1], top + height / 2), max(top + height / 2, bottom - height / 2)),
        )

    def _calm(
        self, found: tuple[float, float], centre: tuple[float, float], width: float
    ) -> tuple[float, float]:
        """The same place while another face that pushes the crop only trembles."""
        if found == centre:
            self._pushed = None
            return found
        slack = _PUSH_SLACK * width
        last = self._pushed or found
        self._pushed = drag(last[0], found[0], slack), drag(last[1], found[1], slack)
        return self._pushed

    def _place(
        self,
        centre: tuple[float, float],
        size: tuple[float, float],
        faces: tuple[Box, ...],
        margin: float,
    ) -> tuple[float, float] | None:
        box = None if self._face is None else self._face.box
        return place(centre, size, box, self._around, faces, margin)

    def _jump(self) -> None:
        self._aim.rest()
        self._pushed = None
        self._zoom.jump(self._zoom_aim)
        self._shape.jump(self._shape_aim)
        x_px, y_px = self._targets(self._size())
        self._x.jump(x_px)
        self._y.jump(y_px)

    def _move(self, dt_s: float) -> None:
        settings = self._settings
        zoom_rate = settings.ease_rate if self._easing else settings.zoom_rate
        self._zoom.step(self._zoom_aim, dt_s, zoom_rate, settings.max_zoom_speed)
        self._shape.step(self._shape_aim, dt_s, zoom_rate, settings.max_zoom_speed)
        self._zoom.clamp(log(1.0), log(self._around.room_wh_px[1]))
        width, height = self._size()
        x_px, y_px = self._targets((width, height))
        rate = settings.ease_rate if self._easing else settings.pan_rate
        self._x.step(x_px, dt_s, rate, settings.max_speed * width)
        self._y.step(y_px, dt_s, rate, settings.max_speed * height)
        self._keep_inside(width, height)
        self._keep_clear()

    def _keep_inside(self, width: float, height: float) -> None:
        left, top, right, bottom = self._around.room_xyxy_px
        self._x.clamp(left + width / 2, max(left + width / 2, right - width / 2))
        self._y.clamp(top + height / 2, max(top + height / 2, bottom - height / 2))

    def _keep_clear(self) -> None:
        """Moves the crop at once, or tightens it, where it would show part of another face."""
        self.is_crowded = False
        if self._whole or not self._around.faces:
            return
        crop = self.crop
        edges = crop.x_px, crop.y_px, crop.width_px, crop.height_px
        if not any(shows_part(edges, face) for face in self._around.faces):
            return
        width, height = self._size()
        scale, least = 1.0, _LEAST_EMPTY
        if self._face is not None:
            least = min(1.0, self._face.height_px / self._tightest_share / height)
        while scale >= least:
            size = width * scale, height * scale
            found = self._place(
                (self._x.value, self._y.value), size, self._around.faces, _LEAST_MARGIN
            )
            if found is not None:
                self._x.clamp(found[0], found[0])
                self._y.clamp(found[1], found[1])
                if scale < 1.0:
                    self._zoom.clamp(0.0, log(size[1]))
                return
            scale *= _SQUEEZE
        self.is_crowded = True

    def _arrived(self) -> bool:
        width, height = self._size()
        x_px, y_px = self._targets((width, height))
        return (
            abs(self._zoom.value - self._zoom_aim) < _ARRIVED
            and abs(self._x.value - x_px) < _ARRIVED * height
            and abs(self._y.value - y_px) < _ARRIVED * height
        )
