"""Where each output pixel comes from: the same sampling rules for every device.

Letterbox: the picture is resized to the content rectangle (area mean when it shrinks, bilinear when
it grows), chroma at half the content's size and then bilinearly to full.

Tiles: the crop's top left corner lies between source pixels, so the source is first shifted to it
by bilinear interpolation onto a grid of source-sized pixels, and that grid is resized by the exact
scale (area mean when it shrinks, bicubic with a = -0.75 for luma and bilinear for chroma when it
grows). Two cheap steps place a tile to a fraction of a pixel without a general warp.

Face chips: a rotated grid. A *sampling matrix* `m`, shape `(2, 3)`, maps the integer index `(i, j)`
of an output sample to the fractional index of the source sample. Scaling down by `s` would alias,
so every sample is the mean of `n x n` bilinear samples with `n = ceil(s)`.

Indices outside the source are clamped to its border everywhere.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
import numpy.typing as npt

from dualface_client.types import ColorMatrix, ColorSpec, Crop, FloatArray

Matrix = npt.NDArray[np.float64]

#: Of the luma picture by which scene cuts are found.
THUMBNAIL_WH_PX = (32, 18)
#: Longer side of a preview, the luma picture by which motion and panels are found.
PREVIEW_LONG_SIDE_PX = 320

#: Samples per axis and chip pixel, at most: a face higher than 1000 px may alias a little.
MAX_SUPERSAMPLING = 12

#: Kr and Kb of each YCbCr matrix (ITU-R BT.601-7, BT.709-6, BT.2020-2).
LUMA_COEFFICIENTS: dict[ColorMatrix, tuple[float, float]] = {
    ColorMatrix.BT601: (0.299, 0.114),
    ColorMatrix.BT709: (0.2126, 0.0722),
    ColorMatrix.BT2020: (0.2627, 0.0593),
}


def preview_wh(source_wh_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture's preview: even, of the picture's aspect, never larger.

    Args:
        source_wh_px: Width and height of the picture, even.
    """
    scale = min(1.0, PREVIEW_LONG_SIDE_PX / max(source_wh_px))
    width, height = (max(2, 2 * round(size * scale / 2)) for size in source_wh_px)
    return width, height


@lru_cache(maxsize=16)
def rgb_matrix(color: ColorSpec) -> Matrix:
    """Affine map from 8-bit Y, Cb, Cr to 8-bit R, G, B (unclipped).

    Args:
        color: Matrix and range of the samples.

    Returns:
        Shape `(3, 4)`, read-only; the last column is the offset. From R = Y + 2(1-Kr)Cr and its
        siblings in ITU-T H.273, with 219/224 steps for limited range and 255 for full range.
    """
    kr, kb = LUMA_COEFFICIENTS[color.matrix]
    kg = 1.0 - kr - kb
    y_scale, c_scale, y_offset = (1.0, 1.0, 0.0) if color.full_range else (255 / 219, 255 / 224, 16)
    to_rgb = np.array(
        [
            [1.0, 0.0, 2 * (1 - kr)],
            [1.0, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1.0, 2 * (1 - kb), 0.0],
        ]
    ) * np.array([y_scale, c_scale, c_scale])
    offset = -to_rgb @ np.array([y_offset, 128.0, 128.0])
    matrix = np.hstack([to_rgb, offset[:, None]])
    matrix.flags.writeable = False
    return matrix


def black(color: ColorSpec) -> int:
    """Luma value of black."""
    return 0 if color.full_range else 16


def tile_scale(crop: Crop, tile_wh_px: tuple[int, int]) -> tuple[float, float]:
    """Output pixels per source pixel, horizontally and vertically."""
    return tile_wh_px[0] / crop.width_px, tile_wh_px[1] / crop.height_px


def luma_origin(crop: Crop) -> tuple[float, float]:
    """Source index of the shifted grid's first luma sample.

    Grid sample `k` is the source pixel whose left edge is at `x + k`, which is also its index.
    """
    return crop.x_px, crop.y_px


def chroma_origin(crop: Crop, scale: tuple[float, float]) -> tuple[float, float]:
    """Source index of the shifted grid's first 4:2:0 chroma sample.

    Chroma lies on every second luma column and midway between two luma rows ("left" siting, the
    default of H.264 and HEVC, ITU-T H.264 annex E), in the source and in the tile. With `s` source
    pixels per tile pixel, tile chroma `i` is tile luma `2 i`, that is source luma
    `x + (2 i + 1/2) s - 1/2`, source chroma half of that. A resize reads grid position
    `(i + 1/2) s - 1/2` for output `i`, which leaves `(x + s / 2 - 1/2) / 2 - s / 2 + 1/2`.
    """
    s = 1.0 / scale[0]
    return (crop.x_px + 0.5 * s - 0.5) / 2 - 0.5 * s + 0.5, crop.y_px / 2


def grid_size(crop_size_px: float) -> int:
    """Samples of the shifted grid along one axis: the crop and one more for interpolation."""
    return ceil(crop_size_px - 1e-6) + 1


def similarity_matrix(points_px: FloatArray, template_px: FloatArray) -> Matrix:
    """Luma sampling matrix of the upright chip that maps `points_px` onto a template.

    Least squares over rotation, uniform scale and shift (Umeyama 1991, without reflection).

    Args:
        points_px: Shape `(n, 2)`, source pixels.
        template_px: Shape `(n, 2)`, chip pixels.
    """
    source = np.asarray(points_px, np.float64)
    target = np.asarray(template_px, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_c, target_c = source - source_mean, target - target_mean
    # Chip to source as a complex number: w = sum(conj(t) s) / sum(|t|^2), by least squares.
    norm = float((target_c**2).sum())
    a = float((target_c * source_c).sum()) / norm
    b = float((target_c[:, 0] * source_c[:, 1] - target_c[:, 1] * source_c[:, 0]).sum()) / norm
    linear = np.array([[a, -b], [b, a]])
    shift = source_mean - linear @ target_mean
    # Both are pixel-edge coordinates; an index is half a pixel less.
    shift = shift + linear @ np.array([0.5, 0.5]) - 0.5
    return np.hstack([linear, shift[:, None]])


def supersampling(matrix: Matrix) -> int:
    """Samples per axis that are averaged into one output sample of this matrix."""
    scale = float(max(np.hypot(*matrix[:, 0]), np.hypot(*matrix[:, 1])))
    return min(MAX_SUPERSAMPLING, max(1, ceil(scale - 1e-6)))


def refine(matrix: Matrix, samples: int) -> Matrix:
    """The matrix of the `samples` times finer grid whose block means are the output samples."""
    step = 1.0 / samples
    centre = 0.5 * step - 0.5
    to_coarse = np.array([[step, 0.0, centre], [0.0, step, centre], [0.0, 0.0, 1.0]])
    return np.asarray(matrix @ to_coarse)


def covered_part(
    crop: Crop, source_wh_px: tuple[int, int], tile_wh_px: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part of a tile that the source covers: left, top, right, bottom in tile pixels, even.

    Where the crop lies inside the source this is the whole tile.
    """
    edges = []
    for origin, size, source, tile in (
        (crop.x_px, crop.width_px, source_wh_px[0], tile_wh_px[0]),
        (crop.y_px, crop.height_px, source_wh_px[1], tile_wh_px[1]),
    ):
        low = (0.0 - origin) / size * tile
        high = (source - origin) / size * tile
        edges.append((_even(low, tile), _even(high, tile)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _even(value: float, limit: int) -> int:
    return int(min(limit, max(0, 2 * round(value / 2))))
