"""What framing knows of a frame and of the faces in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from dualface_client.framing.room import Surroundings
from dualface_client.framing.steady import Moved
from dualface_client.types import Box, FloatArray, Person, PictureFacts, SeatAssignment, Side

#: Another face counts as still there for this long after it was last seen.
_FACE_MEMORY_S = 0.4
#: Two boxes that overlap by this much (IoU) are in the same place.
SAME_PLACE = 0.3


@dataclass(frozen=True)
class Moment:
    """What framing knows of one frame; what is asked often is worked out once.

    Attributes:
        time_s: Presentation time in seconds.
        assignment: Who sits where, and all tracks.
        picture: What the picture is made of.
    """

    time_s: float
    assignment: SeatAssignment
    picture: PictureFacts
    #: What `framing.layouts` found out about it: whether tiles fit, by the margin asked for.
    apart: dict[float, bool] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def boxes(self) -> dict[Side, Box | None]:
        """Face boxes of the people who hold the sides."""
        return {side: box_of(self.assignment.of(side)) for side in Side}

    @cached_property
    def edge_space(self) -> dict[Side, float | None]:
        """Distance of those faces from the picture's left or right edge, in face widths."""
        left, _, right, _ = self.picture.content_xyxy_px
        return {
            side: box and min(box[0] - left, right - box[2]) / max(box[2] - box[0], 1e-6)
            for side, box in self.boxes.items()
        }

    @cached_property
    def moved(self) -> Moved:
        """How the picture moved up to this frame."""
        return Moved(self.time_s, self.picture.motion_xy_px, self.assignment.scene_cut)

    @cached_property
    def faces(self) -> tuple[tuple[int, Box], ...]:
        """Identity and box of everybody who is seen."""
        tracks = self.assignment.tracks
        return tuple((view.identity, as_box(view.box_xyxy_px)) for view in tracks if view.score > 0)

    def faces_besides(
        self, identities: Collection[int], own: Collection[Box] = ()
    ) -> tuple[Box, ...]:
        """Everybody who is seen, without these people; see `besides`."""
        return besides(self.faces, identities, own)

    def with_picture_of(self, later: Moment) -> Moment:
        """The same with the windows and bars that a later frame of the shot has shown to be there.

        They take a while to be found, and were there before.
        """
        known, found = self.picture, later.picture
        if not set(known.panels_xyxy_px) < set(found.panels_xyxy_px):  # another layout by then
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


class OtherFaces:
    """Where everybody else's face is; remembers those that are not detected for a moment."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, int, Box]] = {}

    def update(self, moment: Moment) -> None:
        """Takes in a frame; a cut forgets everybody."""
        if moment.assignment.scene_cut:
            self._seen.clear()
        seen = (view.id for view in moment.assignment.tracks if view.score > 0)
        for track, (identity, box) in zip(seen, moment.faces, strict=True):
            self._seen[track] = moment.time_s, identity, box
        self._seen = {
            key: entry
            for key, entry in self._seen.items()
            if moment.time_s - entry[0] <= _FACE_MEMORY_S
        }

    def besides(self, identities: Collection[int], own: Sequence[Box] = ()) -> tuple[Box, ...]:
        """Faces of all but these people, and of those whose name is not known yet."""
        faces = ((who, box) for _, who, box in self._seen.values())
        return besides(faces, identities, own)


def until_cut(window: Sequence[Moment]) -> Sequence[Moment]:
    """The frames of the first one's shot."""
    for index, each in enumerate(window[1:], start=1):
        if each.assignment.scene_cut:
            return window[:index]
    return window


def as_box(box_xyxy_px: FloatArray) -> Box:
    """The same as plain floats."""
    x1, y1, x2, y2 = box_xyxy_px.tolist()
    return x1, y1, x2, y2


def box_of(person: Person) -> Box | None:
    """A person's face box as plain floats."""
    return None if person.box_xyxy_px is None else as_box(person.box_xyxy_px)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    common = common_area(one, other)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0


def besides(
    faces: Iterable[tuple[int, Box]], identities: Collection[int], own: Collection[Box]
) -> tuple[Box, ...]:
    """Other people's faces.

    Args:
        faces: Identity and box of each, 0 while nobody knows whose it is.
        identities: Whose faces do not count.
        own: Where theirs are: a face there that has no name yet is the same.
    """
    return tuple(
        box
        for who, box in faces
        if (who not in identities if who else all(overlap(box, each) < SAME_PLACE for each in own))
    )


def common_area(one: Box, other: Box) -> float:
    """Area that two boxes share, square pixels."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across * down if across > 0 and down > 0 else 0.0
