"""Whether a finished output is what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualface_client.errors import SourceError
from dualface_client.video import integrity
from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url, reason
from dualface_client.video.tracks import ranked_videos

if TYPE_CHECKING:
    from av.container import InputContainer


def readable_frames(path: Path, video_track: int | None = None) -> int:
    """Counts the pictures of a video without decoding all of them.

    Every packet is read; the last group of pictures is decoded to its end, because that is what is
    lost first in a cut or on a full disk.

    Args:
        path: A video.
        video_track: Number of its video track, from 1; None for the one that players show.

    Returns:
        Packets of its video track that are shown, which is the number of its pictures.

    Raises:
        SourceError: It cannot be read, or its end cannot be decoded.
    """
    try:
        cut = integrity.truncation(path)
        if cut is not None:
            raise SourceError(f"{path}: is cut short ({cut})")
        index = ranked_videos(path, video_track)[0]
        with av.open(file_url(path)) as container:
            stream = container.streams[index]
            found, last, key = 0, 0, 0
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    pts = packet.pts or 0
                    last = max(last, pts) if found else pts
                    found += 1
                    if packet.is_keyframe:
                        key = pts if packet.dts is None else packet.dts
            if found and (problem := _problem_of_end(container, stream, (last, key))):
                raise SourceError(f"{path}: its end cannot be decoded ({problem})")
    except SourceError:
        raise
    except AV_ERRORS as error:
        raise SourceError(f"{path}: cannot be read as a video ({reason(error)})") from error
    return found


def _problem_of_end(container: InputContainer, stream: Any, places: Sequence[int]) -> str:
    """Decodes from the first of these places where pictures come, to the end; empty if all come.

    Where a place is sought, some containers begin at its key frame (MP4, Matroska) and others at
    the very packet (MPEG-TS), which needs the place of the key frame.
    """
    stream.thread_type = "AUTO"
    for place in places:
        container.seek(place, stream=stream)
        try:
            sent, came = _decoded(container, stream)
        except AV_ERRORS as error:
            return reason(error)
        if came:
            # Those before the first one that came may need others from before this place.
            first = min(came)
            wanted = sum(pts >= first for pts in sent)
            # A decoder may also pass over what it cannot read, without an error.
            return f"{len(came)} of the last {wanted} pictures" if len(came) < wanted else ""
    return "no picture"


def _decoded(container: InputContainer, stream: Any) -> tuple[list[int], list[int]]:
    """Times of the packets from here on that are shown, as far as known, and of the pictures."""
    sent: list[int] = []
    came: list[int] = []
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard and packet.pts is not None:
            sent.append(packet.pts)
        came += [frame.pts or 0 for frame in packet.decode()]
    return sent, came
