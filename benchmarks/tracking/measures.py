"""What a viewer would notice, measured against the truth.

A tile shows the person whose face is nearest to its middle line, among the faces that lie inside
its crop and can be seen to at least half. A frame counts where both faces can be seen to at least
80 %, and it is right where each tile shows its own person: the rule of `scripts/clips/tiles.py`,
which looks at pixels, applied to what is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np

from benchmarks.tracking.replay import Played
from dualface_client.types import Crop, TileLayout
from scripts.clips.truth import FrameTruth, PersonTruth, Truth

#: Both faces at least so visible: the frame counts.
COUNTED_VISIBLE = 0.8
#: A face that is seen less than this is nobody's main face.
SHOWN_VISIBLE = 0.5
#: The middle part of a tile in which a face's centre counts as centred.
CENTRAL_SHARE = 0.4
#: A camera that keeps a neighbour's face out moves away before it comes, and back after it.
AROUND_S = 0.5


@dataclass(frozen=True, slots=True)
class TileCounts:
    """Counts of one clip, to be added up.

    Attributes:
        counted: Frames that count.
        right: Of these, frames in which each tile shows its own person.
        sides_right: Of these, frames in which no side is assigned the other person's face.
        swaps: Times at which the tiles began to show somebody else.
        lost_s: Seconds until they were right again, summed over the swaps.
        seconds: Length of all clips.
        frames: All frames.
        reid_frames: Frames with a ReID request.
        reid_faces: Embeddings.
        tiles: Tiles of the frames that count.
        centred: Of these, tiles with the own face's centre in the middle 40 %.
        uncentred: Of the others, tiles in which it could have been there: the source's edge is not
            in the way.
        beside: Of these, tiles that would then show a part of somebody else's face, at that moment
            or within half a second of it.
    """

    counted: int = 0
    right: int = 0
    sides_right: int = 0
    swaps: int = 0
    lost_s: float = 0.0
    seconds: float = 0.0
    frames: int = 0
    reid_frames: int = 0
    reid_faces: int = 0
    tiles: int = 0
    centred: int = 0
    uncentred: int = 0
    beside: int = 0

    def __add__(self, other: TileCounts) -> TileCounts:
        return TileCounts(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )

    @property
    def accuracy(self) -> float:
        """Tile accuracy, 0 to 1."""
        return self.right / max(self.counted, 1)

    @property
    def reid_share(self) -> float:
        """Share of frames with ReID."""
        return self.reid_frames / max(self.frames, 1)

    @property
    def reid_per_minute(self) -> float:
        """ReID requests per minute of video."""
        return 60.0 * self.reid_frames / max(self.seconds, 1e-9)

    @property
    def swaps_per_hour(self) -> float:
        """Swaps per hour of video."""
        return 3600.0 * self.swaps / max(self.seconds, 1e-9)

    @property
    def recover_s(self) -> float:
        """Mean seconds from a swap until it is put right (or the clip ends)."""
        return self.lost_s / max(self.swaps, 1)

    @property
    def centred_share(self) -> float:
        """Share of tiles in which the own face is central."""
        return self.centred / max(self.tiles, 1)

    @property
    def centred_share_off_edge(self) -> float:
        """The same without the tiles in which the source's edge forbids it."""
        return self.centred / max(self.centred + self.uncentred, 1)

    @property
    def centred_share_alone(self) -> float:
        """The same without those in which a neighbour's face is in the way, too."""
        return self.centred / max(self.centred + self.uncentred - self.beside, 1)


def total(parts: Iterable[TileCounts]) -> TileCounts:
    """All clips in one."""
    return sum(parts, TileCounts())


def count_tiles(played: Played, truth: Truth) -> TileCounts:
    """Judges a clip."""
    owners = (truth.expected_left, truth.expected_right)
    step_s = float(1 / Fraction(truth.fps))
    counted = right = sides_right = swaps = centred = uncentred = beside = 0
    lost_s = 0.0
    swapped = False
    neighbours = _neighbours(played, truth, owners)
    for frame, crops, shown, near in zip(
        truth.frames, played.crops, played.shown, neighbours, strict=True
    ):
        if not frame.all_visible(COUNTED_VISIBLE):
            continue
        counted += 1
        good = all(main_face(frame, crop) == who for crop, who in zip(crops, owners, strict=True))
        right += good
        boxes = (shown.left.box_xyxy_px, shown.right.box_xyxy_px)
        sides_right += not any(
            _is_other(frame, who, box) for who, box in zip(owners, boxes, strict=True)
        )
        for who, crop, is_near in zip(owners, crops, near, strict=True):
            central = _is_central(frame.person(who), crop)
            missed = not central and _could_be_central(frame.person(who), crop, truth.size)
            centred += central
            uncentred += missed
            beside += missed and is_near
        swaps += not good and not swapped
        swapped = not good
        lost_s += 0.0 if good else step_s
    return TileCounts(
        counted,
        right,
        sides_right,
        swaps,
        lost_s,
        truth.frame_count * step_s,
        truth.frame_count,
        sum(count > 0 for count in played.reid_faces),
        sum(played.reid_faces),
        2 * counted,
        centred,
        uncentred,
        beside,
    )


