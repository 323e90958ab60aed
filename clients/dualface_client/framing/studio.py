"""From who sits where to what the canvas shows: layouts, cameras, and the change between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dualface_client.framing.camera import TIGHTEST_PICTURE, Camera
from dualface_client.framing.layouts import Choice, Layout, LayoutChooser
from dualface_client.framing.lookahead import lead_assignment
from dualface_client.framing.moment import Moment, OtherFaces, box_of, until_cut
from dualface_client.framing.room import Surroundings
from dualface_client.framing.seam import Seam, between, larger_face, shaped, tile_areas
from dualface_client.framing.steady import Offset, Shake, Steadier
from dualface_client.framing.together import all_as_one
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import (
    Box,
    Crop,
    Person,
    Rect,
    SeatAssignment,
    Side,
    TileLayout,
    View,
)

#: The faces of a pair differ by at most this factor in height, where the source allows it.
_PAIR_RATIO = 1.15
#: A picture that is enlarged more than this looks soft; said so for this share of the frames.
_SOFT, _SOFT_SHARE = 4.0, 0.2
#: A picture that sways less than this is still, source pixels.
_LEAST_SWAY_PX = 0.5
#: A rectangle narrower than this is not drawn while the seam moves, pixels.
_LEAST_AREA_PX = 16


@dataclass(frozen=True, slots=True)
class TileShot:
    """What one tile shows, for whoever replaces a missing face's picture.

    Attributes:
        side: Which tile.
        area: Where it is on the canvas.
        seen: The face is there now.
        away: The face has been missing for longer than `FramingSettings.hold_s`, or was never seen
            in this shot.
    """

    side: Side
    area: Rect
    seen: bool
    away: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What the canvas of one frame shows.

    Attributes:
        layout: Which picture it is, or is becoming.
        views: Parts of the source and where they go.
        shots: The tiles, while the canvas has two and does not change.
    """

    layout: Layout
    views: tuple[View, ...]
    shots: tuple[TileShot, ...] = ()


