"""Draws planes through weights along both of their axes, on the host.

A weighted sum of a few neighbours, for every drawn sample of a row, is a product with a matrix that
is zero except near its diagonal. Bands of sixteen drawn samples are multiplied as small dense
matrices, which takes less time than OpenCV's Lanczos. Besides, OpenCV cannot begin a plane between
two source pixels; the source would have to be shifted first, which softens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualface_client.imaging.geometry import Axis
from dualface_client.types import ByteArray, FloatArray

#: Drawn samples of one band.
_BAND = 16
#: Source rows of one strip.
_STRIP = 256
#: OpenBLAS hands larger products to threads of its own (its SMP_THRESHOLD_MIN times
#: GEMM_MULTITHREAD_THRESHOLD), and on a busy machine waits for them longer than it would work.
_MOST_PRODUCTS = 65536 * 4


@dataclass(frozen=True, slots=True)
class Filter:
    """How much source samples count for a drawn one.

    Attributes:
        reach: Distance from which on they do not.
        weigh: Weights by distance, up to a factor; asked for distances within the reach alone.
    """

    reach: float
    weigh: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _spline(distance: npt.NDArray[Any]) -> npt.NDArray[Any]:
    far, near = 2.0 - np.abs(distance), np.maximum(0.0, 1.0 - np.abs(distance))
    return np.asarray(far**3 - 4 * near**3)


#: For sharp enlargements: Lanczos with a = 4.
LANCZOS = Filter(4.0, lambda distance: np.sinc(distance) * np.sinc(distance / 4))
#: For soft ones.
LINEAR = Filter(1.0, lambda distance: 1.0 - np.abs(distance))
#: For blurred ones: a cubic B-spline.
SPLINE = Filter(2.0, _spline)


def _area(step: float) -> Filter:
    """For shrinking: how much of a sample lies under a drawn one of `step` samples."""
    reach = (1.0 + step) / 2
    return Filter(reach, lambda distance: np.minimum(reach - np.abs(distance), min(1.0, step)))


@dataclass(frozen=True, slots=True)
class Band:
    """A few neighbouring drawn samples, as a product.

    Attributes:
        source: The source samples that they are made of.
        drawn: Which they are.
        matrix: Shape `(source, drawn)`.
    """

    source: slice
    drawn: slice
    matrix: FloatArray


# Keeps those of a camera at rest, whose axes stay the same from frame to frame.
@lru_cache(maxsize=64)
def bands(axis: Axis, method: Filter | None = None, *, pairs: bool = False) -> tuple[Band, ...]:
    """An axis as products.

    Args:
        axis: What is drawn.
        method: How; None for area means.
        pairs: Whether the plane holds two samples side by side, Cb and Cr, for each of the axis's.
    """
    method = method or _area(axis.step)
    size = _BAND // (1 + pairs)
    if 2 * method.reach > _BAND:  # a band of so large means would be nearly empty
        size = 1
    starts = np.arange(0, axis.count, size)
    places = axis.start + (starts[:, None] + np.arange(size) + 0.5) * axis.step - 0.5
    low = np.ceil(places[:, 0] - method.reach).astype(np.int64)
    rows = ceil(places[0, -1] - places[0, 0] + 2 * method.reach) + 1
    distance = (places - low[:, None])[:, None] - np.arange(rows)[:, None]
    distance = np.asarray(distance, np.float32)
    weights = np.where(np.abs(distance) < method.reach, method.weigh(distance), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    if pairs:
        both = np.zeros((*weights.shape[:2], 2, size, 2), np.float32)
        both[:, :, 0, :, 0] = both[:, :, 1, :, 1] = weights
        weights = both.reshape(*weights.shape[:2], 2, 2 * size)
    found = []
    for start, first, matrix in zip(starts.tolist(), low.tolist(), weights, strict=True):
        kept, begin = _folded(matrix, first, axis)
        source, drawn = slice(begin, begin + len(kept)), slice(start, min(start + size, axis.count))
        if pairs:
            source, drawn = _doubled(source), _doubled(drawn)
        kept = kept.reshape(source.stop - source.start, -1)[:, : drawn.stop - drawn.start]
        found.append(Band(source, drawn, kept))
    return tuple(found)


def _doubled(part: slice) -> slice:
    return slice(2 * part.start, 2 * part.stop)


def _folded(weights: FloatArray, low: int, axis: Axis) -> tuple[FloatArray, int]:
    """Adds the weights of samples beyond an axis's ends to the outermost ones.

    Args:
        weights: Of the samples from `low` on, along the first axis; changed.
        low: The first sample.
        axis: What is drawn.

    Returns:
        The weights that are left, and their first sample.
    """
    before = min(max(axis.first - low, 0), len(weights) - 1)
    if before:
        weights[before] += weights[:before].sum(axis=0)
        weights, low = weights[before:], low + before
    behind = min(max(low + len(weights) - 1 - axis.last, 0), len(weights) - 1)
    if behind:
        weights[-1 - behind] += weights[-behind:].sum(axis=0)
        weights = weights[:-behind]
    return weights, min(max(low, axis.first), axis.last)


def resample(plane: npt.NDArray[Any], across: Sequence[Band], down: Sequence[Band]) -> FloatArray:
    """Draws some or all rows of a plane.

    Args:
        plane: Shape `(height, width)`, uint8 or float32.
        across: All bands of its columns.
        down: Consecutive bands of its rows.

    Returns:
        Shape `(drawn rows, drawn columns)`.
    """
    top, left = down[0].source.start, across[0].source.start
    bottom, right = (max(band.source.stop for band in each) for each in (down, across))
    source = np.asarray(plane[top:bottom, left:right], np.float32)
    width, first = across[-1].drawn.stop, down[0].drawn.start
    sideways = np.empty((bottom - top, width), np.float32)
    drawn = np.empty((down[-1].drawn.stop - first, width), np.float32)
    _multiply(source, across, (left, 0), sideways)
    _multiply(sideways.T, down, (top, first), drawn.T)
    return drawn


def _multiply(
    source: FloatArray, bands: Sequence[Band], firsts: tuple[int, int], out: FloatArray
) -> None:
    """Multiplies columns; `firsts` are the indices of both arrays' first ones."""
    for band in bands:
        taken = slice(band.source.start - firsts[0], band.source.stop - firsts[0])
        made = slice(band.drawn.start - firsts[1], band.drawn.stop - firsts[1])
        rows = max(1, _MOST_PRODUCTS // band.matrix.size)
        for row in range(0, len(source), rows):
            part = slice(row, row + rows)
            np.matmul(source[part, taken], band.matrix, out=out[part, made])


def draw(
    plane: npt.NDArray[Any], across: Sequence[Band], down: Sequence[Band], target: ByteArray
) -> None:
    """Draws a plane, rounded and saturated to 8 bits.

    Args:
        plane: Shape `(height, width)`, uint8 or float32.
        across: Bands of its columns.
        down: Bands of its rows.
        target: Of the drawn size, rows without gaps.
    """
    for strip in _strips(down):
        rows = target[strip[0].drawn.start : strip[-1].drawn.stop]
        drawn = resample(plane, across, strip)
        cv2.threshold(drawn, 0.0, 0.0, cv2.THRESH_TOZERO, dst=drawn)
        cv2.convertScaleAbs(drawn, dst=rows)


def _strips(down: Sequence[Band]) -> Iterator[Sequence[Band]]:
    """Bands of so few source rows that what is between the two products stays in the cache."""
    begin = 0
    for end, band in enumerate(down, 1):
        if end == len(down) or band.source.stop - down[begin].source.start >= _STRIP:
            yield down[begin:end]
            begin = end
