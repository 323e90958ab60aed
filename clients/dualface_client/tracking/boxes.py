"""Overlap of a few boxes, in plain floats."""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.types import Box


def intersection_px2(one: Box, other: Box) -> float:
    """Area that two xyxy boxes share, square pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def area_px2(box: Box) -> float:
    """Area of an xyxy box, square pixels; 0 if it is inverted."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def iou(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    shared = intersection_px2(one, other)
    return shared / (area_px2(one) + area_px2(other) - shared) if shared > 0 else 0.0


def cover(one: Box, other: Box) -> float:
    """Share of the smaller box that the other one covers, 0 to 1."""
    shared = intersection_px2(one, other)
    return shared / min(area_px2(one), area_px2(other)) if shared > 0 else 0.0


def gap_heights(one: Box, other: Box) -> float:
    """Largest axis gap between two boxes in mean heights; 0 if they touch or overlap."""
    gap = max(
        max(one[0], other[0]) - min(one[2], other[2]),
        max(one[1], other[1]) - min(one[3], other[3]),
        0.0,
    )
    return gap / max((one[3] - one[1] + other[3] - other[1]) / 2, 1.0)


def iou_rows(rows: Sequence[Box], columns: Sequence[Box]) -> list[list[float]]:
    """`iou` of every row with every column."""
    return [[iou(row, column) for column in columns] for row in rows]
