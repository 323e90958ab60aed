"""Which picture the canvas is: a tile for each person, or one picture.

What an editor would do: two tiles while both people are there and a tile can show each without
half of the other; one picture of whoever is alone; one picture of both while they are too close to
each other; the whole picture while nobody is known. The canvas changes on a cut where there is one
within the frames that wait, and otherwise only when the reason lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from dualface_client.framing.room import Surroundings, is_apart, size_for
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Box, FloatArray, Person, PictureFacts, SeatAssignment, Side

#: Space between a tile's edge and another face, in that face's widths: less of it ends the two
#: tiles, and this much of it brings them back.
_END_MARGIN, _BEGIN_MARGIN = 0.06, 0.2
#: Faces that are too close end the two tiles if they are so in this share of the frames that wait.
_LASTING_SHARE = 0.35
#: How much tighter than usual tiles may be: to keep two of them, and to go back to two.
_END_TIGHTEST, _BEGIN_TIGHTEST = 0.7, 0.84
#: Another face counts as still there for this long after it was last seen.
_FACE_MEMORY_S = 0.4
#: A face without a seat is worth a picture of its own if it is this high, as a share of the
#: content's height, and this many times as high as any other.
_LEAST_STRANGER, _STRANGER_LEAD = 0.1, 1.6
#: Distance of a face from the picture's edge, in face widths: with less it is half outside and its
#: tile ends, with more the tile comes back. It must be so in more than this share of the frames.
_END_EDGE, _BEGIN_EDGE = 0.03, 0.12
_THERE_SHARE = 0.4
#: A face without a seat may be the second person's from this share of the first one's height on.
_LEAST_PARTNER = 0.5
#: Two boxes that overlap by this much (IoU) are in the same place.
_SAME_PLACE = 0.3


class Layout(Enum):
    """What the canvas shows."""

    PAIR = "pair"
    SOLO = "solo"
    TOGETHER = "together"
    WIDE = "wide"

    @property
    def is_one(self) -> bool:
        """Whether the canvas is one picture."""
        return self is not Layout.PAIR


@dataclass(frozen=True, slots=True)
class Moment:
    """What framing knows of one frame.

    Attributes:
        time_s: Presentation time in seconds.
        assignment: Who sits where, and all tracks.
        picture: What the picture is made of.
    """

    time_s: float
    assignment: SeatAssignment
    picture: PictureFacts

    def with_picture_of(self, later: Moment) -> Moment:
        """The same with the windows and bars that a later frame of the shot has shown to be there.

        They take a while to be found, and were there before.
        """
        known, found = self.picture, later.picture
        if known.panels_xyxy_px or not found.panels_xyxy_px:
            if known.content_xyxy_px == found.content_xyxy_px:
                return self
            found = replace(found, panels_xyxy_px=known.panels_xyxy_px)
        return replace(self, picture=replace(found, motion_xy_px=known.motion_xy_px))

    def window_of(self, box: Box) -> Box | None:
        """The panel in which a face lies; None if it lies in none."""
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        for panel in reversed(self.picture.panels_xyxy_px):  # later ones lie over earlier ones
            if panel[0] <= x <= panel[2] and panel[1] <= y <= panel[3]:
                return panel
        return None

    def around(
        self, box: Box, faces: tuple[Box, ...] = (), coming: tuple[Box, ...] = ()
    ) -> Surroundings:
        """What is around a face: its panel, or the content without the other panels in it.

        Faces in other panels do not count: their boxes may reach beyond their panel, they do not.
        """
        window = self.window_of(box)
        if self.picture.panels_xyxy_px:
            faces = tuple(face for face in faces if self.window_of(face) == window)
            coming = tuple(face for face in coming if self.window_of(face) == window)
        room = self.picture.content_xyxy_px if window is None else window
        over = tuple(
            panel
            for panel in self.picture.panels_xyxy_px
            if panel != window and common_area(panel, room) > 0
        )
        return Surroundings(room, faces + over, coming + over, window is not None)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the canvas shows from this frame on.

    Attributes:
        layout: Which picture it is.
        sides: Whose people it shows, for SOLO and TOGETHER.
        stranger: The only face there, if nobody who holds a side is: for SOLO.
    """

    layout: Layout
    sides: tuple[Side, ...] = ()
    stranger: Box | None = None