class Studio:
    """Frames one stream.

    Args:
        canvas: Sizes of the canvas and its tiles.
        source_wh_px: Width and height of the source, both positive.
        settings: How cameras frame and move, and when layouts change.

    Raises:
        ValueError: The source has no size.
    """

    def __init__(
        self,
        canvas: TileLayout,
        source_wh_px: tuple[int, int],
        settings: FramingSettings | None = None,
    ) -> None:
        if min(source_wh_px) < 1:
            raise ValueError(f"source size {source_wh_px}: expected a positive width and height")
        self._settings = settings or FramingSettings()
        self._canvas = canvas
        self._source_wh = source_wh_px
        areas = {side: canvas.area(side) for side in Side}
        self._tiles = {
            side: Camera(home, _wh(areas[side]), source_wh_px, self._settings)
            for side, home in ((Side.LEFT, 0.25), (Side.RIGHT, 0.75))
        }
        self._whole = Camera(0.5, _wh(canvas.whole), source_wh_px, self._settings, TIGHTEST_PICTURE)
        aspects = {side: areas[side].width_px / areas[side].height_px for side in Side}
        self._chooser = LayoutChooser(self._settings, aspects, one_picture=canvas.kind == "solo")
        self._tiles_rest = self._whole_rests = True  # cameras that are not on the canvas
        self._others = OtherFaces()
        self._content: Box = (0.0, 0.0, float(source_wh_px[0]), float(source_wh_px[1]))
        self._seam = Seam(self._settings.layout_ease_s)
        self._steadier = Steadier(source_wh_px)
        self._shake = Shake()
        self._frames = self._soft_frames = 0
        self._most_enlarged = 1.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user at the end."""
        if self._soft_frames <= _SOFT_SHARE * self._frames:
            return ()
        return (
            f"the picture is small for its faces: it was enlarged up to {self._most_enlarged:.1f} "
            "times; a larger source, or a smaller --size, looks sharper",
        )

    def _note_size(self, plan: Plan) -> None:
        scale = max(_enlargement(view) for view in plan.views)
        self._frames += 1
        self._soft_frames += scale > _SOFT
        self._most_enlarged = max(self._most_enlarged, scale)

    def update(self, window: Sequence[Moment]) -> Plan:
        """What the canvas shows in the window's first frame.

        Args:
            window: The frame and those after it that are known already, in order; at least one.
        """
        shot = until_cut(window)
        known = [each.with_picture_of(shot[-1]) for each in shot]
        window = [*known, *window[len(shot) :]]
        now = window[0]
        self._others.update(now)
        near = _within(window, self._settings.lead_s)
        lead = lead_assignment([each.assignment for each in window], len(near))
        self._shake = self._steadier.update([each.moved for each in window], len(near) - 1)
        self._content = self._steady_room(now.picture.content_xyxy_px)
        crowded = frozenset(
            side
            for side, camera in self._tiles.items()
            if camera.is_crowded and not camera.is_seen()
        )
        choice = self._choose(window, crowded)
        cut = now.assignment.scene_cut
        self._seam.update(choice, larger_face(lead), now.time_s, cut)
        self._move_tiles(now, near, lead)
        self._move_whole(choice, now, near, lead)
        plan = self._plan(choice, now.time_s)
        self._note_size(plan)
        return replace(plan, views=tuple(_shaken(view, self._shake.now) for view in plan.views))

    def _choose(self, window: Sequence[Moment], crowded: frozenset[Side]) -> Choice:
        if self._settings.alone == "tile" and self._canvas.kind != "solo":
            return Choice(Layout.PAIR)
        return self._chooser.choose(window, crowded)

    # -- cameras --------------------------------------------------------------------------------

    def _move_tiles(self, now: Moment, near: Sequence[Moment], lead: SeatAssignment) -> None:
        if self._seam.hides(Side.LEFT):  # and the right one with it
            self._tiles_rest = True
            return
        starts, self._tiles_rest = now.assignment.scene_cut or self._tiles_rest, False
        shares = {side: camera.face_share for side, camera in self._tiles.items()}
        if starts:
            shares = self._natural_shares(lead, near[-1])
        for side, camera in self._tiles.items():
            person = now.assignment.of(side)
            share = max(self._settings.face_share, shares[side.other] / _PAIR_RATIO)
            share = min(share, self._settings.largest_share)
            camera.update(
                self._steady_person(lead.of(side)),
                now.time_s,
                starts,
                self._around(now, near, (person, lead.of(side)), lead.of(side)),
                share,
            )

    def _natural_shares(self, lead: SeatAssignment, moment: Moment) -> dict[Side, float]:
        """How large the faces of a new shot are in their tiles if each is framed by itself."""
        shares = dict.fromkeys(Side, 0.0)
        for side in Side:
            face, area = box_of(lead.of(side)), self._canvas.area(side)
            if face is None:
                continue
            aspect, height_px = area.width_px / area.height_px, face[3] - face[1]
            width, height = moment.around(face).size_for(height_px, aspect, self._settings)
            shares[side] = height_px * min(aspect / width, 1.0 / height)
        return shares

    def _around(
        self, now: Moment, near: Sequence[Moment], people: Sequence[Person], lead: Person
    ) -> Surroundings:
        """Room and other faces of one person, or of several in one picture."""
        names = {person.identity for person in people}
        own = [box for each in people if (box := box_of(each))]
        faces = tuple(_shifted(box, self._shake.now) for box in self._others.besides(names, own))
        coming = faces
        if len(near) > 1:
            later = near[-1].faces_besides(names, own)
            coming += tuple(_shifted(box, self._shake.lead) for box in later)
        face = box_of(lead)
        if face and len(names - {0}) < len(Side):
            found = near[-1].around(face, faces, coming)
        else:
            found = Surroundings(near[-1].picture.content_xyxy_px, faces, coming)
        return replace(found, room_xyxy_px=self._steady_room(found.room_xyxy_px))

    def _steady_room(self, room: Box) -> Box:
        """A part of this frame's picture where a steady camera would have it, without its rims.

        The rims are what shake moves in and out of the picture.
        """
        left, top, right, bottom = _inside(room, self._source_wh)
        x_px, y_px = (_rim(sway) for sway in self._shake.sway)
        return left + x_px, top + y_px, right - x_px, bottom - y_px

    def _steady_person(self, person: Person) -> Person:
        """The same, of whom the cameras aim at."""
        if person.box_xyxy_px is None or self._shake.lead == (0.0, 0.0):
            return person
        x_px, y_px = self._shake.lead
        shift = np.array([x_px, y_px, x_px, y_px], np.float32)
        return replace(person, box_xyxy_px=person.box_xyxy_px - shift)

    def _move_whole(
        self, choice: Choice, now: Moment, near: Sequence[Moment], lead: SeatAssignment
    ) -> None:
        """The camera of the whole canvas: one person, both, or everything."""
        if self._seam.hides(None):
            self._whole_rests = True
            return
        cut, self._whole_rests = now.assignment.scene_cut or self._whole_rests, False
        content = self._steady_room(near[-1].picture.content_xyxy_px)
        if choice.layout is Layout.TOGETHER:
            together = self._together(lead)
            around = Surroundings(content)
            self._whole.update(self._steady_person(together), now.time_s, cut, around)
            return
        person, people = self._subject_of(choice, lead)
        if person is None:
            self._whole.show_all(now.time_s, cut, content)
            return
        around = self._around(now, near, people, person)
        steady = self._steady_person(person)
        self._whole.update(steady, now.time_s, cut, around)

    def _together(self, lead: SeatAssignment) -> Person:
        """Both as one, and everybody else whom their picture would show."""
        whole, people = self._canvas.whole, (lead.left, lead.right)
        own = [box for each in people if (box := box_of(each))]
        others = self._others.besides([each.identity for each in people], own)
        return all_as_one(lead, others, whole.width_px / whole.height_px, self._settings.face_share)

    def _subject_of(
        self, choice: Choice, lead: SeatAssignment
    ) -> tuple[Person | None, tuple[Person, ...]]:
        if choice.layout is Layout.SOLO and choice.sides:
            person = lead.of(choice.sides[0])
            return person, (person,)
        if choice.stranger is not None:
            stranger = Person(0, np.array(choice.stranger, np.float32), 1.0)
            return stranger, (stranger,)
        return None, ()

    # -- canvas ---------------------------------------------------------------------------------

    def _plan(self, choice: Choice, time_s: float) -> Plan:
        share = self._seam.share
        if share >= 1.0:
            return Plan(choice.layout, (View(self._whole.crop, self._canvas.whole),))
        if share <= 0.0:
            return Plan(choice.layout, *self._two_tiles(time_s))
        return Plan(choice.layout, self._moved_seam(self._seam.grows, share))

    def _two_tiles(self, time_s: float) -> tuple[tuple[View, ...], tuple[TileShot, ...]]:
        views, shots = [], []
        for side, camera in self._tiles.items():
            area = self._canvas.area(side)
            views.append(View(self._shown_by(camera), area))
            shots.append(TileShot(side, area, camera.is_seen(), camera.is_away(time_s)))
        return tuple(views), tuple(shots)

    def _shown_by(self, camera: Camera) -> Crop:
        """A tile's crop; the whole picture where an absent person's would show part of a face."""
        if not camera.is_crowded or camera.is_seen():
            return camera.crop
        left, top, right, bottom = self._content
        return Crop(left, top, right - left, bottom - top)

    def _moved_seam(self, grows: Side, share: float) -> tuple[View, ...]:
        """The present person's tile grows over the other's."""
        views = []
        for side, area in tile_areas(self._canvas, grows, share).items():
            if min(area.width_px, area.height_px) < _LEAST_AREA_PX:
                continue
            crop = self._tiles[side].crop
            if side is grows:
                crop = between(crop, self._whole.crop, share)
            views.append(View(shaped(crop, area), area))
        return tuple(views)


def _within(window: Sequence[Moment], seconds: float) -> Sequence[Moment]:
    """The frames of the window's shot within this time of the first; at least the first."""
    start_s = window[0].time_s
    count = 1
    for each in window[1:]:
        if each.assignment.scene_cut or each.time_s - start_s > seconds:
            break
        count += 1
    return window[:count]


