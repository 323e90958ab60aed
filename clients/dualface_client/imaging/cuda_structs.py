"""The structs of `kernels.cu`, and how pictures, warps and views are put into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dualface_client.imaging.geometry import (
    LARGEST_ENLARGED_STEP,
    LEAST_COVER,
    SAME_SHAPE,
    Axes,
    Backdrop,
    Matrix,
    black,
    content_of,
    refine,
    supersampling,
    thumbnail_row_step,
)
from dualface_client.types import Crop, Nv12Image, Rect, View

#: Most pictures in one launch; as in kernels.cu.
BATCH = 16
#: Most views of a canvas; as in kernels.cu.
VIEWS = 3


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
BLOCKS = _struct(
    ("source", _PICTURE), ("out", "u8"), ("corner", "i4", (2,)), ("step", "i4"), ("wh", "i4", (2,))
)
BLOCKS_BATCH = _struct(("items", BLOCKS, (BATCH,)))
CHIP = _struct(
    ("source", _PICTURE),
    ("out", "u8"),
    ("out_pitch", "i4"),
    ("size", "i4"),
    ("luma", _WARP),
    ("chroma", _WARP),
    ("rgb", "f4", (3, 4)),
)
_VIEW = _struct(
    ("starts", "f4", (4,)),
    ("steps", "f4", (2,)),
    ("reach", "i2", (4,)),
    ("area", "i2", (4,)),
    ("content", "i2", (4,)),
    ("cells", "u8"),
    ("cells_wh", "i2", (2,)),
    ("shrinks", "i4"),
)
_COMPOSE = _struct(
    ("source", _PICTURE),
    ("y", "u8"),
    ("uv", "u8"),
    ("background", "u1", (3,)),
    ("views", "u1"),
)
COMPOSE_BATCH = _struct(
    ("wh", "i4", (2,)), ("items", _COMPOSE, (BATCH,)), ("views", _VIEW, (BATCH, VIEWS))
)
_BACKDROP = _struct(
    ("source", _PICTURE),
    ("cells", "u8"),
    ("starts", "f4", (2,)),
    ("steps", "f4", (2,)),
    ("reach", "i2", (4,)),
    ("cells_wh", "i2", (2,)),
    ("black", "f4"),
)
BACKDROP_BATCH = _struct(("items", _BACKDROP, (BATCH * VIEWS,)))


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


def pictures_of(images: Sequence[Nv12Image]) -> npt.NDArray[np.void]:
    """Pictures in GPU memory as an array of `_PICTURE`.

    Raises:
        ValueError: The rows of one have gaps.
    """
    return np.array([picture_of(image) for image in images], _PICTURE)


def thumbnail_rows_of(pictures: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """The rows that thumbnails are averaged from, as `geometry.thumbnail_rows` has them.

    Args:
        pictures: From `pictures_of`.
    """
    steps = np.array([thumbnail_row_step(height) for height in pictures["height"].tolist()])
    rows = pictures.copy()
    rows["y_pitch"] *= steps
    rows["uv_pitch"] *= steps
    rows["height"] = 2 * (pictures["height"] // (2 * steps))
    return rows


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


def views_of(views: Sequence[View], sizes_wh_px: Sequence[tuple[int, int]]) -> npt.NDArray[np.void]:
    """Views as an array of `_VIEW`, without backdrops: `content_of`, `luma_axes`, `chroma_axes`.

    All at once, as most cameras move and no view is like the one before.

    Args:
        views: At least one.
        sizes_wh_px: Width and height of each one's source.
    """
    crops = np.array([_corner_and_size(view.crop) for view in views])
    areas = np.array([_corner_and_size(view.area) for view in views])
    origins, sizes, limits = crops[:, :2], crops[:, 2:], np.array(sizes_wh_px)
    contents = areas.copy()
    across_and_down = areas[:, 2:] / sizes
    has_other_shape = np.abs(across_and_down[:, 0] / across_and_down[:, 1] - 1.0) > SAME_SHAPE
    for index in np.flatnonzero(has_other_shape).tolist():
        contents[index] = _corner_and_size(content_of(views[index]))
    steps = sizes / contents[:, 2:]
    first = np.clip(np.floor(origins + LEAST_COVER), 0, limits - 1)
    last = np.clip(np.ceil(origins + sizes - LEAST_COVER) - 1, first, limits - 1)
    rows = np.zeros(len(views), _VIEW)
    rows["starts"][:, :2] = origins
    rows["starts"][:, 2] = origins[:, 0] / 2 + (1.0 - steps[:, 0]) / 4
    rows["starts"][:, 3] = origins[:, 1] / 2
    rows["steps"] = steps
    rows["reach"] = np.stack((first, last), axis=2).reshape(-1, 4)
    rows["area"], rows["content"] = areas, contents
    rows["shrinks"] = steps.max(axis=1) > LARGEST_ENLARGED_STEP
    return rows


def cells_of(backdrop: Backdrop, image: Nv12Image, cells: int) -> tuple[Any, ...]:
    """A view's backdrop as a `_BACKDROP`.

    Args:
        backdrop: Of the view.
        image: The picture.
        cells: Address of its cells.
    """
    return (
        picture_of(image),
        cells,
        [axis.start for axis in backdrop.luma],
        [axis.step for axis in backdrop.luma],
        _reach(backdrop.luma),
        backdrop.cells_wh,
        black(image.color),
    )


def _corner_and_size(part: Rect | Crop) -> tuple[float, float, float, float]:
    return part.x_px, part.y_px, part.width_px, part.height_px


def _reach(axes: Axes) -> tuple[int, ...]:
    return tuple(end for axis in axes for end in (axis.first, axis.last))