class OtherFaces:
    """Where everybody else's face is; remembers those that are not detected for a moment."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, int, Box]] = {}

    def update(self, moment: Moment) -> None:
        """Takes in a frame; a cut forgets everybody."""
        if moment.assignment.scene_cut:
            self._seen.clear()
        for view in moment.assignment.tracks:
            if view.score > 0:
                self._seen[view.id] = (moment.time_s, view.identity, as_box(view.box_xyxy_px))
        self._seen = {
            key: entry
            for key, entry in self._seen.items()
            if moment.time_s - entry[0] <= _FACE_MEMORY_S
        }

    def besides(self, identities: Collection[int], own: Sequence[Box] = ()) -> tuple[Box, ...]:
        """Faces of all but these people and boxes."""
        return tuple(
            box
            for _, identity, box in self._seen.values()
            if not (identity and identity in identities) and box not in own
        )


def _is_there(side: Side, moment: Moment, margin: float) -> bool:
    """Whether a face is seen and the edge of the picture does not cut it.

    Args:
        side: Whose.
        moment: A frame.
        margin: Least distance from the picture's left and right edge, in face widths.
    """
    box_xyxy_px = moment.assignment.of(side).box_xyxy_px
    if box_xyxy_px is None:
        return False
    box = as_box(box_xyxy_px)
    left, _, right, _ = moment.picture.content_xyxy_px
    space = margin * (box[2] - box[0])
    return box[0] >= left + space and box[2] <= right - space


class LayoutChooser:
    """Chooses the layout of each frame; state of one stream.

    Args:
        settings: Times and sizes.
        tile_aspects: Width over height of the left and the right tile.
        one_picture: Never two tiles.
    """

    def __init__(
        self,
        settings: FramingSettings,
        tile_aspects: dict[Side, float],
        *,
        one_picture: bool = False,
    ) -> None:
        self._settings = settings
        self._one_picture = one_picture
        self._aspects = tile_aspects
        self._seen: dict[Side, tuple[float, Box] | None] = dict.fromkeys(Side)
        self._changed_s: float | None = None
        self._shot_s = 0.0
        self._choice = Choice(Layout.WIDE)
        self._apart: dict[tuple[float, float], bool] = {}
        self._there: dict[tuple[float, Side, float, int], bool] = {}

    def choose(self, window: Sequence[Moment], crowded: frozenset[Side]) -> Choice:
        """What the canvas shows in the window's first frame.

        Args:
            window: The frame and those after it that are known already, in order.
            crowded: Sides whose tile would show part of another face although its own person is
                not seen.
        """
        now = window[0]
        shot = until_cut(window)
        if now.assignment.scene_cut or self._changed_s is None:
            self._seen, self._shot_s = dict.fromkeys(Side), now.time_s
        for side in Side:
            box = now.assignment.of(side).box_xyxy_px
            if box is not None:
                self._seen[side] = now.time_s, as_box(box)
        present = [side for side in Side if self._is_present(side, shot, side in crowded)]
        wanted = self._wanted(present, shot)
        starts = now.assignment.scene_cut or self._changed_s is None
        waits = not starts and len(shot) < len(window)  # a cut is near: change there
        if wanted.layout.is_one == self._choice.layout.is_one:
            if not (waits and wanted.layout is not self._choice.layout):
                self._choice = wanted
        elif not waits and self._may_change(now.time_s, starts):
            self._choice, self._changed_s = wanted, now.time_s
        elif wanted.layout.is_one != self._choice.layout.is_one:
            self._choice = self._kept(present, shot)
        if self._changed_s is None:
            self._changed_s = now.time_s
        return self._choice

    def _kept(self, present: list[Side], shot: Sequence[Moment]) -> Choice:
        """The layout that must stay, with those who are there."""
        if self._choice.layout is Layout.PAIR:
            return self._choice
        return self._one(present, shot)

    def _may_change(self, time_s: float, starts: bool) -> bool:
        if self._changed_s is None:
            return True
        least_s = self._settings.least_layout_s
        return time_s - self._changed_s >= least_s - (1e-6 if starts else 0.0)

    def _is_present(self, side: Side, shot: Sequence[Moment], crowded: bool) -> bool:
        """Seen in one of the frames that wait, or not missing for long."""
        now = shot[0]
        margin = _END_EDGE if self._choice.layout is Layout.PAIR else _BEGIN_EDGE
        if now.assignment.of(side).box_xyxy_px is not None:
            seen = [each for each in shot if each.assignment.of(side).box_xyxy_px is not None]
            there = sum(self._is_there(side, each, margin) for each in seen)
            return there > _THERE_SHARE * len(seen)
        is_pair = self._choice.layout is Layout.PAIR
        may_come = is_pair or now.time_s - self._shot_s < self._settings.lookahead_s
        if may_come and not crowded and any(self._is_there(side, each, margin) for each in shot):
            return True
        last = self._seen[side]
        if last is None or crowded or not is_pair:
            return False
        if any(_overlap(last[1], box) > _SAME_PLACE for box in seen_boxes(shot[0])):
            return False  # that face turned out to be somebody else's, or hides this one
        return now.time_s - last[0] <= self._settings.hold_s

    def _is_there(self, side: Side, moment: Moment, margin: float) -> bool:
        """The same as the function, looked up for frames that were asked about before."""
        person = moment.assignment.of(side)
        key = moment.time_s, side, margin, id(person.box_xyxy_px)
        if key not in self._there:
            if len(self._there) > _MOST_REMEMBERED:
                self._there.clear()
            self._there[key] = _is_there(side, moment, margin)
        return self._there[key]

    def _wanted(self, present: list[Side], shot: Sequence[Moment]) -> Choice:
        if len(present) == len(Side) and not self._one_picture and self._fit_apart(shot):
            return Choice(Layout.PAIR)
        return self._one(present, shot)

    def _one(self, present: list[Side], shot: Sequence[Moment]) -> Choice:
        if len(present) == len(Side):
            return Choice(Layout.TOGETHER, tuple(Side))
        if present:
            if _may_be_the_other(shot[0], present[0]):
                return Choice(Layout.WIDE)
            return Choice(Layout.SOLO, tuple(present))
        stranger = only_stranger(shot)
        if stranger is not None:
            return Choice(Layout.SOLO, (), stranger)
        return Choice(Layout.WIDE)

    # -- two tiles ------------------------------------------------------------------------------

    def _fit_apart(self, shot: Sequence[Moment]) -> bool:
        """Whether two tiles can show the two without half of each other."""
        if self._choice.layout is Layout.PAIR:
            close = sum(not self._is_apart(each, _END_MARGIN, _END_TIGHTEST) for each in shot)
            return close < max(1.0, _LASTING_SHARE * len(shot))
        return all(self._is_apart(each, _BEGIN_MARGIN, _BEGIN_TIGHTEST) for each in shot)

    def _is_apart(self, moment: Moment, margin: float, tightest: float) -> bool:
        key = moment.time_s, margin
        if key not in self._apart:
            if len(self._apart) > _MOST_REMEMBERED:
                self._apart.clear()
            self._apart[key] = all(self._has_place(moment, side, margin, tightest) for side in Side)
        return self._apart[key]

    def _has_place(self, moment: Moment, side: Side, margin: float, tightest: float) -> bool:
        person = moment.assignment.of(side)
        if person.box_xyxy_px is None:
            return True
        face = as_box(person.box_xyxy_px)
        others = tuple(
            as_box(view.box_xyxy_px)
            for view in moment.assignment.tracks
            if view.score > 0 and not (view.identity and view.identity == person.identity)
        )
        around = moment.around(face, others)
        size = size_for(
            face[3] - face[1],
            self._settings.face_share,
            self._aspects[side],
            around.room_wh_px,
            around.largest_share(self._settings),
        )
        return is_apart(face, size, around, margin, tightest)


_MOST_REMEMBERED = 256


def _may_be_the_other(moment: Moment, side: Side) -> bool:
    """Whether there is a face beside this person's that may be the one whose seat is still free."""
    person, other = moment.assignment.of(side), moment.assignment.of(side.other)
    if other.identity or person.box_xyxy_px is None:
        return False
    own = as_box(person.box_xyxy_px)
    least = _LEAST_PARTNER * (own[3] - own[1])
    return any(
        box[3] - box[1] >= least and _overlap(box, own) < _SAME_PLACE for box in seen_boxes(moment)
    )


