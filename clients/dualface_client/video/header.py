"""What a video's header says, without decoding a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dualface_client.errors import SourceError
from dualface_client.video.tracks import open_input, ranked_videos

if TYPE_CHECKING:
    from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """Size and coding of a video stream.

    Attributes:
        width_px: As coded.
        height_px: As coded.
        codec: FFmpeg's name, such as `h264`.
        bit_depth: Bits of a sample.
    """

    width_px: int
    height_px: int
    codec: str
    bit_depth: int


def read_header(path: Path, video_track: int | None = None) -> VideoHeader:
    """Reads the header.

    Args:
        path: A video file.
        video_track: Number of the video track, from 1; None for the one that players show.

    Raises:
        SourceError: It cannot be opened, or gives no size.
    """
    index = ranked_videos(path, video_track)[0]
    with open_input(path) as container:
        context = cast("VideoStream", container.streams[index]).codec_context
        if not (context.width and context.height):
            raise SourceError(f"{path}: its header gives no picture size")
        depth = context.format.components[0].bits if context.format is not None else 8
        return VideoHeader(context.width, context.height, context.name, depth)
