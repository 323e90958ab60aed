"""Where a crop may lie: inside its room, around its own head, and clear of other faces.

A room is the part of the source that a person's tile may show: a window of a call, or the picture
without its bars. Another face is either outside the crop or, if it is small, inside as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Box

#: How far a head reaches beyond its face box, in face widths to either side and in face heights
#: upwards and downwards: detectors' boxes end at the ears, the brow and the chin.
_HEAD_ASIDE, _HEAD_ABOVE, _HEAD_BELOW = 0.15, 0.3, 0.12
#: A face up to this share of the own face's height may be inside the crop: it reads as background.
_SMALL = 0.3
#: A face may be larger than it should by the first factor before its tile gets a surround, and must
#: be larger by the second one to keep it; a surround is then at least an eighth of the tile.
_BECOMES_FITTED, _STAYS_FITTED = 1.33, 1.15
#: What a crop's height may be multiplied with to get clear of other faces; the closest is tried
#: last.
TIGHTER = (1.0, 0.92, 0.84, 0.77, 0.7)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a person, in source pixels.

    Attributes:
        room_xyxy_px: The part of the source that may be shown.
        faces: Boxes of other people's faces in this frame.
        coming: Where those faces are now or will be in the near future.
        is_window: The room is a window of its own in the picture, with something else around it.
    """

    room_xyxy_px: Box
    faces: tuple[Box, ...] = ()
    coming: tuple[Box, ...] = ()
    is_window: bool = False

    def size_for(
        self,
        face_height_px: float,
        aspect: float,
        settings: FramingSettings,
        share: float | None = None,
        *,
        is_fitted: bool = False,
    ) -> tuple[float, float]:
        """Width and height of the crop of a face with nobody else around, see `size_for`.

        Args:
            face_height_px: Of the face.
            aspect: Width over height of the tile.
            settings: How large faces are, and how large they may become.
            share: Wanted height of the face as a share of the tile's; as set if not given.
            is_fitted: The crop has something else around it already.
        """
        largest = settings.window_share if self.is_window else settings.largest_share
        largest = max(largest, settings.face_share)
        wanted = share or settings.face_share
        patience = _STAYS_FITTED if is_fitted else _BECOMES_FITTED
        return size_for(face_height_px, wanted, aspect, self.room_wh_px, largest, patience)

    @property
    def room_wh_px(self) -> tuple[float, float]:
        """Width and height of the room."""
        left, top, right, bottom = self.room_xyxy_px
        return right - left, bottom - top


@dataclass(slots=True)
class _Range:
    """Where a crop's upper or left edge may be."""

    low: float
    high: float

    def nearest(self, value: float) -> float:
        return min(max(value, self.low), self.high)


def place(
    centre: tuple[float, float],
    size: tuple[float, float],
    face: Box | None,
    around: Surroundings,
    faces: Sequence[Box],
    margin: float,
) -> tuple[float, float] | None:
    """The centre nearest to the wanted one at which a crop shows no part of another face.

    Args:
        centre: Wanted centre x and y.
        size: Width and height of the crop, not larger than the room.
        face: The person's own face; its head stays inside as far as it fits.
        around: The room.
        faces: Faces to keep clear of.
        margin: How far to stay away from another face, in its own widths.

    Returns:
        None if there is no such place.
    """
    width, height = size
    left, top, right, bottom = around.room_xyxy_px
    across = _Range(left, max(left, right - width))
    down = _Range(top, max(top, bottom - height))
    if face is not None:
        head = _head(face)
        _contain(across, head[0], head[2], face[0], face[2], width)
        _contain(down, head[1], head[3], face[1], face[3], height)
    wanted = centre[0] - width / 2, centre[1] - height / 2
    x, y = across.nearest(wanted[0]), down.nearest(wanted[1])
    grown = [_grown(each, margin) for each in faces]
    if any(_shows(each, x, y, width, height) for each in grown):
        grown.sort(key=lambda box: _distance(box, centre))
        small = 0.0 if face is None else _SMALL * (1 + 2 * margin) * (face[3] - face[1])
        # Moving away from one may bring another one in that was outside before.
        while other := next((each for each in grown if _shows(each, x, y, width, height)), None):
            if not _avoid(other, across, down, wanted, size, other[3] - other[1] <= small):
                return None
            grown.remove(other)
            x, y = across.nearest(wanted[0]), down.nearest(wanted[1])
    return x + width / 2, y + height / 2


