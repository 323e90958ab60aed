"""Between container packets and the Annex-B byte streams that NVIDIA's video engines use.

MP4 and Matroska store H.264 and HEVC as length-prefixed units with the parameter sets in the
header; the engines need start codes and parameter sets in the stream (ITU-T H.264 annex B).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from dualface_client.types import ColorSpec
from dualface_client.video.color import CODE_OF_MATRIX, ColorTags
from dualface_client.video.ffmpeg import av

if TYPE_CHECKING:
    from av.packet import Packet

_TO_ANNEXB = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


class AnnexbFilter:
    """Turns a stream's packets into Annex-B ones; those of other codecs stay as they are."""

    def __init__(self, stream: Any) -> None:
        """Reads the parameter sets.

        Args:
            stream: The PyAV video stream that the packets come from.
        """
        name = _TO_ANNEXB.get(stream.codec_context.name)
        self._filter = name and av.bitstream.BitStreamFilterContext(name, stream)

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Packets with start codes.

        Raises:
            av.FFmpegError: The packet is damaged.
        """
        return self._filter.filter(packet) if self._filter else [packet]


class ColorMarker:
    """Writes colour tags into an H.264 stream whose encoder cannot: NVENC through Python."""

    def __init__(self, stream: Any, color: ColorSpec, tags: ColorTags) -> None:
        """Sets the tags, as ITU-T H.273 numbers.

        Args:
            stream: The PyAV H.264 output stream.
            color: Matrix and range.
            tags: Primaries and transfer.
        """
        self._filter = av.bitstream.BitStreamFilterContext(
            f"h264_metadata=colour_primaries={tags.primaries}"
            f":transfer_characteristics={tags.transfer}"
            f":matrix_coefficients={CODE_OF_MATRIX[color.matrix]}"
            f":video_full_range_flag={int(color.full_range)}",
            stream,
        )

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """The packet with tagged parameter sets."""
        return self._filter.filter(packet)


class DecodeStamps:
    """Decoding time stamps for packets in decoding order that have only presentation stamps.

    The n-th packet gets the n-th smallest presentation stamp, moved back by the reordering depth,
    so that no picture is decoded after it is shown. Without B-frames both stamps are equal.
    """

    def __init__(self, reorder_depth: int, step: int) -> None:
        """Starts a stream.

        Args:
            reorder_depth: Pictures that may be decoded before one that is shown earlier.
            step: Units from one picture to the next, for the lead-in.
        """
        self._depth = reorder_depth
        self._step = step
        self._waiting: deque[int] = deque()
        self._lead_in = reorder_depth

    def shown(self, pts: int) -> None:
        """Notes the next picture in presentation order, as it is given to the encoder."""
        if not self._waiting and self._lead_in == self._depth:
            self._waiting.extend(pts - self._step * n for n in range(self._depth, 0, -1))
            self._lead_in = -1
        self._waiting.append(pts)

    def next(self) -> int:
        """The stamp of the next packet in decoding order."""
        return self._waiting.popleft()
