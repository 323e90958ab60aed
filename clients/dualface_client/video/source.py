"""Frames from a video file through PyAV, on the CPU."""

from __future__ import annotations

import codecs
import itertools
import stat
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from dualface_client.errors import SourceError
from dualface_client.types import Frame, VideoInfo
from dualface_client.video import integrity
from dualface_client.video.color import TRANSFERS_HDR, hdr_note, spec_of, tags_of
from dualface_client.video.convert import Nv12Converter
from dualface_client.video.deinterlace import Deinterlacer, Picture, can_deinterlace
from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url, source_error, thread_count, ticks
from dualface_client.video.reference import is_disposable
from dualface_client.video.timeline import Timeline
from dualface_client.video.tonemap import ToneMapper, peak_nits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Demuxers that make a "video" out of any text or list of pictures.
_NOT_VIDEO = frozenset({"tty", "lrc"})
_LISTS = {b"#EXTM3U": "an HLS playlist", b"ffconcat": "a concat list"}
_ASPECT_LIMIT = 8  # sample aspect ratios beyond 1:8 are damage, not intent
_FALLBACK_RATE = Fraction(25)
_READ_RETRIES = 16
_KEY_FRAME_WITHIN = 600  # packets; streams with periodic intra refresh have no later key frame
_CLOSE_TIMEOUT_S = 5.0
_REMEDY_NOT_VIDEO = "check that it is a complete video file"