def _avoid(
    other: Box,
    across: _Range,
    down: _Range,
    wanted: tuple[float, float],
    size: tuple[float, float],
    may_be_inside: bool,
) -> bool:
    """Narrows the ranges by the smallest move that clears the other face; False if none does."""
    width, height = size
    moves: list[tuple[float, _Range, _Range]] = []
    for x_low, x_high, y_low, y_high in (
        (other[2], across.high, down.low, down.high),
        (across.low, other[0] - width, down.low, down.high),
        (across.low, across.high, other[3], down.high),
        (across.low, across.high, down.low, other[1] - height),
        *(((other[2] - width, other[0], other[3] - height, other[1]),) if may_be_inside else ()),
    ):
        x = _Range(max(across.low, x_low), min(across.high, x_high))
        y = _Range(max(down.low, y_low), min(down.high, y_high))
        if x.low <= x.high and y.low <= y.high:
            move = abs(x.nearest(wanted[0]) - wanted[0]) + abs(y.nearest(wanted[1]) - wanted[1])
            moves.append((move, x, y))
    if not moves:
        return False
    _, x, y = min(moves, key=lambda each: each[0])
    across.low, across.high, down.low, down.high = x.low, x.high, y.low, y.high
    return True


def _contain(
    edges: _Range, low: float, high: float, least_low: float, least_high: float, size: float
) -> None:
    """Keeps the head inside; where it does not fit, the face; where that does not, its middle."""
    for first, last in ((low, high), (least_low, least_high)):
        if last - first <= size:
            start, end = max(edges.low, last - size), min(edges.high, first)
            if start <= end:
                edges.low, edges.high = start, end
                return
    middle = edges.nearest((least_low + least_high - size) / 2)
    edges.low = edges.high = middle


def size_for(
    face_height_px: float,
    share: float,
    aspect: float,
    room_wh_px: tuple[float, float],
    largest_share: float,
    patience: float = 1.0,
) -> tuple[float, float]:
    """Width and height of the crop in which a face has a share of the tile's height.

    Where the room is too small the crop shrinks and the face grows. If it grows too much the crop
    is no longer of the tile's shape, and something else must fill the tile: never a narrow stripe,
    which would look like a bar.

    Args:
        face_height_px: Of the face.
        share: Wanted height of the face as a share of the tile's.
        aspect: Width over height of the tile.
        room_wh_px: Width and height of the room.
        largest_share: Of the tile's height, in a crop that does not fill the tile.
        patience: By what factor a face may be larger before the crop stops filling the tile.
    """
    room_w, room_h = room_wh_px
    height = face_height_px / share
    filling = min(height, room_h, room_w / aspect)
    if filling >= height or face_height_px <= patience * largest_share * filling:
        return filling * aspect, filling
    least = face_height_px / largest_share
    return min(least * aspect, room_w), min(least, room_h)


def is_apart(
    face: Box, size: tuple[float, float], around: Surroundings, margin: float, tightest: float
) -> bool:
    """Whether a tile can show this person without any part of another face.

    Args:
        face: The person's.
        size: Width and height of the crop with nobody else around.
        around: Room and other faces.
        margin: How far to stay away from another face, in its own widths.
        tightest: What the crop's height may be multiplied with to get clear of them.
    """
    if not around.faces:
        return True
    centre = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    width, height = size
    return any(
        place(centre, (width * factor, height * factor), face, around, around.faces, margin)
        for factor in (1.0, tightest)
    )


def shows_part(crop: tuple[float, float, float, float], face: Box) -> bool:
    """Whether a crop (x, y, width, height) shows a part of a face, or all of it."""
    return _shows(face, *crop)


def _shows(box: Box, x: float, y: float, width: float, height: float) -> bool:
    slack = 1e-6 * (width + height)
    across = box[2] > x + slack and box[0] < x + width - slack
    return across and box[3] > y + slack and box[1] < y + height - slack


def _grown(box: Box, margin: float) -> Box:
    aside, along = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    return box[0] - aside, box[1] - along, box[2] + aside, box[3] + along


def _head(face: Box) -> Box:
    width, height = face[2] - face[0], face[3] - face[1]
    return (
        face[0] - _HEAD_ASIDE * width,
        face[1] - _HEAD_ABOVE * height,
        face[2] + _HEAD_ASIDE * width,
        face[3] + _HEAD_BELOW * height,
    )


def _distance(box: Box, centre: tuple[float, float]) -> float:
    return abs(box[0] + box[2] - 2 * centre[0]) + abs(box[1] + box[3] - 2 * centre[1])
