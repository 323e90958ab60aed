"""The windows around the faces of one moment: rectangles whose sides are all borders.

Only windows with a face in them matter, so the search starts at each face: the smallest rectangle
around it that lies on a plain surface, or else whose sides are borders or the picture's own edges.
Rectangles and faces are in samples of the preview; sides are numbered left, top, right, bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

import numpy as np

from dualface_client.picture.borders import Border, Evidence, Lines, is_same_level
from dualface_client.types import Box, FloatArray

_MOST_CANDIDATES = 6
#: Of the rectangles around a face. Where faces filled the windows of a call, the window was the 9th
#: to the 66th, by size.
_MOST_CHECKED = 64
#: Smallest window, in samples, and how elongated it may be.
_MIN_SIDE = 16
_MAX_ASPECT = 3.6
#: How far from the picture's edge a border is at least, in samples.
_FROM_EDGE = 3
#: A window may cut its face's box, which is partly a guess, by this share of its size, not more.
_CUT_ACROSS, _CUT_DOWN = 0.15, 0.3
#: A window on a surface is taken for a smaller one in it that is not, up to so many times as large:
#: the smaller one may end at a line in the window, or lie beside others without a gap.
_MOST_LARGER = 1.6
#: How far a window is set in from its border, in samples.
_INSET = 0.4
#: Share of a side that has to step where the window begins on its surface.
_MIN_TRIMMED_COVER = 0.5
#: Two windows with one border between them are at most this far apart, in samples.
_MAX_GAP = 4.0
#: How far beside the middle of the picture a border, or the middle between two, may lie, in
#: samples, and along how much of its length a border steps that is a window's only one.
_MIDDLE_WITHIN, _LONE_COVER = 2.0, 0.85
#: Share of the last quarter towards the picture's edge along which a window that ends there steps
#: against the surface beside it: a board on the wall ends before.
_LAST_QUARTER_COVER = 0.6
#: Share of its length along which a border of a window that was found before still steps.
_STILL_COVER = 0.75

_SIDES = range(4)
LEFT_OR_TOP = (0, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """A window, in samples, with its sides inside its borders.

    Attributes:
        box: Left, top, right, bottom.
        sides: The border of each side; None where it is the picture's edge.
    """

    box: Box
    sides: tuple[Border | None, ...]

    @property
    def is_on_surface(self) -> bool:
        """Whether the same plain surface lies beyond all of its sides, which is no accident."""
        levels = [None if side is None else side.outside_level for side in self.sides]
        return all(is_same_level(level, levels[0]) for level in levels)

    @property
    def cover(self) -> float:
        """Share of its worst border's length that steps, 0 to 1."""
        return min(side.cover for side in self.sides if side is not None)