def _rim(sway_px: float) -> float:
    """How much of the picture's edge is given up so that it can be held still."""
    return sway_px if sway_px > _LEAST_SWAY_PX else 0.0


def _shifted(box: Box, offset: Offset) -> Box:
    """A box of the picture where a steady camera would have it."""
    x_px, y_px = offset
    return box[0] - x_px, box[1] - y_px, box[2] - x_px, box[3] - y_px


def _shaken(view: View, offset: Offset) -> View:
    """A view of a steady picture in the picture as it is."""
    if offset == (0.0, 0.0):
        return view
    crop = view.crop
    moved = replace(crop, x_px=crop.x_px + offset[0], y_px=crop.y_px + offset[1])
    return replace(view, crop=moved)


def _inside(room: Box, source_wh: tuple[int, int]) -> Box:
    """The part of a room that the source has; the whole source if there is none."""
    width, height = source_wh
    left, top = max(0.0, room[0]), max(0.0, room[1])
    right, bottom = min(float(width), room[2]), min(float(height), room[3])
    if right - left < 1 or bottom - top < 1:
        return 0.0, 0.0, float(width), float(height)
    return left, top, right, bottom


def _enlargement(view: View) -> float:
    """Canvas pixels per source pixel."""
    crop, area = view.crop, view.area
    return min(area.width_px / crop.width_px, area.height_px / crop.height_px)


def _wh(area: Rect) -> tuple[int, int]:
    return area.width_px, area.height_px
