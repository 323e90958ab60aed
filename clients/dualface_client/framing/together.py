"""One picture of both people: where a camera would have to look to have everybody in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualface_client.framing.moment import box_of, common_area
from dualface_client.types import Box, Person, SeatAssignment, Side

#: Largest share of the common crop's width that both faces take.
_FACES_SHARE = 0.7


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
    boxes = [box for side in Side if (box := box_of(assignment.of(side)))]
    if len(boxes) < len(Side):
        return Person(0)  # the camera keeps its crop
    rest = list(others)
    while near := [box for box in rest if common_area(box, _shown(boxes, aspect, share)) > 0]:
        boxes += near
        rest = [box for box in rest if box not in near]
    left, top, right, bottom = _union(boxes)
    middle, height = (top + bottom) / 2, _height_for(boxes, aspect, share)
    whole = np.array([left, middle - height / 2, right, middle + height / 2], np.float32)
    return Person(0, whole, 1.0)  # of nobody in particular: to and from either it glides


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