def only_stranger(shot: Sequence[Moment]) -> Box | None:
    """The one face in the picture that stands out, though nobody knows whose it is."""
    now = next((each for each in shot if seen_boxes(each)), None)
    if now is None:
        return None
    boxes = sorted(seen_boxes(now), key=lambda box: box[1] - box[3])
    heights = [box[3] - box[1] for box in boxes]
    content = now.picture.content_xyxy_px
    if heights[0] < _LEAST_STRANGER * (content[3] - content[1]):
        return None
    if len(heights) > 1 and heights[0] < _STRANGER_LEAD * heights[1]:
        return None
    return boxes[0]


def as_box(box_xyxy_px: FloatArray) -> Box:
    """The same as plain floats."""
    x1, y1, x2, y2 = np.asarray(box_xyxy_px, np.float64).tolist()
    return x1, y1, x2, y2


def all_as_one(
    assignment: SeatAssignment, others: Sequence[Box], aspect: float, share: float
) -> Person:
    """Both faces as one person, tall enough for a crop with room for both widths.

    Faces of others that such a crop would show are in it too, so that it cuts nobody.

    Args:
        assignment: Who sits where.
        others: Everybody else's faces.
        aspect: Width over height of the crop.
        share: Height of a face as a share of the crop's.
    """
    people = (assignment.left, assignment.right)
    boxes = [as_box(each.box_xyxy_px) for each in people if each.box_xyxy_px is not None]
    if len(boxes) < len(people):
        return Person(1)  # the camera keeps its crop
    rest = list(others)
    while near := [box for box in rest if common_area(box, _shown(boxes, aspect, share)) > 0]:
        boxes += near
        rest = [box for box in rest if box not in near]
    left, top, right, bottom = _union(boxes)
    middle, height = (top + bottom) / 2, _height_for(boxes, aspect, share)
    box = np.array([left, middle - height / 2, right, middle + height / 2], np.float32)
    return Person(1, box, 1.0)


