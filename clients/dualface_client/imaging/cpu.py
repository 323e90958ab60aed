"""Pixel work on the host with OpenCV, by the rules of `imaging.geometry`."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import cv2
import numpy as np

from dualface_client.imaging.geometry import (
    THUMBNAIL_WH_PX,
    Matrix,
    black,
    chroma_origin,
    covered_part,
    grid_size,
    luma_origin,
    preview_wh,
    refine,
    rgb_matrix,
    similarity_matrix,
    supersampling,
    tile_scale,
)
from dualface_client.imaging.sharpness import face_sharpness
from dualface_client.imaging.tiles import copy_tile, put_tile
from dualface_client.types import (
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    ColorSpec,
    Crop,
    CropPair,
    FloatArray,
    Letterbox,
    Nv12Image,
    Side,
    TileLayout,
)


class CpuImaging:
    """Implements `stream.seams.Imaging` for NumPy pictures. Holds no state."""

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: ByteArray
    ) -> None:
        """Scales, pads with 0 and converts to RGB.

        Args:
            images: Host pictures.
            fits: Placement made for each picture and this target.
            out_rgb: Target, shape `(n, height, width, 3)` uint8; written in full.
        """
        for image, fit, target in zip(images, fits, out_rgb, strict=True):
            self._letterbox(image, fit, target)

    def _letterbox(self, image: Nv12Image, fit: Letterbox, out_rgb: ByteArray) -> None:
        x, y, width, height = fit.x_px, fit.y_px, fit.width_px, fit.height_px
        out_rgb[:y] = 0
        out_rgb[y + height :] = 0
        out_rgb[y : y + height, :x] = 0
        out_rgb[y : y + height, x + width :] = 0
        luma = _resize_to(image.y, (width, height))
        chroma = _resize_to(image.uv, (width // 2, height // 2))
        chroma = _resize_to(chroma, (width, height))
        out_rgb[y : y + height, x : x + width] = _to_rgb(luma, chroma, image.color)

    def synchronize(self) -> None:
        """Does nothing: work on the host is done when its call returns."""

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: ByteArray) -> None:
        """Warps one face onto the ReID model's chip.

        Args:
            image: Host picture.
            landmarks_px: Shape `(5, 2)`, source pixels, in the order of `Faces.landmarks_px`.
            out_rgb: Target, shape `(112, 112, 3)` uint8; written in full.
        """
        luma = similarity_matrix(landmarks_px, np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32))
        chroma = luma.copy()
        chroma[1, 2] -= 0.5  # "left" siting, see geometry.chroma_origin
        chroma /= 2.0
        size = (out_rgb.shape[1], out_rgb.shape[0])
        out_rgb[...] = _to_rgb(
            _warp(image.y, luma, size), _warp(image.uv, chroma, size), image.color
        )

    def thumbnail(self, image: Nv12Image) -> ByteArray:
        """Luma averaged to `(18, 32)` uint8."""
        return np.asarray(cv2.resize(image.y, THUMBNAIL_WH_PX, interpolation=cv2.INTER_AREA))

    def preview(self, image: Nv12Image) -> ByteArray:
        """Luma averaged to the size that `geometry.preview_wh` says, uint8."""
        size_wh = preview_wh((image.width_px, image.height_px))
        return np.asarray(cv2.resize(image.y, size_wh, interpolation=cv2.INTER_AREA))

    def compose(
        self, images: Sequence[Nv12Image], crops: Sequence[CropPair], layout: TileLayout
    ) -> list[Nv12Image]:
        """Draws the two tiles of each canvas.

        Args:
            images: Host pictures.
            crops: What the left and the right tile show of each; parts outside it are black.
            layout: Sizes.

        Returns:
            New pictures of the canvas's size with their source's colour description.
        """
        return [_canvas(image, pair, layout) for image, pair in zip(images, crops, strict=True)]

    def sharpness(self, image: Nv12Image, box_xyxy_px: FloatArray) -> float:
        """How sharp a face is, see `imaging.sharpness`."""
        return face_sharpness(image, box_xyxy_px)

    def copy_tile(self, canvas: Nv12Image, side: Side, layout: TileLayout) -> Nv12Image:
        """A copy of one tile."""
        return copy_tile(canvas, side, layout)

    def put_tile(self, canvas: Nv12Image, side: Side, layout: TileLayout, tile: Nv12Image) -> None:
        """Replaces one tile of a canvas."""
        put_tile(canvas, side, layout, tile)

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        """The picture itself."""
        return tile


def _canvas(image: Nv12Image, crops: CropPair, layout: TileLayout) -> Nv12Image:
    canvas_w, canvas_h = layout.canvas_wh_px
    y = np.empty((canvas_h, canvas_w), np.uint8)
    uv = np.empty((canvas_h // 2, canvas_w // 2, 2), np.uint8)
    width, height = layout.tile_wh_px
    for side, crop in zip((Side.LEFT, Side.RIGHT), crops, strict=True):
        x = layout.tile_x_px(side)
        tile_y = y[:, x : x + width]
        tile_uv = uv[:, x // 2 : (x + width) // 2]
        _draw_tile(image, crop, tile_y, tile_uv)
        covered = covered_part(crop, (image.width_px, image.height_px), (width, height))
        _blacken_outside(tile_y, tile_uv, covered, image.color)
    return Nv12Image(y, uv, image.color)


def _draw_tile(image: Nv12Image, crop: Crop, y: ByteArray, uv: ByteArray) -> None:
    scale = tile_scale(crop, (y.shape[1], y.shape[0]))
    grid_wh = grid_size(crop.width_px), grid_size(crop.height_px)
    shifted: ByteArray = np.asarray(
        cv2.getRectSubPix(image.y, grid_wh, _centre(luma_origin(crop), grid_wh)), np.uint8
    )
    y[...] = _resize_by(shifted, scale, y.shape, cv2.INTER_CUBIC)
    grid_wh = grid_size(crop.width_px / 2), grid_size(crop.height_px / 2)
    planes = _shift_chroma(image.uv, chroma_origin(crop, scale), grid_wh)
    merged: ByteArray = np.asarray(cv2.merge(planes), np.uint8)
    uv[...] = _resize_by(merged, scale, uv.shape, cv2.INTER_LINEAR)


def _shift_chroma(
    uv: ByteArray, origin: tuple[float, float], grid_wh: tuple[int, int]
) -> list[ByteArray]:
    """Cb and Cr on the shifted grid; getRectSubPix takes one channel or three, never two.

    Only the part that is read is split. Where indices clamp, its edges are the picture's own.
    """
    height, width = uv.shape[:2]
    left, right = _reach(origin[0], grid_wh[0], width)
    top, bottom = _reach(origin[1], grid_wh[1], height)
    centre = _centre((origin[0] - left, origin[1] - top), grid_wh)
    planes = cv2.split(uv[top:bottom, left:right])
    return [np.asarray(cv2.getRectSubPix(plane, grid_wh, centre)) for plane in planes]


def _reach(origin: float, count: int, limit: int) -> tuple[int, int]:
    """Indices that `count` bilinear samples starting at `origin` touch, at least one, inside."""
    low = min(limit - 1, max(0, floor(origin)))
    high = min(limit, max(1, floor(origin) + count + 1))
    return low, max(low + 1, high)


def _centre(origin: tuple[float, float], grid_wh: tuple[int, int]) -> tuple[float, float]:
    """The index of the grid's centre, which is what getRectSubPix wants."""
    return origin[0] + (grid_wh[0] - 1) / 2, origin[1] + (grid_wh[1] - 1) / 2


