"""How sharp a face is, on the host or on a GPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dualface_client.types import FloatArray, Nv12Image

#: A face is measured with about this many rows, as many as the recognition network can use.
_ROWS = 80
#: Sensor noise and coding noise of a flat face, as a variance of the averaged grey levels.
_NOISE = 4.0


class Blocks(NamedTuple):
    """Square parts of a picture whose means are a smaller picture.

    Attributes:
        left_px: Left end of the first one.
        top_px: Its upper end.
        step_px: Width and height of each.
        columns: How many there are side by side, at least 3.
        rows: How many there are above each other, at least 3.
    """

    left_px: int
    top_px: int
    step_px: int
    columns: int
    rows: int


def blocks_of(size_wh_px: tuple[int, int], box_xyxy_px: FloatArray) -> Blocks | None:
    """What a face is averaged down to: about 80 rows; None for a face that is too small for that.

    Args:
        size_wh_px: Width and height of the picture.
        box_xyxy_px: Shape `(4,)`, source pixels; may reach beyond the picture.
    """
    left, top, right, bottom = (round(float(value)) for value in box_xyxy_px)
    step = max(1, round((bottom - top) / _ROWS))
    x, y = max(left, 0), max(top, 0)
    columns = (min(right, size_wh_px[0]) - x) // step
    rows = (min(bottom, size_wh_px[1]) - y) // step
    return None if rows < 3 or columns < 3 else Blocks(x, y, step, columns, rows)


def detail(means: FloatArray) -> float:
    """Fine detail relative to all contrast.

    Variance of the 4-neighbour Laplacian over the variance of the luma.

    Args:
        means: Shape `(rows, columns)`, float32, of a face's blocks.

    Returns:
        0 (flat) to about 1; 0.02 and less is a clearly blurred face.
    """
    inner = means[1:-1, 1:-1]
    around = means[:-2, 1:-1] + means[2:, 1:-1] + means[1:-1, :-2] + means[1:-1, 2:]
    return float((around - 4 * inner).var() / (means.var() + _NOISE))


def face_sharpness(image: Nv12Image, box_xyxy_px: FloatArray) -> float:
    """`detail` of a face, averaged down so that neither its size nor the light matters.

    Args:
        image: The picture, on the host.
        box_xyxy_px: Shape `(4,)`, source pixels; may reach beyond the picture.

    Returns:
        As `detail`; 0 outside of the picture too.
    """
    blocks = blocks_of(image.size_wh_px, box_xyxy_px)
    if blocks is None:
        return 0.0
    left, top, step, columns, rows = blocks
    luma = image.y[top : top + rows * step, left : left + columns * step]
    parts = luma.reshape(rows, step, columns, step)
    return detail(parts.mean(axis=(1, 3), dtype=np.float32))
