"""What an editor would never show, told from the truth and from what each canvas shows; no pixels.

A frame is judged from its `FrameTruth` and the views of its canvas. Two views of equal size are two
tiles, one view over the whole canvas is one picture; anything else is a change between them, which
is only counted. Findings of a frame:

- `cut`: a tile or picture cuts a face that the source shows whole;
- `crowded`: a second face at least 0.4 times as high as the main one in a tile;
- `twice`: both tiles show the same person;
- `wrong`: a tile shows somebody else, a still face, or the other of the two;
- `empty`: a tile shows nobody, nor what hides somebody for a while;
- `bars`: a view reaches beyond the picture's content, or beyond the panel of its face;
- `missing`: one picture leaves out one of the two who are there to be seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from dualface_client.types import Box, Crop, View
from scripts.clips.truth import FrameTruth, PersonTruth, Truth

#: A face counts as seen if at least this share of it is inside the source and not hidden.
SEEN = 0.6
#: A face of which less than this lies in a view is not in it, and of which more does is whole.
OUTSIDE, INSIDE = 0.03, 0.97
#: A second face from this share of the main one's height on crowds a tile.
CROWDED_RATIO = 0.4
#: Faces lower than this share of their view are not looked at.
SMALLEST = 0.04
#: A view may reach beyond content or panel by this share of its crop's width.
SLACK = 0.01
#: Largest shake, see `EditorTally.shake`: about 4 px of a tile of 1080.
MAX_SHAKE = 0.004
#: Where eyes are, share of the face box from its top.
EYES = 0.4


@dataclass(frozen=True, slots=True)
class FaceInView:
    """One face as a view shows it.

    Attributes:
        person: Whose.
        inside: Share of its part inside the source that lies in the crop.
        height: Share of the view's height.
        eyes: Eye line from the view's top, share of its height.
        off_centre: Distance of its centre from the view's middle, share of the width.
    """

    person: PersonTruth
    inside: float
    height: float
    eyes: float
    off_centre: float


@dataclass(frozen=True, slots=True)
class Shot:
    """A judged frame.

    Attributes:
        findings: What an editor would not show; see the module's text. `wrong` is not among them.
        mains: The main face of each tile, None for nobody; empty if the canvas is not two tiles.
        crops: Of the views.
        changes: The canvas is between two layouts.
    """

    findings: frozenset[str]
    mains: tuple[FaceInView | None, ...] = ()
    crops: tuple[Crop, ...] = ()
    changes: bool = False


def judge(frame: FrameTruth, views: Sequence[View], source_wh: tuple[int, int]) -> Shot:
    """Judges one frame.

    Args:
        frame: What is true of the source's frame.
        views: Of the canvas; left before right, upper before lower.
        source_wh: Size of the source's picture in pixels.
    """
    content = frame.content or (0.0, 0.0, float(source_wh[0]), float(source_wh[1]))
    if len(views) == 1:
        return Shot(frozenset(_of_picture(frame, views[0], content)), (), (views[0].crop,))
    sizes = {(view.area.width_px, view.area.height_px) for view in views}
    if len(views) != 2 or len(sizes) > 1:
        return Shot(frozenset(), changes=True)
    mains = tuple(_main(faces_in(frame, view, content)) for view in views)
    found = {name for view in views for name in _of_tile(frame, view, content)}
    if all(mains) and len({main.person.id for main in mains if main}) == 1:
        found.add("twice")
    return Shot(frozenset(found), mains, tuple(view.crop for view in views))


def faces_in(frame: FrameTruth, view: View, content: Box) -> list[FaceInView]:
    """Faces of which something can be seen in a view, also a little."""
    faces = (_face(person, view, content) for person in frame.people if person.visible >= SEEN)
    return [face for face in faces if face.inside > OUTSIDE and face.height >= SMALLEST]


def _face(person: PersonTruth, view: View, content: Box) -> FaceInView:
    crop, area = view.crop, view.area
    scale = min(area.width_px / crop.width_px, area.height_px / crop.height_px)
    top = (area.height_px - scale * crop.height_px) / 2
    middle_x = (person.box[0] + person.box[2]) / 2
    eyes_y = person.box[1] + EYES * person.height_px
    # What the source itself cuts off is not the view's fault.
    inside = _overlap(_common(person.box, content), _edges(crop))
    return FaceInView(
        person,
        inside,
        scale * person.height_px / area.height_px,
        (top + scale * (eyes_y - crop.y_px)) / area.height_px,
        abs(middle_x - crop.x_px - crop.width_px / 2) * scale / area.width_px,
    )


def _main(faces: Sequence[FaceInView]) -> FaceInView | None:
    """The highest face, central ones first, of those that are at least half in the view."""
    there = [face for face in faces if face.inside >= 0.5]
    return max(there, key=lambda face: face.height * (1 - face.off_centre), default=None)


def _of_tile(frame: FrameTruth, view: View, content: Box) -> Iterable[str]:
    faces = faces_in(frame, view, content)
    main = _main(faces)
    if main is None:
        if not _hides_somebody(frame, view, content):
            yield "empty"
    elif sum(face.height >= CROWDED_RATIO * main.height for face in faces) > 1:
        yield "crowded"
    if any(face.inside < INSIDE for face in faces):
        yield "cut"
    if _is_beyond(frame, view, content, main):
        yield "bars"


def _hides_somebody(frame: FrameTruth, view: View, content: Box) -> bool:
    """Whether somebody is in a view behind a thing or another person: the tile waits for them."""
    behind = [p for p in frame.people if p.visible < SEEN <= p.on_screen]
    return any(_face(person, view, content).inside >= INSIDE for person in behind)


def _of_picture(frame: FrameTruth, view: View, content: Box) -> Iterable[str]:
    faces = faces_in(frame, view, content)
    if any(face.inside < INSIDE for face in faces):
        yield "cut"
    if _is_beyond(frame, view, content, None if len(faces) != 1 else faces[0]):
        yield "bars"
    shown = {face.person.id for face in faces}
    there = {p.id for p in frame.people if p.visible >= SEEN and not (p.passer_by or p.unclear)}
    if there - shown:
        yield "missing"


def _is_beyond(frame: FrameTruth, view: View, content: Box, main: FaceInView | None) -> bool:
    """Whether a view shows bars, or something besides the panel of its main face."""
    crop, slack = _edges(view.crop), SLACK * view.crop.width_px
    room = content
    if main is not None and frame.panels:
        number = main.person.panel
        room = frame.panels[number]
        over = [_common(crop, panel) for panel in frame.panels[number + 1 :]]
        if any(box[2] - box[0] > slack and box[3] - box[1] > slack for box in over):
            return True
    outside = (room[0] - crop[0], room[1] - crop[1], crop[2] - room[2], crop[3] - room[3])
    return max(outside) > slack


def _edges(crop: Crop) -> Box:
    return crop.x_px, crop.y_px, crop.x_px + crop.width_px, crop.y_px + crop.height_px


def _common(one: Box, other: Box) -> Box:
    """What two boxes share; a box without area if that is nothing."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    return left, top, max(min(one[2], other[2]), left), max(min(one[3], other[3]), top)


