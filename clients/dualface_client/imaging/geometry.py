"""Where each output pixel comes from: the same sampling rules for every device.

Letterbox: the picture is resized to the content rectangle (area mean when it shrinks, bilinear when
it grows), chroma at half the content's size and then bilinearly to full.

Views: each drawn sample is a weighted sum of the source samples around its place, first sideways,
then downwards, with the place taken exactly. Luma is enlarged by Lanczos with a = 4, chroma by
linear interpolation (it has half the detail, and coloured edges must not ring); both shrink to area
means. Samples beyond the crop are never read: its outermost ones are repeated.

A crop that has not its area's shape is fitted into it. The rest of the area shows the backdrop: the
part of the crop that covers the area, averaged to a coarse grid of cells, darkened, and enlarged by
a cubic B-spline, which passes through none of the cells and so blurs and enlarges in one step.

Face chips: a rotated grid. A *sampling matrix* `m`, shape `(2, 3)`, maps the integer index `(i, j)`
of an output sample to the fractional index of the source sample. Scaling down by `s` would alias,
so every sample is the mean of `n x n` bilinear samples with `n = ceil(s)`.

Indices outside the source are clamped to its border everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from dualface_client.types import (
    ByteArray,
    ColorMatrix,
    ColorSpec,
    Crop,
    FloatArray,
    Letterbox,
    Nv12Image,
    Rect,
    View,
)

Matrix = npt.NDArray[np.float64]

#: Of the picture by which scene cuts are found.
THUMBNAIL_WH_PX = (64, 36)
#: Luma rows from which thumbnails are averaged: of a larger picture every n-th row is left, because
#: reading all rows of 1080p takes a CPU three times as long and changes no decision.
_THUMBNAIL_ROWS = 360
#: Longer side of a preview, the luma picture by which motion and panels are found.
PREVIEW_LONG_SIDE_PX = 320

#: Samples per axis and chip pixel, at most: a face higher than 1000 px may alias a little.
MAX_SUPERSAMPLING = 12

#: A source sample that is covered to a smaller part does not belong to a crop.
LEAST_COVER = 1e-3
#: A crop fills its area if their aspects differ by at most this share.
SAME_SHAPE = 0.01

#: Up to this many source samples per drawn one, a plane is enlarged, so that a picture shown at its
#: own size stays sharp however its size was rounded.
LARGEST_ENLARGED_STEP = 1.05

#: Cells of a backdrop along the longer side of its area, at most.
MOST_CELLS = 16

#: Brightness of a backdrop, of the picture's; as in kernels.cu.
BACKDROP_GAIN = 0.6

#: Kr and Kb of each YCbCr matrix (ITU-R BT.601-7, BT.709-6, BT.2020-2).
LUMA_COEFFICIENTS: dict[ColorMatrix, tuple[float, float]] = {
    ColorMatrix.BT601: (0.299, 0.114),
    ColorMatrix.BT709: (0.2126, 0.0722),
    ColorMatrix.BT2020: (0.2627, 0.0593),
}


def thumbnail_rows(image: Nv12Image) -> Nv12Image:
    """A view of the rows that a thumbnail is averaged from."""
    step = thumbnail_row_step(image.height_px)
    rows = image.height_px // (2 * step) * step  # of chroma
    return Nv12Image(image.y[: 2 * rows : step], image.uv[:rows:step], image.color)


def thumbnail_row_step(height_px: int) -> int:
    """Of how many rows of a plane one is read for a thumbnail."""
    return max(1, height_px // _THUMBNAIL_ROWS)


def thumbnails_of(planes: ByteArray) -> ByteArray:
    """Thumbnails from their two planes.

    Args:
        planes: Shape `(n, 54, 64)` uint8: 36 rows of luma, then 18 of interleaved Cb, Cr.

    Returns:
        Shape `(n, 36, 64, 3)` uint8: Y, Cb, Cr.
    """
    width, height = THUMBNAIL_WH_PX
    count = len(planes)
    found = np.empty((count, height, width, 3), np.uint8)
    found[..., 0] = planes[:, :height]
    chroma = planes[:, height:].reshape(count, height // 2, 1, width // 2, 1, 2)
    blocks = found.reshape(count, height // 2, 2, width // 2, 2, 3)  # each has one chroma sample
    blocks[..., 1:] = chroma
    return found


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


@lru_cache(maxsize=16)
def ycbcr_of(rgb: tuple[int, int, int], color: ColorSpec) -> tuple[int, int, int]:
    """8-bit Y, Cb, Cr of an 8-bit R, G, B."""
    matrix = rgb_matrix(color)
    samples = np.linalg.solve(matrix[:, :3], np.asarray(rgb) - matrix[:, 3])
    y, cb, cr = (int(value) for value in np.rint(samples).clip(0, 255))
    return y, cb, cr


@lru_cache(maxsize=256)
def content_of(view: View) -> Rect:
    """Where a view's crop is drawn: all of its area, or the part of the crop's shape, centred."""
    area = view.area
    across, down = area.width_px / view.crop.width_px, area.height_px / view.crop.height_px
    if abs(across / down - 1.0) <= SAME_SHAPE:
        return area
    crop_wh = view.crop.width_px, view.crop.height_px
    fit = Letterbox.fit(crop_wh, (area.width_px, area.height_px))
    return Rect(area.x_px + fit.x_px, area.y_px + fit.y_px, fit.width_px, fit.height_px)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of one plane of what is drawn.

    Attributes:
        start: Left (upper) edge of the first drawn sample, in source samples.
        step: Source samples per drawn sample.
        count: Drawn samples.
        first: First source sample that may be read.
        last: Last one.
    """

    start: float
    step: float
    count: int
    first: int
    last: int

    @classmethod
    def of(cls, origin: float, size: float, count: int, limit: int) -> Axis:
        """Draws `size` source samples from `origin` on as `count`, out of `limit` in all.

        Source samples that are covered to less than `LEAST_COVER` do not belong to it.
        """
        first = min(limit - 1, max(0, floor(origin + LEAST_COVER)))
        last = min(limit - 1, max(first, ceil(origin + size - LEAST_COVER) - 1))
        return cls(origin, size / count, count, first, last)


