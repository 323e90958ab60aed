"""The way from two tiles to one picture and back: one tile grows over the other."""

from __future__ import annotations

from dualface_client.framing.layouts import Choice
from dualface_client.types import Crop, Rect, SeatAssignment, Side, TileLayout


class Seam:
    """How far the canvas is on its way from two tiles (0) to one picture (1).

    Args:
        ease_s: How long the way takes.
    """

    def __init__(self, ease_s: float) -> None:
        self._ease_s = ease_s
        self._way = 0.0
        self._time_s: float | None = None
        #: Whose tile becomes the picture, or grew into it.
        self.grows = Side.LEFT

    @property
    def share(self) -> float:
        """0 for two tiles, 1 for one picture."""
        return self._way * self._way * (3.0 - 2.0 * self._way)

    def hides(self, side: Side | None) -> bool:
        """Whether a tile, or the one picture (None), is not on the canvas."""
        return self._way <= 0.0 if side is None else self._way >= 1.0

    def update(self, choice: Choice, larger: Side, time_s: float, cut: bool) -> None:
        """Moves on: at once on a cut or at the start, else within the ease.

        Args:
            choice: Where to.
            larger: Whose face is larger: that tile grows if the picture shows both or nobody.
            time_s: Presentation time in seconds, not decreasing.
            cut: True on the first frame of a new shot.
        """
        goal = 1.0 if choice.layout.is_one else 0.0
        at_once = cut or self._time_s is None or self._ease_s <= 0
        step = 1.0 if at_once else (time_s - (self._time_s or 0.0)) / self._ease_s
        self._time_s = time_s
        if goal and len(choice.sides) == 1:
            self.grows = choice.sides[0]
        elif goal and self._way <= 0.0:
            self.grows = larger
        self._way = min(self._way + step, goal) if goal else max(self._way - step, goal)


def larger_face(assignment: SeatAssignment) -> Side:
    """Whose face is larger, the left one's if both or none are."""
    heights = {
        side: 0.0 if (box := assignment.of(side).box_xyxy_px) is None else float(box[3] - box[1])
        for side in Side
    }
    return max(Side, key=lambda side: heights[side])


def tile_areas(canvas: TileLayout, grows: Side, share: float) -> dict[Side, Rect]:
    """Where the tiles are while one grows: the edge between them moves."""
    own, other, whole = canvas.area(grows), canvas.area(grows.other), canvas.whole
    beside = own.y_px == other.y_px
    length = whole.width_px if beside else whole.height_px
    sizes = [area.width_px if beside else area.height_px for area in (own, other)]
    size = _even(sizes[0] + share * (length - sizes[0]))
    rest = max(0, sum(sizes) - size)
    first = (own.x_px, own.y_px) < (other.x_px, other.y_px)
    places = {grows: (0 if first else length - size, size)}
    places[grows.other] = (length - rest if first else 0, rest)
    return {
        side: Rect(start, 0, along, whole.height_px)
        if beside
        else Rect(0, start, whole.width_px, along)
        for side, (start, along) in places.items()
    }


def between(own: Crop, common: Crop, share: float) -> Crop:
    """The crop at this share of the way from one to another."""
    pairs = zip(
        (own.x_px, own.y_px, own.width_px, own.height_px),
        (common.x_px, common.y_px, common.width_px, common.height_px),
        strict=True,
    )
    return Crop(*(first + share * (second - first) for first, second in pairs))


def shaped(crop: Crop, area: Rect) -> Crop:
    """The largest part of a crop with the area's shape, around the same centre."""
    aspect = area.width_px / area.height_px
    width = min(crop.width_px, crop.height_px * aspect)
    height = width / aspect
    return Crop(
        crop.x_px + (crop.width_px - width) / 2,
        crop.y_px + (crop.height_px - height) / 2,
        width,
        height,
    )


def _even(value: float) -> int:
    return 2 * round(value / 2)
