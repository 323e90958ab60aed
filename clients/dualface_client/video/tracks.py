"""Opening an input, and which of its video tracks is used, with which sound."""

from __future__ import annotations

import codecs
import itertools
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dualface_client.errors import SourceError
from dualface_client.video import integrity
from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url, source_error

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

NOT_VIDEO_REMEDY = "check that it is a complete video file"
# Demuxers that make a "video" out of any text or list of pictures.
_NOT_VIDEO = frozenset({"tty", "lrc"})
_LISTS = {b"#EXTM3U": "an HLS playlist", b"ffconcat": "a concat list"}
_GENERATE_PTS = 1  # AVFMT_FLAG_GENPTS, which PyAV sets: a guess that cannot be told from a time
_PROBED_PACKETS = 2000  # of all tracks together, to see which of them move
_PICTURES = (
    av.stream.Disposition.attached_pic
    | av.stream.Disposition.timed_thumbnails
    | av.stream.Disposition.still_image
)


def open_input(path: Path) -> InputContainer:
    """Opens a video; its packets have the times that the file has, and no guessed ones.

    Raises:
        SourceError: It is no regular file, not a video, or its index is missing.
    """
    check_file(path)
    try:
        container = av.open(file_url(path), "r", metadata_errors="replace")
    except AV_ERRORS as error:
        if integrity.lacks_index(path):
            raise SourceError(
                f"{path}: its index (moov) is missing: the recording or copy was cut short; copy "
                "it again, or repair it with a tool such as untrunc"
            ) from error
        raise source_error(path, error, NOT_VIDEO_REMEDY) from error
    name = container.format.name
    if name in _NOT_VIDEO:
        container.close()
        raise SourceError(f"{path}: is text, not a video; {NOT_VIDEO_REMEDY}")
    if name == "image2" or name.endswith("_pipe"):
        container.close()
        raise SourceError(
            f"{path}: is a picture, not a video; make a video from a picture sequence first "
            "(`ffmpeg -framerate 25 -i frame%04d.jpg out.mp4`)"
        )
    container.flags &= ~_GENERATE_PTS
    return container


def ranked_videos(path: Path, wanted: int | None = None) -> list[int]:
    """Stream indices of the video tracks that may be used, the best one first.

    The default track of those that move, else the largest; FFmpeg and players choose alike. Tracks
    with a single picture (previews, stills, covers) come last or not at all.

    Args:
        path: The file.
        wanted: The number of the only track to use, from 1 among the file's video tracks.

    Raises:
        SourceError: The file cannot be read, or has no such track.
    """
    with open_input(path) as container:
        videos = list(container.streams.video)
        if wanted is not None and not 1 <= wanted <= len(videos):
            raise SourceError(
                f"{path}: has no video track {wanted}; it has {len(videos)}: {_listed(videos)}"
            )
        found = videos if wanted is None else [videos[wanted - 1]]
        decodable = [stream for stream in found if stream.codec_context is not None]
        if wanted is None:
            covers = [stream for stream in decodable if _is_cover(stream)]
            decodable = [stream for stream in decodable if not _is_cover(stream)]
            if not decodable:
                raise SourceError(_why_none(container, path, len(covers), len(found)))
        elif not decodable:
            raise SourceError(f"{path}: this FFmpeg build has no decoder for video track {wanted}")
        moving = _moving(container, decodable)
        _refuse_encrypted(container, path)
        return [s.index for s in sorted(decodable, key=lambda s: _rank(s, moving), reverse=True)]


def sound_of(container: InputContainer, video_index: int) -> tuple[int, ...]:
    """Stream indices of a video track's sound: all of it, or that of its own programme.

    Args:
        container: The input.
        video_index: Stream index of the video track.
    """
    best = container.streams.best
    video = container.streams[video_index]

    def programme_of(related: av.stream.Stream) -> tuple[int, ...]:
        # FFmpeg looks for the best streams in the programme of a related one.
        found = (best("video", related=related), best("audio", related=related))
        return tuple(stream.index for stream in found if stream is not None)

    own = programme_of(video)
    return tuple(a.index for a in container.streams.audio if programme_of(a) == own)