class Look:
    """A search in what was seen so far.

    Args:
        evidence: Of at least one frame.
        face_boxes: Shape `(n, 4)` xyxy, samples.
    """

    def __init__(self, evidence: Evidence, face_boxes: FloatArray) -> None:
        self._evidence, self._faces = evidence, face_boxes
        self._edges = (0, 0, *evidence.size_wh)

    @cached_property
    def _lines(self) -> tuple[Lines, Lines]:
        return self._evidence.lines()  # of no use where there is no face and no known window

    def windows(self, known: Sequence[Window] = ()) -> list[Window]:
        """The windows around the faces, each once.

        Args:
            known: What is there for certain; nothing is looked for around faces in it.
        """
        found = list(known)
        for face in self._faces:
            if not any(_holds(window.box, face) for window in found):
                window = self._around(face)
                found += [] if window is None else [window]
        size_wh = self._edges[2:]
        new = found[len(known) :]
        return [window for window in new if _is_plausible(window, found, size_wh)]

    def is_there(self, window: Window) -> bool:
        """Whether the borders of a window that was found before still step."""
        box = [round(edge) for edge in window.box]
        for side, border in enumerate(window.sides):
            if border is None:
                continue
            lines = self._lines[side % 2]
            near = np.clip(int(border.at) + np.array([-1, 0, 1]), 0, lines.count - 1)
            cover = lines.cover(near, box[1 - side % 2], box[3 - side % 2])
            if float(cover.max()) < _STILL_COVER * border.cover:
                return False
        return True

    def _around(self, face: FloatArray) -> Window | None:
        x1, y1, x2, y2 = (round(edge) for edge in face)
        if not self._evidence.is_alive((x1, y1, x2, y2)):
            return None  # a photo
        smallest = None
        for rectangle in self._rectangles(self._candidates(face)):
            window = self._window(rectangle, _core(face))
            if window is None or _cuts_a_face(window.box, self._faces):
                continue
            smallest = smallest or window
            is_much_larger = _area(window.box) > _MOST_LARGER * _area(smallest.box)
            if window.is_on_surface and not is_much_larger:
                return window
        return smallest

    def _candidates(self, face: FloatArray) -> list[list[int]]:
        """Where each side of a window around a face may be; the picture's edge is always one."""
        core = [int(edge) for edge in _core(face)]
        found = []
        for side in _SIDES:
            lines = self._lines[side % 2]
            before, after = core[1 - side % 2], core[3 - side % 2]
            reach = (after - before) // 2  # what else the window shows of the person
            start = max(before - reach, 0)
            end = min(after + (reach if side % 2 else 2 * reach), self._lines[1 - side % 2].count)
            if side in LEFT_OR_TOP:
                where = range(_FROM_EDGE, core[side])
            else:
                where = range(core[side] + 1, lines.count - _FROM_EDGE)
            columns = lines.candidates(where, start, end, _inside(side), _MOST_CANDIDATES)
            found.append([*columns, self._edges[side]])
        return found

    def _rectangles(self, candidates: list[list[int]]) -> list[tuple[int, ...]]:
        """Rectangles of these sides that step along all of them, smallest first."""
        table = np.stack(np.meshgrid(*candidates, indexing="ij", copy=False)).reshape(
            len(_SIDES), -1
        )
        width, height = table[2:] - table[:2]
        short = np.minimum(width, height)
        good = (short >= _MIN_SIDE) & (np.maximum(width, height) <= _MAX_ASPECT * short)
        good[-1] = False  # the whole picture
        table = table[:, good]
        for side in _SIDES:
            at, start, end = (table[k] for k in (side, 1 - side % 2, 3 - side % 2))
            lines = self._lines[side % 2]
            abrupt = lines.is_abrupt(np.minimum(at, lines.count - 1), start, end, _inside(side))
            table = table[:, abrupt | (at == self._edges[side])]
        width, height = table[2:] - table[:2]
        order = np.argsort(width * height, kind="stable")[:_MOST_CHECKED]
        return [tuple(row) for row in table[:, order].T.tolist()]

    def _window(self, rectangle: tuple[int, ...], core: Box) -> Window | None:
        """The rectangle as a window, if each of its sides is a border or the picture's edge."""
        sides: list[Border | None] = []
        for side in _SIDES:
            at, start, end = (rectangle[k] for k in (side, 1 - side % 2, 3 - side % 2))
            if at == self._edges[side]:
                sides.append(None)
                continue
            border = self._lines[side % 2].border(at, start, end, _inside(side))
            if border is None:
                return None
            sides.append(border)
        if not self._go_on_to_the_edges(rectangle, sides):
            return None
        places = [
            float(edge) if border is None else border.at
            for border, edge in zip(sides, self._edges, strict=True)
        ]
        if not self._trim(places, sides, core):
            return None
        left, top, right, bottom = (
            place if border is None else place + _INSET * _inside(side)
            for side, (place, border) in enumerate(zip(places, sides, strict=True))
        )
        return Window((left, top, right, bottom), tuple(sides))

    def _go_on_to_the_edges(self, rectangle: tuple[int, ...], sides: list[Border | None]) -> bool:
        """Whether a window steps against a surface up to the picture's edges at which it ends."""
        edges = [side for side in _SIDES if sides[side] is None]
        on_surface = [
            side for side, border in enumerate(sides) if border and border.outside_level is not None
        ]
        for edge in edges:
            for side in (side for side in on_surface if side % 2 != edge % 2):
                start, end = rectangle[1 - side % 2], rectangle[3 - side % 2]
                quarter = (end - start) // 4
                part = (start, start + quarter) if edge in LEFT_OR_TOP else (end - quarter, end)
                cover = self._lines[side % 2].cover(rectangle[side], *part)
                if float(cover) < _LAST_QUARTER_COVER:
                    return False
        return True

    def _trim(self, places: list[float], sides: list[Border | None], core: Box) -> bool:
        """Takes away what the rectangle shows of the surface that its window lies on.

        Where a window is as dark as the surface it has no border, and the next thing outside, or
        the picture's edge, is taken for it.

        Returns:
            Whether the picture steps where the window now ends.
        """
        around = [
            self._inner_level(places, side) if border is None else border.outside_level
            for side, border in enumerate(sides)
        ]
        for side, border in enumerate(sides):
            others = [level for level in around[:side] + around[side + 1 :] if level is not None]
            surface = next((level for level in others if _count(others, level) >= 2), None)
            if border is None and any(is_same_level(around[side], level) for level in others):
                surface = around[side]
            if surface is None:
                continue
            end = self._end_towards(side, places, core, surface)
            if end is None:
                continue
            places[side] = end
            if not self._steps(places, side):
                return False
            sides[side] = Border(end, _MIN_TRIMMED_COVER, surface)
        return True

    def _end_towards(
        self, side: int, places: list[float], core: Box, surface: float
    ) -> float | None:
        """Where the surface begins, from the face towards a side; None if it does not."""
        start, end = round(places[1 - side % 2]), round(places[3 - side % 2])
        if side in LEFT_OR_TOP:
            columns = range(int(core[side]), ceil(places[side]) - 1, -1)
        else:
            columns = range(ceil(core[side]), floor(places[side]))
        column = self._lines[side % 2].first_of_level(columns, start, end, surface)
        if column is None:
            return None
        return float(column + 1 if side in LEFT_OR_TOP else column)

    def _inner_level(self, places: list[float], side: int) -> float | None:
        """Level of the line just inside of a side, None if it is not plain."""
        start, end = round(places[1 - side % 2]), round(places[3 - side % 2])
        first = ceil(places[side]) if side in LEFT_OR_TOP else floor(places[side]) - 1
        return self._lines[side % 2].level(first, start, end)

    def _steps(self, places: list[float], side: int) -> bool:
        """Whether the picture steps along much of a side, at it or a sample beside it."""
        lines = self._lines[side % 2]
        near = np.clip(round(places[side]) + np.array([-1, 0]), 1, lines.count - 2)
        start, end = (np.array(round(places[k])) for k in (1 - side % 2, 3 - side % 2))
        return bool(lines.is_abrupt(near, start, end, _inside(side), _MIN_TRIMMED_COVER).any())


