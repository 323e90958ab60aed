"""From any decoded picture to upright, even-sized, 8-bit NV12 on the host."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from dualface_client.types import ByteArray, ColorSpec, Nv12Image
from dualface_client.video.color import CODE_OF_MATRIX, RANGE_FULL, RANGE_LIMITED, SWS_OF_CODE
from dualface_client.video.ffmpeg import av
from dualface_client.video.tonemap import ToneMapper

if TYPE_CHECKING:
    from av.video.plane import VideoPlane


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


class Nv12Converter:
    """Converts the pictures of one stream to one size, orientation and colour.

    Pictures of another size than the first are scaled to it. Odd sizes get their last row or
    column repeated. Sample aspect ratios other than 1 are scaled horizontally to square samples.
    """

    def __init__(
        self,
        size_wh_px: tuple[int, int],
        sample_aspect: Fraction,
        quarter_turns: int,
        *,
        tone_mapper: ToneMapper | None = None,
    ) -> None:
        """Fixes the output.

        Args:
            size_wh_px: Width and height of the first decoded picture.
            sample_aspect: Width over height of one sample.
            quarter_turns: Counter-clockwise turns by 90 degrees that make it upright.
            tone_mapper: For high dynamic range, None for other sources.
        """
        width, height = size_wh_px
        self._native_wh = size_wh_px if sample_aspect == 1 else None
        self._target_wh = even(max(1, round(width * sample_aspect))), even(height)
        self._turns = quarter_turns % 4
        self._tone_mapper = tone_mapper
        # One for all pictures: it keeps libswscale's tables between them.
        self._reformatter = av.video.reformatter.VideoReformatter()

    @property
    def size_wh_px(self) -> tuple[int, int]:
        """Width and height of every converted picture, even."""
        width, height = self._target_wh
        return (height, width) if self._turns % 2 else (width, height)

    def convert(self, frame: av.VideoFrame, color: ColorSpec) -> Nv12Image:
        """One picture.

        Args:
            frame: Any size and pixel format that libswscale reads.
            color: Matrix and range of the result.

        Returns:
            C-contiguous planes. They share the memory of a converted frame where its rows have no
            padding, else they are copies; either lives as long as the image.
        """
        width, height = size = frame.width, frame.height
        if size != self._native_wh:
            width, height = self._target_wh
        y, uv = _nv12_planes(self._reformat(frame, (width, height), color), width, height)
        if self._turns:
            y, uv = np.rot90(y, self._turns), np.rot90(uv, self._turns)
        return Nv12Image(np.ascontiguousarray(y), np.ascontiguousarray(uv), color)

    def _reformat(
        self, frame: av.VideoFrame, size_wh_px: tuple[int, int], color: ColorSpec
    ) -> av.VideoFrame:
        if self._tone_mapper is not None:
            return self._tone_mapper.convert(frame, size_wh_px)
        if frame.format.name == "nv12" and (frame.width, frame.height) == size_wh_px:
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
        )


def _nv12_planes(frame: av.VideoFrame, width: int, height: int) -> tuple[ByteArray, ByteArray]:
    y = plane_view(frame.planes[0], height, width)
    if width % 2 or height % 2:
        y = np.pad(y, ((0, height % 2), (0, width % 2)), mode="edge")
    uv = plane_view(frame.planes[1], even(height) // 2, even(width))
    return y, uv.reshape(even(height) // 2, even(width) // 2, 2)