def _overlap(box: Box, crop: Box) -> float:
    """Share of a box that lies in a crop; 0 for a box without area."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    common = _common(box, crop)
    return (common[2] - common[0]) * (common[3] - common[1]) / area if area > 0 else 0.0


def _moved(motion: tuple[float, float], before: Crop, now: Crop) -> tuple[float, float]:
    """How far what stands still in front of the camera moved in a view, in heights of its crop."""
    x = before.x_px + before.width_px / 2 + motion[0] - now.x_px - now.width_px / 2
    y = before.y_px + before.height_px / 2 + motion[1] - now.y_px - now.height_px / 2
    return x / now.height_px, y / now.height_px


@dataclass(slots=True)
class EditorTally:
    """Judges a clip, frame by frame.

    Attributes:
        truth: Of the clip.
        canvas_aspect: Width by height of a tile, for the size that a face can have at least.
    """

    truth: Truth
    tile_aspect: float = 960 / 1080
    shots: list[tuple[FrameTruth, Shot]] = field(default_factory=list)

    def add(self, frame: FrameTruth, views: Sequence[View]) -> None:
        """Takes one frame and what its canvas shows."""
        self.shots.append((frame, judge(frame, views, self.truth.size)))

    @property
    def seats(self) -> tuple[int, int]:
        """Who should be in the first and in the second tile.

        Two who are never in the picture together have no sides of their own: those count that make
        fewer frames wrong.
        """
        seats = self.truth.expected_left, self.truth.expected_right
        together = any(
            all(frame.person(identity).on_screen > 0 for identity in seats)
            for frame in self.truth.frames
        )
        if together:
            return seats
        return min((seats, seats[::-1]), key=lambda order: len(self._wrong(order)))

    def _wrong(self, seats: tuple[int, int]) -> set[int]:
        """Frames with somebody else in a tile."""
        return {
            frame.index
            for frame, shot in self.shots
            for main, wanted in zip(shot.mains, seats, strict=False)
            if main is not None and (main.person.id != wanted or main.person.unclear)
        }

    def findings(self) -> Counter[str]:
        """Frames with each finding, with `wrong`, and `bad` for frames with any."""
        wrong = self._wrong(self.seats)
        counts: Counter[str] = Counter()
        for frame, shot in self.shots:
            names = {*shot.findings, *(["wrong"] if frame.index in wrong else [])}
            counts.update(names)
            counts["bad"] += bool(names)
        counts["changes"] = sum(shot.changes for _, shot in self.shots)
        return counts

    def problems(self, max_bad: float = 0.03, max_changes: float = 0.3) -> list[str]:
        """What keeps the clip from being shown, in words; empty for nothing.

        Args:
            max_bad: Share of frames that may have findings.
            max_changes: Share of frames in which the canvas may be between two layouts.
        """
        count = max(len(self.shots), 1)
        found = self.findings()
        told = [
            f"{name} in {found[name] / count:.0%} of the frames"
            for name, most in (("bad", max_bad), ("changes", max_changes))
            if found[name] > most * count
        ]
        if told:
            told += [f"{name}: {n}" for name, n in sorted(found.items()) if name != "bad"]
        if (shake := self.shake()) > MAX_SHAKE:
            told.append(f"the picture shakes by {shake:.4f} of its height, more than {MAX_SHAKE}")
        return [*told, *self._ill_framed()]

    def shake(self) -> float:
        """How unevenly what stands still moves on the canvas, as a share of the view's height.

        It is the 90th percentile of how much the motion from frame to frame changes: nearly 0 for a
        still or a smoothly moving picture. Cuts and changes of layout do not count.
        """
        moves: list[list[tuple[float, float]]] = [[]]
        for (last, before), (frame, now) in pairwise(self.shots):
            if last.shot != frame.shot or not now.crops or len(before.crops) != len(now.crops):
                moves.append([])
                continue
            moves[-1].append(_moved(frame.motion, before.crops[0], now.crops[0]))
        steps = [
            float(np.hypot(b[0] - a[0], b[1] - a[1])) for run in moves for a, b in pairwise(run)
        ]
        return float(np.percentile(steps, 90)) if steps else 0.0

    def _ill_framed(self) -> list[str]:
        """Medians over the tiles of each person, and of pairs, that are out of range."""
        told = []
        for identity in self.seats:
            mains = [
                (frame, main)
                for frame, shot in self.shots
                for main in shot.mains
                if main is not None and main.person.id == identity and main.inside >= INSIDE
            ]
            if not mains:
                continue
            height = float(np.median([main.height for _, main in mains]))
            least = float(np.median([self._least_height(frame, main) for frame, main in mains]))
            eyes = float(np.median([main.eyes for _, main in mains]))
            lowest = float(np.median([self._highest_eyes(frame, main) for frame, main in mains]))
            if not 0.28 <= height <= max(0.42, 1.05 * least):
                told.append(f"person {identity}'s face is {height:.2f} of the tile, not 0.28..0.42")
            if not 0.30 <= eyes <= max(0.45, lowest + 0.02):
                told.append(f"person {identity}'s eyes are at {eyes:.2f}, not 0.30..0.45")
        ratios = [
            max(a.height, b.height) / min(a.height, b.height)
            for _, shot in self.shots
            if len(pair := [main for main in shot.mains if main]) == 2
            for a, b in [pair]
        ]
        if ratios and float(np.median(ratios)) > 1.3:
            told.append(f"the pair's faces differ by {np.median(ratios):.2f}, more than 1.3")
        return told

    def _least_height(self, frame: FrameTruth, main: FaceInView) -> float:
        """A face's share of its tile if the crop is as large as its room allows."""
        room = self._room(frame, main.person)
        width, height = room[2] - room[0], room[3] - room[1]
        return main.person.height_px / min(height, width / self.tile_aspect)

    def _highest_eyes(self, frame: FrameTruth, main: FaceInView) -> float:
        """The eye line of a face so low in its room that the crop ends where the room does."""
        person, room = main.person, self._room(frame, main.person)
        crop_height = person.height_px / main.height
        eyes_y = person.box[1] + EYES * person.height_px
        return 1 - (room[3] - eyes_y) / crop_height

    def _room(self, frame: FrameTruth, person: PersonTruth) -> Box:
        if frame.panels:
            return frame.panels[person.panel]
        return frame.content or (0.0, 0.0, float(self.truth.size[0]), float(self.truth.size[1]))
