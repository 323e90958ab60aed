"""Pixel work on the host with OpenCV and NumPy, by the rules of `imaging.geometry`."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dualface_client.imaging.geometry import (
    BACKDROP_GAIN,
    THUMBNAIL_WH_PX,
    Backdrop,
    Matrix,
    backdrop_axes,
    backdrop_of,
    black,
    chip_chroma,
    chroma_axes,
    content_of,
    luma_axes,
    preview_wh,
    refine,
    rgb_matrix,
    shrinks,
    similarity_matrix,
    supersampling,
    thumbnail_rows,
    thumbnails_of,
    ycbcr_of,
)
from dualface_client.imaging.resample import LANCZOS, LINEAR, SPLINE, bands, draw, resample
from dualface_client.imaging.sharpness import face_sharpness
from dualface_client.imaging.tiles import copy_tile, part_of, put_tile
from dualface_client.types import (
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    ColorSpec,
    Crop,
    FloatArray,
    Letterbox,
    Nv12Image,
    Rect,
    TileLayout,
    View,
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
        chroma = chip_chroma(luma)
        size = (out_rgb.shape[1], out_rgb.shape[0])
        out_rgb[...] = _to_rgb(
            _warp(image.y, luma, size), _warp(image.uv, chroma, size), image.color
        )

    def thumbnail(self, image: Nv12Image) -> ByteArray:
        """The picture averaged to `(36, 64, 3)` uint8: Y, Cb, Cr."""
        rows = thumbnail_rows(image)
        width, height = THUMBNAIL_WH_PX
        luma = _resize_to(rows.y, (width, height))
        chroma = _resize_to(rows.uv, (width // 2, height // 2))
        planes = np.vstack([luma, chroma.reshape(height // 2, width)])
        return np.asarray(thumbnails_of(planes[None])[0])

    def thumbnails(self, images: Sequence[Nv12Image]) -> list[ByteArray]:
        """`thumbnail` of each."""
        return [self.thumbnail(image) for image in images]

    def preview(self, image: Nv12Image) -> ByteArray:
        """Luma averaged to the size that `geometry.preview_wh` says, uint8."""
        size_wh = preview_wh(image.size_wh_px)
        return np.asarray(cv2.resize(image.y, size_wh, interpolation=cv2.INTER_AREA))

    def compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], canvas: TileLayout
    ) -> list[Nv12Image]:
        """Draws the views of each canvas.

        Args:
            images: Host pictures.
            views: What each canvas shows of its picture, one to three.
            canvas: Size, and the colour of what no view covers.

        Returns:
            New pictures of the canvas's size with their source's colour description.
        """
        return [_canvas(image, each, canvas) for image, each in zip(images, views, strict=True)]

    def sharpness(self, image: Nv12Image, boxes_xyxy_px: FloatArray) -> FloatArray:
        """How sharp faces are, see `imaging.sharpness`."""
        return np.array([face_sharpness(image, box) for box in boxes_xyxy_px], np.float32)

    def copy_tile(self, canvas: Nv12Image, area: Rect) -> Nv12Image:
        """A copy of a part of a canvas."""
        return copy_tile(canvas, area)

    def put_tile(self, canvas: Nv12Image, area: Rect, tile: Nv12Image) -> None:
        """Replaces a part of a canvas."""
        put_tile(canvas, area, tile)

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        """The picture itself."""
        return tile


def _canvas(image: Nv12Image, views: Sequence[View], layout: TileLayout) -> Nv12Image:
    width, height = layout.canvas_wh_px
    luma, *chroma = ycbcr_of(layout.gap_color, image.color)
    y = np.full((height, width), luma, np.uint8)
    uv = np.full((height // 2, width // 2), np.array(chroma, np.uint8).view(np.uint16)[0])
    canvas = Nv12Image(y, uv.view(np.uint8).reshape(height // 2, width // 2, 2), image.color)
    for view in views:
        backdrop = backdrop_of(view, image)
        if backdrop is not None:
            _draw_backdrop(image, backdrop, part_of(canvas, view.area))
        _draw_crop(image, view.crop, part_of(canvas, content_of(view)))
    return canvas


def _draw_crop(image: Nv12Image, crop: Crop, target: Nv12Image) -> None:
    source_wh = image.size_wh_px
    luma = luma_axes(crop, (target.width_px, target.height_px), source_wh)
    chroma = chroma_axes(luma)
    method, chroma_method = (None, None) if shrinks(luma) else (LANCZOS, LINEAR)
    draw(image.y, bands(luma[0], method), bands(luma[1], method), target.y)
    across = bands(chroma[0], chroma_method, pairs=True)
    draw(_pairs(image.uv), across, bands(chroma[1], chroma_method), _pairs(target.uv))


def _draw_backdrop(image: Nv12Image, backdrop: Backdrop, target: Nv12Image) -> None:
    planes = (
        (image.y, target.y, backdrop.luma),
        (_pairs(image.uv), _pairs(target.uv), backdrop.chroma),
    )
    for pairs, (source, out, (across, down)) in zip((False, True), planes, strict=True):
        cells = resample(source, bands(across, pairs=pairs), bands(down))
        base = 128.0 if pairs else float(black(image.color))
        cells = base + np.float32(BACKDROP_GAIN) * (cells - base)
        wide, high = backdrop_axes(backdrop.cells_wh, (out.shape[1] // (1 + pairs), len(out)))
        draw(cells, bands(wide, SPLINE, pairs=pairs), bands(high, SPLINE), out)


def _pairs(uv: ByteArray) -> ByteArray:
    """Chroma with Cb and Cr side by side in each row."""
    return uv.reshape(uv.shape[0], -1)


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
