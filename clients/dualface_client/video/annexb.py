"""Between container packets and the Annex-B byte streams that NVIDIA's video engines use.

MP4 and Matroska store H.264 and HEVC as length-prefixed units with the parameter sets in the
header; the engines need start codes and parameter sets in the stream (ITU-T H.264 annex B).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from dualface_client.types import ColorSpec
from dualface_client.video.color import CODE_OF_MATRIX, ColorTags
from dualface_client.video.ffmpeg import AV_ERRORS, av, packet_of

if TYPE_CHECKING:
    from av.packet import Packet

#: Parameter sets lie in front of a key frame's picture data.
_HEADER_BYTES = 1024
_TO_ANNEXB = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
#: Of the byte in the header's record whose last two bits are the bytes of a length, less one.
_LENGTH_AT = {"h264": 4, "hevc": 21}
_MARK, _START_CODE = b"\0\0\1", b"\0\0\0\1"


class AnnexbFilter:
    """Turns a stream's packets into Annex-B ones; those of other codecs stay as they are.

    Only key frames, which parameter sets belong to, go through FFmpeg's filter, and packets with
    unusual lengths. PyAV gives Python's lock up three times for each packet there, and a process
    with many streams waits to get it back.

    Attributes:
        codec: FFmpeg's name of it.
        header: What the container says for all packets; with start codes where those have them.
    """

    def __init__(self, stream: Any) -> None:
        """Reads the parameter sets.

        Args:
            stream: The PyAV video stream that the packets come from.
        """
        name = _TO_ANNEXB.get(stream.codec_context.name)
        self._filter = name and av.bitstream.BitStreamFilterContext(name, stream)
        self.codec = stream.codec_context.name
        self.header = bytes(stream.codec_context.extradata or b"")
        self._length_bytes = _length_bytes(self.header, self.codec)

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Packets with start codes, one of which may be the given one, changed.

        Raises:
            av.FFmpegError: The packet is damaged.
        """
        if not self._filter:
            return [packet]
        if not packet.is_keyframe and (
            not self._length_bytes or _replaced_in_place(packet, self._length_bytes)
        ):
            return [packet]
        # It sees no pictures between key frames, after which it would give each its sets again.
        self._filter.flush()
        found: list[Packet[Any]] = self._filter.filter(packet)
        return found

    def whole(self, packet: Packet[Any]) -> bytes:
        """A packet with start codes and, if it is a key frame, parameter sets; it stays as it is.

        RTSP may have them in its description alone. Nothing is left of a damaged packet.
        """
        copy = packet_of(bytes(packet))
        copy.is_keyframe = packet.is_keyframe
        try:
            data = b"".join(map(bytes, self.push(copy)))
        except AV_ERRORS:  # empty, as promised
            return b""
        if self._length_bytes or not packet.is_keyframe or sequence_sets(data, self.codec):
            return data
        return self.header + data


class SizeWatch:
    """Finds out that the pictures of an Annex-B stream change their size.

    NVDEC scales a new size into the first one's surfaces without a word, which stretches faces. A
    picture of another size begins with another sequence parameter set, so only a key frame with a
    new one is decoded for its size.
    """

    def __init__(self, codec: str, size_wh: tuple[int, int]) -> None:
        """Knows the first size.

        Args:
            codec: FFmpeg's name of it; other codecs than `h264` and `hevc` are not watched.
            size_wh: Of the first picture.
        """
        self._codec = codec
        self._size_wh = size_wh
        self._last = b""

    def changed(self, part: Packet[Any]) -> tuple[int, int] | None:
        """The new size if this packet begins one, else None."""
        if self._codec not in _TO_ANNEXB or not part.is_keyframe:
            return None
        data = bytes(part)
        sets = sequence_sets(data, self._codec)
        known, self._last = self._last, sets or self._last
        if not sets or sets == known or not known:
            return None
        size_wh = _size_of(data, self._codec)
        return None if size_wh in (None, self._size_wh) else size_wh


def begins_anew(data: bytes, codec: str) -> bool:
    """Whether an Annex-B packet's picture is one behind which nothing refers to what was before it.

    Args:
        data: The packet.
        codec: `h264` (IDR, type 5 of table 7-1 in ITU-T H.264) or `hevc` (IDR, types 19 and 20 of
            table 7-1 in H.265); False for others.
    """
    at = data.find(_MARK)
    while 0 <= at < len(data) - len(_MARK):
        head = data[at + len(_MARK)]
        if codec == "h264" and 1 <= (kind := head & 31) <= 5:
            return kind == 5
        if codec == "hevc" and (kind := head >> 1 & 63) <= 31:
            return kind in (19, 20)
        at = data.find(_MARK, at + len(_MARK))
    return False


def _length_bytes(header: bytes, codec: str) -> int:
    """Bytes of the length before each unit, 0 where there are start codes.

    Of the header's record: ISO/IEC 14496-15, 5.3.3.1 (H.264) and 8.3.3.1 (HEVC).
    """
    at = _LENGTH_AT.get(codec)
    if at is None or len(header) <= at or header.startswith((_MARK, _START_CODE)):
        return 0
    return (header[at] & 3) + 1


def _replaced_in_place(packet: Packet[Any], length_bytes: int) -> bool:
    """Puts start codes where the lengths of a packet's units are, if those are as long.

    A copy takes 17 us of Python's lock a frame, this one (an x86-64 server).

    Returns:
        False if nothing was changed: a start code would not fit, or the lengths make no sense.
    """
    data, starts, at = memoryview(packet), [], 0
    if length_bytes != len(_START_CODE) or data.readonly:
        return False
    while at < len(data):
        starts.append(at)
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
    if at != len(data) or not starts:
        return False
    for start in starts:
        data[start : start + length_bytes] = _START_CODE
    return True


def sequence_sets(data: bytes, codec: str) -> bytes:
    """The sequence parameter sets at the start of an Annex-B packet, one after the other.

    Args:
        data: The packet.
        codec: `h264` (unit type 7 in ITU-T H.264 table 7-1) or `hevc` (33 in H.265 table 7-1).
    """
    found = b""
    for unit in data[:_HEADER_BYTES].split(_MARK)[1:]:
        if unit and (unit[0] & 31 == 7 if codec == "h264" else unit[0] >> 1 & 63 == 33):
            found += unit.rstrip(b"\0")
    return found


def _size_of(data: bytes, codec: str) -> tuple[int, int] | None:
    """Of the first picture of a packet; None if it cannot be decoded."""
    context: Any = av.CodecContext.create(codec, "r")
    try:
        for frame in (*context.decode(packet_of(data)), *context.decode(None)):
            return frame.width, frame.height
    except AV_ERRORS:  # a damaged key frame says nothing about its size: the next one may
        return None
    return None


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