#: The axes of one plane: across and down.
Axes = tuple[Axis, Axis]


def luma_axes(crop: Crop, drawn_wh_px: tuple[int, int], source_wh_px: tuple[int, int]) -> Axes:
    """How luma of a crop is drawn.

    Args:
        crop: Source pixels.
        drawn_wh_px: Width and height of what is drawn.
        source_wh_px: Width and height of the source.
    """
    return (
        Axis.of(crop.x_px, crop.width_px, drawn_wh_px[0], source_wh_px[0]),
        Axis.of(crop.y_px, crop.height_px, drawn_wh_px[1], source_wh_px[1]),
    )


def chroma_axes(luma: Axes) -> Axes:
    """How chroma is drawn where luma is drawn so: half as many samples, from the same pixels.

    Chroma lies on every second luma column and midway between two luma rows ("left" siting, the
    default of H.264 and HEVC, ITU-T H.264 annex E), in the source and in what is drawn. With `s`
    source pixels per drawn one, drawn chroma `i` is drawn luma `2 i`, that is source luma index
    `x + (2 i + 1/2) s - 1/2`, source chroma index half of that. An axis reads index
    `start + (i + 1/2) s - 1/2`, which leaves `x / 2 - s / 4 + 1/4` for its start.
    """
    across, down = luma
    start = across.start / 2 + (1.0 - across.step) / 4
    return _halved(across, start), _halved(down, down.start / 2)


def _halved(axis: Axis, start: float) -> Axis:
    return Axis(start, axis.step, axis.count // 2, axis.first // 2, axis.last // 2)


def shrinks(axes: Axes) -> bool:
    """Whether a plane is drawn as area means."""
    return max(axis.step for axis in axes) > LARGEST_ENLARGED_STEP


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The cells behind a fitted crop.

    Attributes:
        luma: Axes from the source's luma to the cells.
        chroma: The same from its chroma, to as many cells.
    """

    luma: Axes
    chroma: Axes

    @property
    def cells_wh(self) -> tuple[int, int]:
        """Columns and rows of cells."""
        return self.luma[0].count, self.luma[1].count


def backdrop_of(view: View, image: Nv12Image) -> Backdrop | None:
    """The cells behind a view's crop; None if the crop fills its area.

    Args:
        view: Of the source.
        image: The source.
    """
    area = view.area
    if content_of(view) == area:
        return None
    cover = _covering(view.crop, area.width_px / area.height_px)
    scale = MOST_CELLS / max(area.width_px, area.height_px)
    # At least two chroma samples a cell.
    columns = min(round(area.width_px * scale), int(cover.width_px / 4))
    rows = min(round(area.height_px * scale), int(cover.height_px / 4))
    columns, rows = max(1, columns), max(1, rows)
    luma = luma_axes(cover, (columns, rows), image.size_wh_px)
    # Where chroma lies between luma samples does not matter to a cell of several.
    return Backdrop(luma, (_coarse(luma[0]), _coarse(luma[1])))


def _coarse(axis: Axis) -> Axis:
    return Axis(axis.start / 2, axis.step / 2, axis.count, axis.first // 2, axis.last // 2)


def _covering(crop: Crop, aspect: float) -> Crop:
    """The largest part of a crop with this aspect, from its middle."""
    width = min(crop.width_px, crop.height_px * aspect)
    height = min(crop.height_px, crop.width_px / aspect)
    x_px = crop.x_px + (crop.width_px - width) / 2
    return Crop(x_px, crop.y_px + (crop.height_px - height) / 2, width, height)


def backdrop_axes(cells_wh: tuple[int, int], drawn_wh: tuple[int, int]) -> Axes:
    """How cells are enlarged to a plane of the area.

    Args:
        cells_wh: Columns and rows of cells.
        drawn_wh: Samples of the plane.
    """
    (columns, rows), (width, height) = cells_wh, drawn_wh
    return Axis.of(0.0, columns, width, columns), Axis.of(0.0, rows, height, rows)


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


def chip_chroma(luma: Matrix) -> Matrix:
    """Chroma sampling matrix of a chip, from its luma's: every chip pixel has its own chroma.

    Chroma index `c` of the source lies at luma column `2 c`, and midway between the luma rows `2 c`
    and `2 c + 1` ("left" siting, as in `chroma_axes`).

    Args:
        luma: Shape `(2, 3)`.
    """
    return np.asarray((luma - np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])) / 2.0)


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
