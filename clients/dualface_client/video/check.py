"""Whether a finished output is what it should be."""

from __future__ import annotations

from pathlib import Path

from dualface_client.errors import SourceError
from dualface_client.video import integrity
from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url, reason
from dualface_client.video.tracks import ranked_videos


def readable_frames(path: Path, video_track: int | None = None) -> int:
    """Counts the pictures of a video without decoding all of them.

    Every packet is read; the last group of pictures is decoded, because that is what is lost first
    in a cut or on a full disk.

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
            found = (p for p in container.demux(stream) if p.size and not p.is_discard)
            stamps = [packet.pts or 0 for packet in found]
            if stamps:
                container.seek(max(stamps), stream=stream)
                if not any(True for _ in container.decode(stream)):
                    raise SourceError(f"{path}: its end cannot be decoded")
    except SourceError:
        raise
    except AV_ERRORS as error:
        raise SourceError(f"{path}: cannot be read as a video ({reason(error)})") from error
    return len(stamps)
