"""Small pictures of a finished, or unfinished, output."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url

if TYPE_CHECKING:
    from av.container import InputContainer

_QUALITY = 4  # of MJPEG, 2 (best) to 31


def thumbnails(path: Path, count: int, width_px: int) -> list[tuple[float, bytes]]:
    """Pictures at about equal distances: key frames, which are cheap to reach.

    Args:
        path: A video.
        count: How many at most; a short video has fewer key frames.
        width_px: Width of the pictures; the height keeps the aspect, both even.

    Returns:
        Time in seconds and JPEG, in order of time; as many as could be decoded, possibly none.
    """
    found: dict[float, bytes] = {}
    try:
        with av.open(file_url(path)) as container:
            length_s = float(container.duration or 0) / av.time_base
            for picture in _at_times(container, [length_s * i / count for i in range(count)]):
                found.setdefault(float(picture.time or 0.0), _jpeg(picture, width_px))
    except AV_ERRORS:
        pass  # an unfinished file may end at any moment
    return sorted(found.items())


def _at_times(container: InputContainer, times: list[float]) -> Iterator[av.VideoFrame]:
    for time_s in times:
        container.seek(round(time_s * av.time_base))
        picture = next(container.decode(video=0), None)
        if picture is not None:
            yield picture


def _jpeg(picture: av.VideoFrame, width_px: int) -> bytes:
    width = width_px // 2 * 2
    height = max(2, round(width * picture.height / picture.width / 2) * 2)
    small = picture.reformat(width, height, "yuvj420p", threads=1)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"qmin": str(_QUALITY), "qmax": str(_QUALITY)}
    small.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(small), *encoder.encode(None)))
