"""Whether a file was cut short, read from its container's own sizes rather than guessed.

Sources: ISO/IEC 14496-12 (boxes of MP4 and MOV), RFC 8794 and RFC 9559 (EBML, Matroska), the RIFF
chunk header of AVI, ISO/IEC 13818-1 (188 byte packets of MPEG-TS; 192 with a time code before each,
204 with error correction behind it).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_VOID = b"\xec"
# The elements of Matroska that may have an unknown size (RFC 9559): Segment and Cluster.
_OPEN_ENDED = frozenset({_SEGMENT, b"\x1f\x43\xb6\x75"})
_UNKNOWN_RIFF = 0xFFFF_FFFF  # from a writer that cannot seek, such as a pipe
# Length of a transport packet, and where its sync byte is.
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))
_LONGEST_PACKET = 204
_BOX_LIMIT = 10_000  # enough to judge an input; our own outputs are walked completely


def mp4_boxes(stream: BinaryIO, size: int, limit: int | None = _BOX_LIMIT) -> list[tuple[str, int]]:
    """Top-level boxes as (type, end offset); the end of a cut box is beyond `size`.

    Args:
        stream: The file, opened for reading.
        size: Its length in bytes.
        limit: Most boxes to read, None for all.
    """
    boxes: list[tuple[str, int]] = []
    offset = 0
    while offset + 8 <= size and (limit is None or len(boxes) < limit):
        stream.seek(offset)
        header = stream.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        offset = offset + length if length >= 8 else size  # 0: up to the end of the file
        boxes.append((header[4:8].decode("latin-1"), offset))
    return boxes


def is_mp4(head: bytes) -> bool:
    """Whether the first bytes are those of an MP4 or MOV file."""
    return head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


def lacks_index(path: Path) -> bool:
    """True for an MP4 or MOV file without its index (moov): the recording never ended."""
    with path.open("rb") as stream:
        if not is_mp4(stream.read(12)):
            return False
        return all(kind != "moov" for kind, _ in mp4_boxes(stream, path.stat().st_size))


def truncation(path: Path) -> str | None:
    """What shows that the file was cut short, None if nothing does."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_LONGEST_PACKET + 1)
        if is_mp4(head):
            boxes = mp4_boxes(stream, size)
            return _beyond("its last box", boxes[-1][1] if boxes else 0, size)
        if head[:4] == _EBML:
            return _matroska(stream, size)
    if head[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        is_known = length != _UNKNOWN_RIFF
        return _beyond("the RIFF chunk", 8 + length, size) if is_known else None
    for length, start in _TRANSPORT_PACKETS:
        if head[start::length] == b"GG":
            return "its last transport packet is incomplete" if size % length else None
    return None


def has_another_video(path: Path) -> bool:
    """Whether a second MP4 or MOV was put behind the first one; nothing reads on into it."""
    with path.open("rb") as stream:
        if not is_mp4(stream.read(12)):
            return False
        kinds = [kind for kind, _ in mp4_boxes(stream, path.stat().st_size)]
    return kinds.count("moov") > 1


def _beyond(what: str, end: int, size: int) -> str | None:
    return f"{what} ends {end - size} bytes after the file" if end > size else None


def _matroska(stream: BinaryIO, size: int) -> str | None:
    stream.seek(4)
    header_size = _vint(stream)
    if header_size is None:
        return None
    stream.seek(header_size, 1)
    if stream.read(4) != _SEGMENT:
        return None
    length = _vint(stream)
    if length is not None:
        return _beyond("its segment", stream.tell() + length, size)
    # What cannot seek (a browser, a pipe) never says its length. A muxer that wanted to come back
    # has left room for its index.
    first = stream.read(1)
    stream.seek(-len(first), 1)
    if first == _VOID:
        return "its writer did not finish it"
    return _beyond("its last element", _end_of_elements(stream, size), size)


def _end_of_elements(stream: BinaryIO, size: int) -> int:
    """Where the last element ends that begins within the file; walks into those of unknown size."""
    while stream.tell() < size:
        identifier = _identifier(stream)
        length = _vint(stream)
        if length is None and identifier not in _OPEN_ENDED:
            return size  # not a length: damage, or the file ends within it
        if length is not None:
            stream.seek(length, 1)
    return stream.tell()


def _identifier(stream: BinaryIO) -> bytes:
    first = stream.read(1)
    width = 9 - first[0].bit_length() if first and first[0] else 1
    return first + stream.read(width - 1)


def _vint(stream: BinaryIO) -> int | None:
    """An EBML size (RFC 8794 section 4); None if all bits say that it is unknown."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + stream.read(width - 1), "big") & ((1 << (7 * width)) - 1)
    return None if value == (1 << (7 * width)) - 1 else value