class PyavSource:
    """A video file as upright NV12 frames in presentation order.

    The constructor opens the file and decodes its first picture, so that `info` describes the
    frames to come. Iterate once; `close` may be called from any thread.
    """

    def __init__(
        self, path: str | Path, *, threads: int | str = "auto", deinterlace: bool = True
    ) -> None:
        """Opens the file.

        Args:
            path: A regular file in any container and codec that FFmpeg reads.
            threads: Decoder threads, `"auto"` for FFmpeg's choice.
            deinterlace: Whether pictures flagged as interlaced are deinterlaced.

        Raises:
            SourceError: The file is missing, unreadable, empty, not a video, or nothing in it can
                be decoded.
            UsageError: `threads` is neither `"auto"` nor positive.
        """
        self._path = Path(path)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._iterated = False
        self._decode_errors = 0
        self._damaged = 0
        self._left_out = 0
        self._to_skip = 0
        self._resized = 0
        self._truncated: str | None = None
        self._deinterlace = deinterlace and can_deinterlace()
        count = thread_count(threads)
        _check_file(self._path)
        self._container = _open(self._path)
        try:
            self._prepare(count)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream; `notes` are complete when the constructor returns."""
        return self._info

    @property
    def decode_errors(self) -> int:
        """Packets that could not be decoded or were left out, and pictures with damage."""
        return self._decode_errors + self._left_out + self._damaged

    @property
    def truncated(self) -> bool:
        """Whether the file was cut short. Its frames up to there are yielded."""
        return self._truncated is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong so far without ending the stream; complete after the last frame."""
        timeline = self._timeline
        counted = (
            (self._decode_errors, "packets could not be decoded and were skipped"),
            (self._left_out, "packets after them, up to the next key frame, were left out"),
            (self._damaged, "pictures are damaged"),
            (timeline.filled, "missing time stamps were filled by the frame rate"),
            (timeline.bumped, "time stamps did not increase and were moved"),
            (timeline.jumps, "jumps back in time were closed"),
            (self._resized, "frames had another size and were scaled to the first one's"),
        )
        found = [f"{count} {what}" for count, what in counted if count]
        if self._truncated is not None:
            found.append(f"the file is cut short ({self._truncated}); what is there was used")
        return tuple(found)

    def __iter__(self) -> Iterator[Frame]:
        """Frames in presentation order.

        Raises:
            SourceError: A second iteration was asked for.
        """
        if self._iterated:
            raise SourceError(f"{self._path}: a source is read once; open it again")
        self._iterated = True
        return self._frames()

    def close(self) -> None:
        """Ends the iteration after the current frame and closes the file; may be repeated."""
        self._closing.set()
        # If the iterator outlasts this wait, it closes the file itself.
        if self._lock.acquire(timeout=_CLOSE_TIMEOUT_S):
            try:
                self._container.close()
            finally:
                self._lock.release()

    def _prepare(self, threads: int) -> None:
        self._stream = _video_stream(self._container, self._path)
        self._stream.thread_type = "AUTO"
        self._stream.thread_count = threads
        self._truncated = integrity.truncation(self._path)
        decoded = self._decoded()
        first = next(decoded, None)
        if first is None:
            raise SourceError(
                f"{self._path}: no picture of its {self._stream.codec_context.name} stream can be "
                "decoded; the file is damaged or its codec is not supported"
            )
        self._color, self._tags = spec_of(first.frame), tags_of(first.frame)
        self._time_base = self._stream.time_base or Fraction(1, 90_000)
        self._first_wh = first.frame.width, first.frame.height
        self._tone_mapper = _tone_mapper_of(first.frame)
        self._converter = _converter(self._stream, first.frame, self._tone_mapper)
        self._info = self._describe(first.frame)
        rate = self._info.frame_rate or _FALLBACK_RATE
        self._timeline = Timeline(self._time_base, ticks(1 / rate, self._time_base))
        self._pictures = self._deinterlaced(itertools.chain((first,), decoded))

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        width, height = self._converter.size_wh_px
        rate = _frame_rate(self._stream)
        duration_s = _duration_s(self._container, self._stream)
        return VideoInfo(
            width_px=width,
            height_px=height,
            frame_rate=rate,
            time_base=self._time_base,
            frame_count=max(self._stream.frames, round(duration_s * (rate or 0))),
            duration_s=duration_s,
            color=self._color,
            primaries=self._tags.primaries,
            transfer=self._tags.transfer,
            codec=self._stream.codec_context.name,
            audio_stream_count=len(self._container.streams.audio),
            notes=tuple(self._notes(first)),
        )

    def _notes(self, first: av.VideoFrame) -> Iterator[str]:
        if first.format.name not in {"yuv420p", "yuvj420p", "nv12"}:
            yield f"{first.format.name} is converted to 8-bit 4:2:0"
        if first.rotation:
            yield f"rotated by {-first.rotation % 360} degrees clockwise to stand upright"
        if first.width % 2 or first.height % 2:
            yield f"odd size {first.width}x{first.height} is padded to even"
        aspect = _sample_aspect(self._stream)
        if aspect != 1:
            yield f"sample aspect ratio {aspect} is scaled to square pixels"
        if first.interlaced_frame:
            yield "interlaced: deinterlaced" if self._deinterlace else "interlaced: left as it is"
        hdr = hdr_note(first.color_trc)
        if hdr:
            yield hdr
        if self._truncated is not None:
            yield f"the file is cut short ({self._truncated})"

    def _frames(self) -> Iterator[Frame]:
        try:
            for index in itertools.count():
                with self._lock:
                    frame = None if self._closing.is_set() else self._next_frame(index)
                if frame is None:
                    return
                yield frame
        finally:
            self.close()

    def _next_frame(self, index: int) -> Frame | None:
        try:
            picture = next(self._pictures, None)
            if picture is None:
                return None
            frame = picture.frame
            self._resized += (frame.width, frame.height) != self._first_wh
            return Frame(
                index,
                self._timeline.place(picture.pts, picture.duration),
                self._time_base,
                self._converter.convert(frame, self._color),
                picture.duration,
            )
        except AV_ERRORS as error:
            raise source_error(self._path, error, _REMEDY_NOT_VIDEO) from error

    def _deinterlaced(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        if not self._deinterlace:
            yield from pictures
            return
        deinterlacer = Deinterlacer()
        for picture in pictures:
            yield from deinterlacer.push(picture)
        yield from deinterlacer.flush()

    def _decoded(self) -> Iterator[Picture]:
        for packet in self._packets():
            for frame in self._decode(packet):
                self._damaged += frame.is_corrupt
                # Like FFmpeg's best effort: a decoder that lost the PTS still knows the DTS.
                pts = frame.pts if frame.pts is not None else frame.dts
                yield Picture(frame, pts, frame.duration or 0)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[av.VideoFrame]:
        if packet is not None and self._is_skipped(packet):
            return []
        try:
            return self._stream.codec_context.decode(packet)
        except av.error.EOFError:  # already drained
            return []
        except AV_ERRORS:
            self._decode_errors += 1
            # Pictures that build on a lost one would be smeared, and faces are found even in
            # smears.
            codec = self._stream.codec_context.name
            harmless = packet is None or is_disposable(packet, codec)
            self._to_skip = 0 if harmless else _KEY_FRAME_WITHIN
            return []

    def _is_skipped(self, packet: Packet[VideoStream]) -> bool:
        """Whether the packet is left out: after an error, up to the next key frame."""
        self._to_skip = 0 if packet.is_keyframe else max(0, self._to_skip - 1)
        self._left_out += self._to_skip > 0
        return self._to_skip > 0

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """Packets of the stream, then None to drain the decoder."""
        for _ in range(_READ_RETRIES):
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        yield packet
                break
            except AV_ERRORS as error:
                # A demuxer may find the next packet after an error; if it cannot, it fails again.
                self._truncated = self._truncated or f"reading stopped: {error}"
        yield None


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"{path}: is a directory; name a video file")
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