def _inside(side: int) -> int:
    """Direction from a side into its window."""
    return 1 if side in LEFT_OR_TOP else -1


def _count(levels: list[float], level: float) -> int:
    return sum(is_same_level(level, other) for other in levels)


def _is_plausible(window: Window, found: list[Window], size_wh: tuple[int, int]) -> bool:
    """Whether the borders of a window are enough of them.

    One line across the picture, or two, are edges like any other in a room, unless there is a
    window on the other side too, the line halves the picture, or the two lie on a surface or in
    its middle. A single line has to step nearly everywhere.
    """
    borders = [side for side, border in enumerate(window.sides) if border is not None]
    if len({side % 2 for side in borders}) > 1:  # upright and level ones
        return True
    is_shared = any(_is_shared(window, side, found) for side in borders)
    axis = borders[0] % 2
    middle = size_wh[axis] / 2
    if len(borders) == 1:
        is_half = abs(window.box[borders[0]] - middle) <= _MIDDLE_WITHIN
        return (is_shared or is_half) and window.cover >= _LONE_COVER
    if is_shared:
        return True
    on_surface = all(border is None or border.outside_level is not None for border in window.sides)
    centre = (window.box[axis] + window.box[2 + axis]) / 2
    return on_surface or abs(centre - middle) <= _MIDDLE_WITHIN


def _is_shared(window: Window, side: int, found: list[Window]) -> bool:
    """Whether another window begins at a border of this one."""
    opposite = (side + 2) % 4
    return any(
        other is not window
        and other.sides[opposite] is not None
        and abs(other.box[opposite] - window.box[side]) < _MAX_GAP
        for other in found
    )


def _core(face: FloatArray) -> Box:
    """The part of a face box that a window shows if the face is in it."""
    x1, y1, x2, y2 = (float(edge) for edge in face)
    cut_x, cut_y = _CUT_ACROSS * (x2 - x1), _CUT_DOWN * (y2 - y1)
    return x1 + cut_x, y1 + cut_y, x2 - cut_x, y2 - cut_y


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _holds(box: Box, face: FloatArray) -> bool:
    x, y = float(face[0] + face[2]) / 2, float(face[1] + face[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _cuts_a_face(box: Box, faces: FloatArray) -> bool:
    """Whether the core of a face is neither nearly inside nor nearly outside."""
    for face in faces:
        x1, y1, x2, y2 = _core(face)
        across = max(0.0, min(x2, box[2]) - max(x1, box[0]))
        down = max(0.0, min(y2, box[3]) - max(y1, box[1]))
        if 0.05 < across * down / max((x2 - x1) * (y2 - y1), 1e-6) < 0.95:
            return True
    return False
