"""Colour tags: from FFmpeg's numbers (ITU-T H.273) to `ColorSpec` and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualface_client.types import ColorMatrix, ColorSpec, VideoInfo

if TYPE_CHECKING:
    import av

# H.273 MatrixCoefficients to the matrix the picture is processed and tagged with. 4 (FCC) and
# 7 (SMPTE 240M) are converted to their near relatives.
_MATRIX_OF_CODE = {
    1: ColorMatrix.BT709,
    4: ColorMatrix.BT601,
    5: ColorMatrix.BT601,
    6: ColorMatrix.BT601,
    7: ColorMatrix.BT709,
    9: ColorMatrix.BT2020,
    10: ColorMatrix.BT2020,
}
CODE_OF_MATRIX = {ColorMatrix.BT709: 1, ColorMatrix.BT601: 6, ColorMatrix.BT2020: 9}
# SWS_CS_* of libswscale, by H.273 code: its coefficient tables.
SWS_OF_CODE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}

UNSPECIFIED = 2
RANGE_LIMITED = 1
RANGE_FULL = 2
#: TransferCharacteristics of high dynamic range, which is tone-mapped.
TRANSFERS_HDR = {16: "PQ", 18: "HLG"}
_HD_LINES = 720
_LIMITED_UNLESS_TAGGED = frozenset({"h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9"})


@dataclass(frozen=True, slots=True)
class ColorTags:
    """Primaries and transfer of a stream, as H.273 numbers; 2 is unspecified.

    Attributes:
        primaries: ColourPrimaries.
        transfer: TransferCharacteristics.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    def filled(self, matrix: ColorMatrix) -> ColorTags:
        """The same, with unspecified values filled in by what the matrix implies."""
        implied = {ColorMatrix.BT709: (1, 1), ColorMatrix.BT2020: (9, UNSPECIFIED)}
        primaries, transfer = implied.get(matrix, (UNSPECIFIED, UNSPECIFIED))
        return ColorTags(
            primaries if self.primaries == UNSPECIFIED else self.primaries,
            transfer if self.transfer == UNSPECIFIED else self.transfer,
        )


def matrix_of(code: int, height_px: int) -> ColorMatrix:
    """The matrix of a picture; an unspecified one follows from the height, as in players.

    Args:
        code: H.273 MatrixCoefficients; 0 (RGB), 2 (unspecified) and unknown ones go by height.
        height_px: Coded height; with 720 lines or more it is BT.709, below that BT.601.
    """
    by_height = ColorMatrix.BT709 if height_px >= _HD_LINES else ColorMatrix.BT601
    return _MATRIX_OF_CODE.get(code, by_height)


def tag(context: Any, info: VideoInfo) -> None:
    """Has an encoder write the colour tags of a source.

    Args:
        context: PyAV's codec context, before it is opened.
        info: Of the source.
    """
    tags = ColorTags(info.primaries, info.transfer).filled(info.color.matrix)
    context.colorspace = CODE_OF_MATRIX[info.color.matrix]
    context.color_range = RANGE_FULL if info.color.full_range else RANGE_LIMITED
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer


def spec_of(frame: av.VideoFrame) -> ColorSpec:
    """Matrix and range that the frame's NV12 version will have."""
    if frame.color_trc in TRANSFERS_HDR:  # it is tone-mapped
        return ColorSpec(ColorMatrix.BT709)
    full = frame.color_range == RANGE_FULL or frame.format.name.startswith("yuvj")
    return ColorSpec(matrix_of(frame.colorspace, frame.height), full and not frame.format.is_rgb)


def tags_of(frame: av.VideoFrame) -> ColorTags:
    """Primaries and transfer that the frame's NV12 version will have."""
    if frame.color_trc in TRANSFERS_HDR:
        return ColorTags(1, 1)
    return ColorTags(frame.color_primaries, frame.color_trc)


def keeps_gray_levels(frame: av.VideoFrame, codec: str) -> bool:
    """Whether a picture without colour has its levels as its colour range says.

    libswscale takes every grey picture for a full-range one, which is right only for those of
    still picture codecs that say nothing.

    Args:
        frame: Of any pixel format.
        codec: The decoder's name.
    """
    tagged = frame.color_range in (RANGE_LIMITED, RANGE_FULL)
    return frame.format.name.startswith("gray") and (tagged or codec in _LIMITED_UNLESS_TAGGED)


def hdr_note(transfer: int) -> str | None:
    """What to tell the user about a high dynamic range source, None for other sources."""
    name = TRANSFERS_HDR.get(transfer)
    return name and f"HDR ({name}): tone-mapped to BT.709 SDR"
