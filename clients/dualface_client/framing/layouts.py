"""Which picture the canvas is: a tile for each person, or one picture.

What an editor would do: two tiles while both people are there and a tile can show each without
half of the other; one picture of whoever is alone; one picture of both while they are too close to
each other; the whole picture while nobody is known. The canvas changes on a cut where there is one
within the frames that wait, and otherwise only when the reason lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dualface_client.framing.moment import SAME_PLACE, Moment, overlap, until_cut
from dualface_client.framing.room import is_apart
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Box, Side

#: Space between a tile's edge and another face, in that face's widths: less of it ends the two
#: tiles, and this much of it brings them back.
_END_MARGIN, _BEGIN_MARGIN = 0.06, 0.2
#: Faces that are too close end the two tiles if they are so in this share of the frames that wait.
_LASTING_SHARE = 0.35
#: How much tighter than usual tiles may be: to keep two of them, and to go back to two.
_END_TIGHTEST, _BEGIN_TIGHTEST = 0.7, 0.84
#: A face without a seat is worth a picture of its own if it is this high, as a share of the
#: content's height, and this many times as high as any other: an editor does not pick somebody
#: out of an audience.
_LEAST_STRANGER, _STRANGER_LEAD = 0.25, 1.6
#: Distance of a face from the picture's edge, in face widths: with less it is half outside and its
#: tile ends, with more the tile comes back. It must be so in more than this share of the frames.
_END_EDGE, _BEGIN_EDGE = 0.03, 0.12
_THERE_SHARE = 0.4
#: One picture of several people closes in on one after the others have been gone for so long.
_CLOSE_IN_AFTER_S = 0.5
#: A face without a seat may be the second person's from this share of the first one's height on.
_LEAST_PARTNER = 0.5
#: Frames in which such a face is seen: in one it may be a mistake of the detector.
_SEEN_FRAMES = 2


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


def _is_there(side: Side, moment: Moment, margin: float) -> bool:
    """Whether a face is seen and the edge of the picture does not cut it.

    Args:
        side: Whose.
        moment: A frame.
        margin: Least distance from the picture's left and right edge, in face widths.
    """
    space = moment.edge_space[side]
    return space is not None and space >= margin


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
        self._shot_s = self._wider_s = 0.0
        self._choice = Choice(Layout.WIDE)

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
            if box := now.boxes[side]:
                self._seen[side] = now.time_s, box
        present = [side for side in Side if self._is_present(side, shot, side in crowded)]
        wanted = self._wanted(present, shot)
        starts = now.assignment.scene_cut or self._changed_s is None
        waits = not starts and len(shot) < len(window)  # a cut is near: change there
        if wanted.layout is not Layout.SOLO and now.faces:  # a hand before the only one is no other
            self._wider_s = now.time_s
        changes = wanted.layout is not self._choice.layout
        if wanted.layout.is_one == self._choice.layout.is_one:
            if starts or not (changes and (waits or self._is_hasty(wanted, now.time_s))):
                self._choice = wanted
        elif not waits and self._may_change(now.time_s):
            self._choice, self._changed_s = wanted, now.time_s
        else:
            self._choice = self._kept(present, shot)
        if self._changed_s is None:
            self._changed_s = now.time_s
        return self._choice

    def _kept(self, present: list[Side], shot: Sequence[Moment]) -> Choice:
        """The layout that must stay, with those who are there."""
        if self._choice.layout is Layout.PAIR:
            return self._choice
        return self._one(present, shot)

    def _is_hasty(self, wanted: Choice, time_s: float) -> bool:
        """Whether one picture would close in on somebody though others were there a moment ago.

        Where a second face is seen now and then, the camera would go to and fro.
        """
        closes_in = wanted.layout is Layout.SOLO and self._choice.layout is not Layout.SOLO
        return closes_in and time_s - self._wider_s < _CLOSE_IN_AFTER_S - 1e-6

    def _may_change(self, time_s: float) -> bool:
        """Whether the layout has stayed for long enough, but for the rounding of times."""
        if self._changed_s is None:
            return True
        return time_s - self._changed_s >= self._settings.least_layout_s - 1e-6

    def _is_present(self, side: Side, shot: Sequence[Moment], crowded: bool) -> bool:
        """Seen in one of the frames that wait, or not missing for long."""
        now = shot[0]
        margin = _END_EDGE if self._choice.layout is Layout.PAIR else _BEGIN_EDGE
        if now.boxes[side]:
            spaces = [each.edge_space[side] for each in shot]
            seen = [space for space in spaces if space is not None]
            return sum(space >= margin for space in seen) > _THERE_SHARE * len(seen)
        is_pair = self._choice.layout is Layout.PAIR
        may_come = is_pair or now.time_s - self._shot_s < self._settings.lookahead_s
        if may_come and not crowded and any(_is_there(side, each, margin) for each in shot):
            return True
        last = self._seen[side]
        if last is None or crowded or not is_pair:
            return False
        if any(overlap(last[1], box) > SAME_PLACE for _, box in now.faces):
            return False  # that face turned out to be somebody else's, or hides this one
        return now.time_s - last[0] <= self._settings.hold_s

    def _wanted(self, present: list[Side], shot: Sequence[Moment]) -> Choice:
        if len(present) == len(Side) and not self._one_picture and self._fit_apart(shot):
            return Choice(Layout.PAIR)
        return self._one(present, shot)

    def _one(self, present: list[Side], shot: Sequence[Moment]) -> Choice:
        if len(present) == len(Side):
            return Choice(Layout.TOGETHER, tuple(Side))
        if present:
            others = sum(_may_be_the_other(each, present[0]) for each in shot)
            if others >= min(_SEEN_FRAMES, len(shot)):
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
        if margin not in moment.apart:
            moment.apart[margin] = all(
                self._has_place(moment, side, margin, tightest) for side in Side
            )
        return moment.apart[margin]

    def _has_place(self, moment: Moment, side: Side, margin: float, tightest: float) -> bool:
        face = moment.boxes[side]
        if face is None:
            return True
        others = moment.faces_besides((moment.assignment.of(side).identity,))
        around = moment.around(face, others)
        size = around.size_for(face[3] - face[1], self._aspects[side], self._settings)
        return is_apart(face, size, around, margin, tightest)


def _may_be_the_other(moment: Moment, side: Side) -> bool:
    """Whether there is a face beside this person's that may be the one whose seat is still free."""
    own = moment.boxes[side]
    if moment.assignment.of(side.other).identity or own is None:
        return False
    least = _LEAST_PARTNER * (own[3] - own[1])
    return any(
        box[3] - box[1] >= least and overlap(box, own) < SAME_PLACE for _, box in moment.faces
    )


def only_stranger(shot: Sequence[Moment]) -> Box | None:
    """The one face in the picture that stands out, though nobody knows whose it is."""
    now = next((each for each in shot if each.faces), None)
    if now is None:
        return None
    boxes = sorted((box for _, box in now.faces), key=lambda box: box[1] - box[3])
    heights = [box[3] - box[1] for box in boxes]
    content = now.picture.content_xyxy_px
    if heights[0] < _LEAST_STRANGER * (content[3] - content[1]):
        return None
    if len(heights) > 1 and heights[0] < _STRANGER_LEAD * heights[1]:
        return None
    return boxes[0]