def _resize_by(
    grid: ByteArray, scale: tuple[float, float], shape: tuple[int, ...], enlarge: int
) -> ByteArray:
    """Resizes by exactly `scale` and keeps the part of the wanted shape.

    Without `dsize` OpenCV uses the factors as given; with it, it would derive rounded ones.
    """
    shrinks = min(scale) < 1.0
    method = cv2.INTER_AREA if shrinks else enlarge
    scaled = cv2.resize(grid, None, fx=scale[0], fy=scale[1], interpolation=method)
    return np.asarray(scaled[: shape[0], : shape[1]])


def _resize_to(plane: ByteArray, size_wh: tuple[int, int]) -> ByteArray:
    shrinks = plane.shape[0] > size_wh[1] or plane.shape[1] > size_wh[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, size_wh, interpolation=method))


def _warp(plane: ByteArray, matrix: Matrix, size_wh: tuple[int, int]) -> ByteArray:
    """Means of bilinear samples on a rotated grid."""
    samples = supersampling(matrix)
    fine = cv2.warpAffine(
        plane,
        refine(matrix, samples),
        (size_wh[0] * samples, size_wh[1] * samples),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cv2.resize(fine, size_wh, interpolation=cv2.INTER_AREA))


def _to_rgb(y: ByteArray, uv: ByteArray, color: ColorSpec) -> ByteArray:
    """Converts planes of equal size; rounds and saturates."""
    return np.asarray(cv2.transform(cv2.merge([y, uv]), rgb_matrix(color)))


def _blacken_outside(
    y: ByteArray, uv: ByteArray, covered: tuple[int, int, int, int], color: ColorSpec
) -> None:
    """Paints what the source does not cover."""
    left, top, right, bottom = covered
    height, width = y.shape
    for rows, columns in (
        (slice(0, top), slice(0, width)),
        (slice(bottom, height), slice(0, width)),
        (slice(top, bottom), slice(0, left)),
        (slice(top, bottom), slice(right, width)),
    ):
        y[rows, columns] = black(color)
        uv[_half(rows), _half(columns)] = 128


def _half(part: slice) -> slice:
    return slice(part.start // 2, part.stop // 2)