def choice_note(container: InputContainer, video_index: int) -> str | None:
    """What was chosen of what; None where there was no choice."""
    videos = list(container.streams.video)
    if sum(not _is_cover(stream) for stream in videos) < 2:
        return None
    number = 1 + next(n for n, stream in enumerate(videos) if stream.index == video_index)
    sounds, own = len(container.streams.audio), len(sound_of(container, video_index))
    sound = f", with {own} of {sounds} sound tracks, those of its programme" * (own < sounds)
    return (
        f"video track {number} of {len(videos)} is used{sound} ({_listed(videos)}); "
        "--video-track chooses another"
    )


def check_file(path: Path, *, live: bool = False) -> None:
    """Refuses what is no video at first sight, before FFmpeg opens it.

    Args:
        path: The input.
        live: Whether it may be a pipe, which is not looked into.

    Raises:
        SourceError: It is missing, empty, a directory or a list.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"{path}: is a directory; name a video file")
        if live and stat.S_ISFIFO(status.st_mode):
            return
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path}: is not a regular file; name a video file")
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise source_error(path, error, "check its permissions") from error
    if not status.st_size:
        raise SourceError(f"{path}: is empty (0 bytes); record or copy it again")
    # Before FFmpeg opens the files that a list names, which could be any.
    for mark, what in _LISTS.items():
        if head.removeprefix(codecs.BOM_UTF8).startswith(mark):
            raise SourceError(
                f"{path}: is {what}, not a video; name the videos that it lists, or join "
                "them first (`ffmpeg -i LIST -c copy joined.mkv`)"
            )


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _why_none(container: InputContainer, path: Path, covers: int, videos: int) -> str:
    if videos > covers:
        return f"{path}: this FFmpeg build has no decoder for its video codec"
    if container.streams.audio:
        cover = " and a cover picture" if covers else ""
        return f"{path}: has only audio{cover}, no video stream; name a video file"
    return f"{path}: has no video stream; {NOT_VIDEO_REMEDY}"


def _rank(stream: VideoStream, moving: frozenset[int]) -> tuple[bool, bool, bool, int, int]:
    context = stream.codec_context
    is_default = bool(stream.disposition & av.stream.Disposition.default)
    is_video = not stream.disposition & _PICTURES
    area = context.width * context.height
    return stream.index in moving, is_video, is_default, area, -stream.index


def _moving(container: InputContainer, videos: Iterable[VideoStream]) -> frozenset[int]:
    """Which tracks have more than one picture; reads the file only where the header is silent."""
    counts = Counter({stream.index: stream.frames for stream in videos})
    unknown = {index for index, frames in counts.items() if not frames}
    if len(counts) > 1 and unknown:
        try:
            for packet in itertools.islice(container.demux(), _PROBED_PACKETS):
                counts[packet.stream_index] += packet.size > 0
                if all(counts[index] > 1 for index in unknown):
                    break
        except AV_ERRORS:  # told when the file is read
            pass
    elif unknown:
        return frozenset(counts)
    return frozenset(index for index, count in counts.items() if count > 1)


def _refuse_encrypted(container: InputContainer, path: Path) -> None:
    """Refuses a protected video, whose packets may decode to noise."""
    try:
        packet = next(container.demux(video=0))
    except AV_ERRORS:  # told when the file is read
        return
    if packet.has_sidedata("encryption_info"):
        raise SourceError(f"{path}: is encrypted (DRM); decrypt it with its key first")


def _listed(videos: Iterable[VideoStream]) -> str:
    """Each track in a few words."""
    return ", ".join(f"{n} {_described(stream)}" for n, stream in enumerate(videos, 1))


def _described(stream: VideoStream) -> str:
    # Stubs do not say that a stream without a decoder has no context.
    context = cast("av.VideoCodecContext | None", stream.codec_context)
    if context is None:
        return "cannot be decoded"
    words = [context.name, f"{context.width}x{context.height}"]
    if _is_cover(stream):
        words.append("cover")
    elif stream.frames == 1:
        words.append("one picture")
    if stream.disposition & av.stream.Disposition.default:
        words.append("default")
    return " ".join(words)