def _open(path: Path) -> InputContainer:
    try:
        container = av.open(file_url(path), "r", metadata_errors="replace")
    except AV_ERRORS as error:
        if integrity.lacks_index(path):
            raise SourceError(
                f"{path}: its index (moov) is missing: the recording or copy was cut short; copy "
                "it again, or repair it with a tool such as untrunc"
            ) from error
        raise source_error(path, error, _REMEDY_NOT_VIDEO) from error
    name = container.format.name
    if name in _NOT_VIDEO:
        container.close()
        raise SourceError(f"{path}: is text, not a video; {_REMEDY_NOT_VIDEO}")
    if name == "image2" or name.endswith("_pipe"):
        container.close()
        raise SourceError(
            f"{path}: is a picture, not a video; make a video from a picture sequence first "
            "(`ffmpeg -framerate 25 -i frame%04d.jpg out.mp4`)"
        )
    return container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    covers = 0
    for stream in container.streams.video:
        if av.stream.Disposition.attached_pic in stream.disposition:
            covers += 1
        elif stream.codec_context is not None:
            return stream
        else:
            raise SourceError(f"{path}: this FFmpeg build has no decoder for its video codec")
    if container.streams.audio:
        cover = " and a cover picture" if covers else ""
        raise SourceError(f"{path}: has only audio{cover}, no video stream; name a video file")
    raise SourceError(f"{path}: has no video stream; {_REMEDY_NOT_VIDEO}")


def _converter(
    stream: VideoStream, first: av.VideoFrame, tone_mapper: ToneMapper | None
) -> Nv12Converter:
    size = first.width, first.height
    turns = round(first.rotation / 90)
    return Nv12Converter(size, _sample_aspect(stream), turns, tone_mapper=tone_mapper)


def _tone_mapper_of(frame: av.VideoFrame) -> ToneMapper | None:
    """What converts a source with such pictures; None if it has no high dynamic range."""
    transfer = frame.color_trc
    return ToneMapper(transfer, peak_nits(frame, transfer)) if transfer in TRANSFERS_HDR else None


def _sample_aspect(stream: VideoStream) -> Fraction:
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return aspect if Fraction(1, _ASPECT_LIMIT) <= aspect <= _ASPECT_LIMIT else Fraction(1)


def _frame_rate(stream: VideoStream) -> Fraction | None:
    return stream.average_rate or stream.guessed_rate or stream.base_rate or None


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6