def _shown(boxes: Sequence[Box], aspect: float, share: float) -> Box:
    """Roughly what a crop shows that has all these faces in it."""
    left, top, right, bottom = _union(boxes)
    height = _height_for(boxes, aspect, share) / share
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - height * aspect / 2, y - height / 2, x + height * aspect / 2, y + height / 2


def _height_for(boxes: Sequence[Box], aspect: float, share: float) -> float:
    """How tall one face would be whose crop has room for all of them."""
    left, top, right, bottom = _union(boxes)
    tallest = max(box[3] - box[1] for box in boxes)
    spread = bottom - top - tallest
    return max(
        tallest + spread * share / _FACES_SHARE, (right - left) / _FACES_SHARE / aspect * share
    )


def _union(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


#: Largest share of the common crop's width that both faces take.
_FACES_SHARE = 0.7


def seen_boxes(moment: Moment) -> list[Box]:
    """All faces that are seen in a frame."""
    return [as_box(view.box_xyxy_px) for view in moment.assignment.tracks if view.score > 0]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    common = common_area(one, other)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0


def common_area(one: Box, other: Box) -> float:
    """Area that two boxes share, square pixels."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across * down if across > 0 and down > 0 else 0.0


def until_cut(window: Sequence[Moment]) -> Sequence[Moment]:
    """The frames of the first one's shot."""
    for index, each in enumerate(window[1:], start=1):
        if each.assignment.scene_cut:
            return window[:index]
    return window