def _neighbours(played: Played, truth: Truth, owners: tuple[int, int]) -> list[tuple[bool, ...]]:
    """Of each frame's tiles: is a neighbour in the way of the middle, now or about now?"""
    now = [
        [_is_in_the_way(frame, who, crop) for who, crop in zip(owners, crops, strict=True)]
        for frame, crops in zip(truth.frames, played.crops, strict=True)
    ]
    reach = round(AROUND_S * Fraction(truth.fps))
    return [
        tuple(map(any, zip(*now[max(0, index - reach) : index + reach + 1], strict=True)))
        for index in range(len(now))
    ]


def _is_in_the_way(frame: FrameTruth, who: int, crop: Crop) -> bool:
    """Whether every crop of this size with the face in its middle shows a part of another face."""
    own = next((person for person in frame.people if person.id == who), None)
    if own is None:
        return False
    x, y = (own.box[0] + own.box[2]) / 2, (own.box[1] + own.box[3]) / 2
    reach = 0.5 - CENTRAL_SHARE / 2  # what every such crop shows around the face's centre
    aside, along = reach * crop.width_px, reach * crop.height_px
    return any(
        box[0] < x + aside and box[2] > x - aside and box[1] < y + along and box[3] > y - along
        for box in (each.box for each in frame.people if each.id != who and each.visible > 0)
    )


def main_face(frame: FrameTruth, crop: Crop) -> int:
    """Whom a crop shows; 0 for nobody."""
    inside = [
        (abs(x - 0.5), person.id)
        for person in frame.people
        if person.visible >= SHOWN_VISIBLE
        and 0 <= (x := _place(person, crop)[0]) <= 1
        and 0 <= _place(person, crop)[1] <= 1
    ]
    return min(inside)[1] if inside else 0


def _place(person: PersonTruth, crop: Crop) -> tuple[float, float]:
    """A face's centre as shares of a crop."""
    x1, y1, x2, y2 = person.box
    return (
        ((x1 + x2) / 2 - crop.x_px) / crop.width_px,
        ((y1 + y2) / 2 - crop.y_px) / crop.height_px,
    )


def _is_central(person: PersonTruth, crop: Crop) -> bool:
    return all(abs(place - 0.5) <= CENTRAL_SHARE / 2 for place in _place(person, crop))


def _could_be_central(person: PersonTruth, crop: Crop, size_wh: tuple[int, int]) -> bool:
    """Whether a crop of this size has room on all sides to centre the face."""
    x1, y1, x2, y2 = person.box
    return all(
        (0.5 - CENTRAL_SHARE / 2) * length <= place <= limit - (0.5 - CENTRAL_SHARE / 2) * length
        for place, length, limit in (
            ((x1 + x2) / 2, crop.width_px, size_wh[0]),
            ((y1 + y2) / 2, crop.height_px, size_wh[1]),
        )
    )


def _is_other(frame: FrameTruth, who: int, box: object) -> bool:
    """Whether a side's box is nearer to somebody else's face than to its own person's."""
    if box is None:
        return False
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    distances = {
        person.id: np.hypot(
            (person.box[0] + person.box[2] - x1 - x2), (person.box[1] + person.box[3] - y1 - y2)
        )
        for person in frame.people
    }
    return min(distances, key=lambda key: float(distances[key])) != who


def tile_motion_px(played: Played) -> tuple[list[float], list[float]]:
    """How a point of the source moves in the tiles, output pixels per frame.

    Returns:
        Of every tile and frame, for the point in the middle of the crop: the step from the frame
        before, and the change of that step (second difference: what the eye sees as jitter). Zoom
        counts as the motion that it causes at the tile's corner.
    """
    tile_w, _ = TileLayout().tile_wh_px
    motion: list[float] = []
    jitter: list[float] = []
    for side in (0, 1):
        edges = np.array(
            [
                (c.x_px, c.y_px, c.x_px + c.width_px, c.y_px + c.height_px)
                for c in (pair[side] for pair in played.crops)
            ]
        )
        scale = tile_w / (edges[:-1, 2] - edges[:-1, 0])
        steps = np.diff(edges, axis=0) * scale[:, None]
        corners = np.hypot(np.abs(steps[:, ::2]).max(axis=1), np.abs(steps[:, 1::2]).max(axis=1))
        motion += corners.tolist()
        changes = np.diff(steps, axis=0)
        jitter += np.hypot(
            np.abs(changes[:, ::2]).max(axis=1), np.abs(changes[:, 1::2]).max(axis=1)
        ).tolist()
    return motion, jitter
