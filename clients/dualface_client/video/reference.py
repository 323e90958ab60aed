"""Whether other pictures build on a packet's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_START_CODE = b"\x00\x00\x01"


def is_disposable(packet: Packet[VideoStream], codec: str) -> bool:
    """Whether the picture can be lost without damage to another one.

    Containers rarely say; H.264 does: a slice (NAL unit types 1 to 5) with `nal_ref_idc` 0 belongs
    to a picture that is no reference (ITU-T H.264, 7.4.1).

    Args:
        packet: Of the stream.
        codec: The decoder's name.
    """
    if packet.is_disposable or codec != "h264":
        return packet.is_disposable
    header = _first_slice(bytes(packet))
    return header is not None and not header >> 5 & 3


def _first_slice(data: bytes) -> int | None:
    """First byte of the first slice, in Annex B or with lengths of four bytes before each unit."""
    offset, marked = 0, data[:4].removeprefix(b"\x00").startswith(_START_CODE)
    while offset + 4 < len(data):
        if marked:
            start = data.find(_START_CODE, offset) + 3
            if start < 3 or start >= len(data):
                return None
            end = start
        else:
            start = offset + 4
            end = start + int.from_bytes(data[offset:start], "big")
        if 1 <= data[start] & 31 <= 5:
            return data[start]
        offset = end
    return None
