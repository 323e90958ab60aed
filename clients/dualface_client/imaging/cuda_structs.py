"""The structs of `kernels.cu`, and how pictures, warps and tiles are put into them."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from dualface_client.imaging.geometry import (
    Matrix,
    chroma_origin,
    covered_part,
    grid_size,
    luma_origin,
    refine,
    supersampling,
    tile_scale,
)
from dualface_client.types import Crop, Nv12Image

#: Most pictures in one launch; as in kernels.cu.
BATCH = 16


def _struct(*fields: tuple[Any, ...]) -> np.dtype[np.void]:
    """A C struct as the device compiler lays it out."""
    return np.dtype(list(fields), align=True)


_PICTURE = _struct(
    ("y", "u8"),
    ("uv", "u8"),
    ("y_pitch", "i4"),
    ("uv_pitch", "i4"),
    ("width", "i4"),
    ("height", "i4"),
)
_LETTERBOX = _struct(
    ("source", _PICTURE),
    ("out", "u8"),
    ("out_pitch", "i4"),
    ("out_wh", "i4", (2,)),
    ("content_xywh", "i4", (4,)),
    ("rgb", "f4", (3, 4)),
)
LETTERBOX_BATCH = _struct(("items", _LETTERBOX, (BATCH,)))
_MEANS = _struct(("source", _PICTURE), ("out", "u8"), ("wh", "i4", (2,)))
MEANS_BATCH = _struct(("items", _MEANS, (BATCH,)))
_WARP = _struct(("matrix", "f4", (2, 3)), ("samples", "i4"))
CHIP = _struct(
    ("source", _PICTURE),
    ("out", "u8"),
    ("out_pitch", "i4"),
    ("size", "i4"),
    ("luma", _WARP),
    ("chroma", _WARP),
    ("rgb", "f4", (3, 4)),
)
_AXIS = _struct(("origin", "i4"), ("fraction", "f4"), ("step", "f4"), ("grid", "i4"))
_TILE = _struct(("axes", _AXIS, (4,)), ("covered", "i4", (4,)), ("shrinks", "i4"))
_COMPOSE = _struct(
    ("source", _PICTURE),
    ("y", "u8"),
    ("uv", "u8"),
    ("wh", "i4", (2,)),
    ("black", "i4"),
    ("tiles", _TILE, (2,)),
)
COMPOSE_BATCH = _struct(("items", _COMPOSE, (BATCH,)))


def picture_of(image: Nv12Image) -> tuple[int, ...]:
    """A picture in GPU memory as a `_PICTURE`.

    Raises:
        ValueError: Its rows have gaps.
    """
    y, uv = image.y, image.uv
    if y.strides[1] != 1 or uv.strides[1:] != (2, 1):
        raise ValueError(
            f"NV12 planes with strides {y.strides} and {uv.strides}: rows must have no gaps"
        )
    height, width = y.shape
    return (y.data.ptr, uv.data.ptr, y.strides[0], uv.strides[0], width, height)


def row_pitch_of(out_rgb: Any) -> int:
    """Bytes from row to row of a target in GPU memory, shape `(..., height, width, 3)`.

    Raises:
        ValueError: It is not uint8 RGB, or its rows have gaps.
    """
    if out_rgb.strides[-2:] != (3, 1) or out_rgb.dtype != np.uint8:
        raise ValueError(
            f"target of {out_rgb.dtype} with strides {out_rgb.strides}: "
            "expected uint8 RGB rows without gaps"
        )
    return int(out_rgb.strides[-3])


def warp_of(matrix: Matrix) -> tuple[Matrix, int]:
    """A warp from target to source pixels, with as many samples as its scale needs."""
    samples = supersampling(matrix)
    return refine(matrix, samples), samples


def tile_of(
    crop: Crop, source_wh_px: tuple[int, int], tile_wh_px: tuple[int, int]
) -> tuple[Any, ...]:
    """A tile of the canvas as a `_TILE`: where its pixels come from, and which part is covered."""
    scale = tile_scale(crop, tile_wh_px)
    luma, chroma = luma_origin(crop), chroma_origin(crop, scale)
    width, height = crop.width_px, crop.height_px
    axes = [
        _axis(luma[0], scale[0], width),
        _axis(luma[1], scale[1], height),
        _axis(chroma[0], scale[0], width / 2),
        _axis(chroma[1], scale[1], height / 2),
    ]
    return axes, covered_part(crop, source_wh_px, tile_wh_px), min(scale) < 1.0


def _axis(origin: float, scale: float, size: float) -> tuple[int, float, float, int]:
    whole = floor(origin)
    return whole, origin - whole, 1.0 / scale, grid_size(size)
