"""From any decoded picture to upright, even-sized, 8-bit NV12 on the host."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from dualface_client.types import ByteArray, ColorSpec, Letterbox, Nv12Image
from dualface_client.video.color import CODE_OF_MATRIX, RANGE_FULL, RANGE_LIMITED, SWS_OF_CODE
from dualface_client.video.ffmpeg import av
from dualface_client.video.orientation import Orientation
from dualface_client.video.tonemap import ToneMapper

if TYPE_CHECKING:
    from av.video.plane import VideoPlane

#: Where it scales. libswscale would take a thread for each CPU of the machine, and 32 of them need
#: six times as long to rearrange a picture of 1080p as one does, which is 0.15 ms.
_SCALING_THREADS = 2


def even(size_px: int) -> int:
    """The size rounded up to even."""
    return size_px + size_px % 2


def plane_view(plane: VideoPlane, rows: int, row_bytes: int) -> ByteArray:
    """A plane's samples without its row padding; shares its memory and keeps it alive.

    Returns:
        Shape `(rows, row_bytes)`, uint8.
    """
    # A plane has the buffer protocol, which type stubs cannot say before Python 3.12.
    whole: ByteArray = np.frombuffer(memoryview(cast(bytes, plane)), np.uint8)
    return whole.reshape(-1, plane.line_size)[:rows, :row_bytes]


def picture_of(image: Nv12Image) -> av.VideoFrame:
    """A host picture as x264 takes it; a copy."""
    width, height = image.size_wh_px
    picture = av.VideoFrame(width, height, "nv12")
    y, uv = picture.planes
    plane_view(y, height, width)[:] = image.y
    plane_view(uv, height // 2, width)[:] = image.uv.reshape(height // 2, width)
    return picture


class Nv12Converter:
    """Converts the pictures of one stream to one size, orientation and colour.

    Odd sizes get their last row or column repeated. Sample aspect ratios other than 1 are scaled
    horizontally to square samples. Pictures of another shape than the first keep theirs and are
    fitted into the first one's size, with black borders.
    """

    def __init__(
        self,
        size_wh_px: tuple[int, int],
        sample_aspect: Fraction,
        orientation: Orientation,
        *,
        tone_mapper: ToneMapper | None = None,
        keeps_gray_levels: bool = False,
    ) -> None:
        """Fixes the output.

        Args:
            size_wh_px: Width and height of the first decoded picture.
            sample_aspect: Width over height of one of its samples.
            orientation: What makes it upright.
            keeps_gray_levels: Whether the samples of pictures without colour stay as they are.
            tone_mapper: For high dynamic range, None for other sources.
        """
        width, height = size_wh_px
        self._native_wh = size_wh_px if sample_aspect == 1 else None
        self._first = size_wh_px, sample_aspect
        self._target_wh = even(max(1, round(width * sample_aspect))), even(height)
        self._orientation = orientation
        self._keeps_gray_levels = keeps_gray_levels
        self._tone_mapper = tone_mapper
        # One for all pictures: it keeps libswscale's tables between them.
        self._reformatter = av.video.reformatter.VideoReformatter()

    @property
    def size_wh_px(self) -> tuple[int, int]:
        """Width and height of every converted picture, even."""
        return self._orientation.size_wh(self._target_wh)

    def convert(
        self, frame: av.VideoFrame, color: ColorSpec, sample_aspect: Fraction = Fraction(1)
    ) -> Nv12Image:
        """One picture.

        Args:
            frame: Any size and pixel format that libswscale reads.
            color: Matrix and range of the result.
            sample_aspect: Width over height of one of its samples.

        Returns:
            C-contiguous planes. They share the memory of a converted frame where its rows have no
            padding, else they are copies; either lives as long as the image.
        """
        size = frame.width, frame.height
        if (size, sample_aspect) == self._first:
            y, uv = self._planes(frame, self._native_wh or self._target_wh, color)
        else:
            y, uv = self._fitted(frame, color, sample_aspect)
        return Nv12Image(
            np.ascontiguousarray(self._orientation.apply(y)),
            np.ascontiguousarray(self._orientation.apply(uv)),
            color,
        )

    def _fitted(
        self, frame: av.VideoFrame, color: ColorSpec, sample_aspect: Fraction
    ) -> tuple[ByteArray, ByteArray]:
        """A picture of another shape, in the middle of a black one."""
        shape_wh = max(1, round(frame.width * sample_aspect)), frame.height
        fit = Letterbox.fit(shape_wh, self._target_wh)
        width, height = self._target_wh
        y = np.full((height, width), 0 if color.full_range else 16, np.uint8)
        uv = np.full((height // 2, width // 2, 2), 128, np.uint8)
        left, top = fit.x_px, fit.y_px
        inner_y, inner_uv = self._planes(frame, (fit.width_px, fit.height_px), color)
        y[top : top + fit.height_px, left : left + fit.width_px] = inner_y
        rows, columns = slice(top // 2, (top + fit.height_px) // 2), left // 2
        uv[rows, columns : columns + fit.width_px // 2] = inner_uv
        return y, uv

    def _planes(
        self, frame: av.VideoFrame, size_wh_px: tuple[int, int], color: ColorSpec
    ) -> tuple[ByteArray, ByteArray]:
        """Luma and chroma of a size, which is rounded up to even."""
        width, height = size_wh_px
        if not (self._keeps_gray_levels and frame.format.name.startswith("gray")):
            return _nv12_planes(self._reformat(frame, size_wh_px, color), width, height)
        # To 8 bit without libswscale's change of levels, see `keeps_gray_levels`.
        gray = self._reformatter.reformat(frame, *size_wh_px, format="gray", threads=1)
        y = _even_plane(plane_view(gray.planes[0], height, width))
        return y, np.full((even(height) // 2, even(width) // 2, 2), 128, np.uint8)

    def _reformat(
        self, frame: av.VideoFrame, size_wh_px: tuple[int, int], color: ColorSpec
    ) -> av.VideoFrame:
        if self._tone_mapper is not None:
            return self._tone_mapper.convert(frame, size_wh_px)
        has_size = (frame.width, frame.height) == size_wh_px
        if frame.format.name == "nv12" and has_size:
            return frame
        matrix = SWS_OF_CODE[CODE_OF_MATRIX[color.matrix]]
        samples = RANGE_FULL if color.full_range else RANGE_LIMITED
        return self._reformatter.reformat(
            frame,
            *size_wh_px,
            format="nv12",
            src_colorspace=SWS_OF_CODE.get(frame.colorspace, matrix),
            dst_colorspace=matrix,
            src_color_range=RANGE_FULL if frame.format.is_rgb else samples,
            dst_color_range=samples,
            interpolation=av.video.reformatter.Interpolation.BICUBIC,
            threads=1 if has_size else _SCALING_THREADS,
        )


def _nv12_planes(frame: av.VideoFrame, width: int, height: int) -> tuple[ByteArray, ByteArray]:
    y = _even_plane(plane_view(frame.planes[0], height, width))
    uv = plane_view(frame.planes[1], even(height) // 2, even(width))
    return y, uv.reshape(even(height) // 2, even(width) // 2, 2)


def _even_plane(plane: ByteArray) -> ByteArray:
    """The plane with its last row and column repeated to an even size."""
    height, width = plane.shape
    if not (width % 2 or height % 2):
        return plane
    return np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
