"""Frames from a video file through PyAV, on the CPU."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dualface_client.errors import SourceError
from dualface_client.types import Frame, VideoInfo
from dualface_client.video import integrity
from dualface_client.video.color import (
    hdr_note,
    keeps_gray_levels,
    spec_of,
    tags_of,
)
from dualface_client.video.convert import Nv12Converter
from dualface_client.video.deinterlace import Deinterlacer, Picture, can_deinterlace
from dualface_client.video.ffmpeg import AV_ERRORS, av, source_error, thread_count, ticks
from dualface_client.video.orientation import Orientation
from dualface_client.video.packets import JoinedPackets, PictureTimes
from dualface_client.video.promise import Came, Promise
from dualface_client.video.reference import is_disposable
from dualface_client.video.timeline import Timeline
from dualface_client.video.tonemap import ToneMapper
from dualface_client.video.tracks import (
    NOT_VIDEO_REMEDY,
    choice_note,
    open_input,
    ranked_videos,
    sound_of,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_ASPECT_LIMIT = 8  # sample aspect ratios beyond 1:8 are damage, not intent
_UNSEEN = Fraction(-1)
_FALLBACK_RATE = Fraction(25)
_SLOWEST = Fraction(1, 86_400)  # with fewer frames a second, MP4's times do not hold the steps
_KEY_FRAME_WITHIN = 600  # packets; streams with periodic intra refresh have no later key frame
_CLOSE_TIMEOUT_S = 5.0
#: Open groups of pictures leave out the few before the first key frame, as every player does.
_START_S = Fraction(1, 4)


class PyavSource:
    """A video file as upright NV12 frames in presentation order.

    The constructor opens the file and decodes its first picture, so that `info` describes the
    frames to come. Iterate once; `close` may be called from any thread.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | str = "auto",
        deinterlace: bool = True,
        video_track: int | None = None,
    ) -> None:
        """Opens the file.

        Args:
            path: A regular file in any container and codec that FFmpeg reads.
            threads: Decoder threads, `"auto"` for FFmpeg's choice.
            deinterlace: Whether pictures flagged as interlaced are deinterlaced.
            video_track: Number of the video track, from 1; None for the one that players show.

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
        self._sent_from: int | None = None  # earliest time of a packet so far
        self._resized = 0
        self._incomplete = ""
        self._difference: str | None = None
        self._deinterlace = deinterlace and can_deinterlace()
        count = thread_count(threads)
        self._file = ExitStack()
        try:
            self._prepare(count, ranked_videos(self._path, video_track))
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
    def is_short_to_read(self) -> bool:
        """False: the CPU decodes."""
        return False

    @property
    def truncated(self) -> bool:
        """Whether the file was cut short. Its frames up to there are yielded."""
        return self._cut is not None

    @property
    def incomplete(self) -> str:
        """What is missing of what the file promises, empty for nothing; known after the end."""
        return self._incomplete

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
            (self._joined.joins, "joins, where time stamps start again, were closed"),
            (timeline.jumps, "jumps back in time were closed"),
            (
                timeline.pauses,
                "times the next picture comes a minute or more later, at the longest "
                f"{float(timeline.longest_pause_s):.0f} s; the one before is shown until then",
            ),
            (
                self._resized,
                "frames differ in size or shape from the first one and were fitted to it",
            ),
        )
        found = [f"{count} {what}" for count, what in counted if count]
        if self._cut is not None:
            found.append(_cut_note(self._cut))
        if self._difference is not None:
            found.append(f"the file does not match its header: {self._difference}")
        return tuple(found)

    @property
    def _cut(self) -> str | None:
        """What shows that the file is cut short."""
        error = self._joined.error
        return self._truncated or (None if error is None else f"reading stopped: {error}")

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
                self._file.close()
            finally:
                self._lock.release()

    def _prepare(self, threads: int, candidates: Sequence[int]) -> None:
        self._truncated = integrity.truncation(self._path)
        for index in candidates:
            self._select(index, threads)
            decoded = self._decoded()
            first = next(decoded, None)
            if first is not None:
                break
            self._decode_errors = self._left_out = self._to_skip = 0
        else:
            raise SourceError(
                f"{self._path}: no picture of its {self._stream.codec_context.name} stream can be "
                "decoded; the file is damaged or its codec is not supported"
            )
        self._color, self._tags = spec_of(first.frame), tags_of(first.frame)
        self._first_wh = first.frame.width, first.frame.height
        self._first_aspect = self._aspect
        self._orientation = Orientation.of(first.frame)
        self._tone_mapper = ToneMapper.of(first.frame)
        self._converter = Nv12Converter(
            self._first_wh,
            self._aspect,
            self._orientation,
            tone_mapper=self._tone_mapper,
            keeps_gray_levels=keeps_gray_levels(first.frame, self._stream.codec_context.name),
        )
        self._missing_start_s = self._before(first)
        self._info = self._describe(first.frame)
        self._timeline = Timeline(self._time_base, ticks(self._step_s, self._time_base))
        self._pictures = self._deinterlaced(itertools.chain((first,), decoded))

    def _select(self, index: int, threads: int) -> None:
        """Starts at the beginning of one of the file's video tracks."""
        self._file.close()
        self._container = self._file.enter_context(open_input(self._path))
        self._stream = cast("VideoStream", self._container.streams[index])
        self._stream.thread_type = "AUTO"
        self._stream.thread_count = threads
        self._sound = sound_of(self._container, index)
        self._joined = JoinedPackets(self._container, (index, *self._sound))
        self._aspect = _plausible(self._stream.sample_aspect_ratio)
        self._coded_aspect: Fraction | None = _UNSEEN
        self._time_base = self._stream.time_base or Fraction(1, 90_000)
        self._step_s = 1 / (_frame_rate(self._stream) or _FALLBACK_RATE)
        self._promise = Promise.of(self._container, self._stream, self._step_s)
        is_reordered = self._stream.codec_context.reorder_depth > 0
        self._times = PictureTimes(is_reordered * ticks(self._step_s, self._time_base))

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        width, height = self._converter.size_wh_px
        rate = _frame_rate(self._stream)
        if rate and rate < _SLOWEST:
            raise SourceError(
                f"{self._path}: says that it has one frame in {float(1 / rate):g} s; expected one "
                "a day at least. Give it its frame rate, for example by `ffmpeg -r 25 -i ...`"
            )
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
            stream_index=self._stream.index,
            audio_stream_count=len(self._sound),
            notes=tuple(self._notes(first)),
        )

    def _before(self, first: Picture) -> Fraction:
        """Seconds of the file before its first picture: packets without their key frame."""
        if first.pts is None or self._sent_from is None:
            return Fraction(0)
        return (first.pts - self._sent_from) * self._time_base

    def _notes(self, first: av.VideoFrame) -> Iterator[str]:
        yield from self._notes_of_file()
        yield from self._notes_of_pictures(first)

    def _notes_of_file(self) -> Iterator[str]:
        choice = choice_note(self._container, self._stream.index)
        if choice is not None:
            yield choice
        if self._missing_start_s > _START_S:
            yield (
                f"the first {float(self._missing_start_s):.2f} s have no picture that can be "
                "decoded: the file begins between two key frames, or its beginning is damaged"
            )
        if self._cut is not None:
            yield _cut_note(self._cut)
        if integrity.has_another_video(self._path):
            yield (
                "another video follows in the same file and is not used: MP4 and MOV files cannot "
                "be joined byte by byte (`ffmpeg -f concat` joins them)"
            )

    def _notes_of_pictures(self, first: av.VideoFrame) -> Iterator[str]:
        if first.format.name not in {"yuv420p", "yuvj420p", "nv12"}:
            yield f"{first.format.name} is converted to 8-bit 4:2:0"
        if str(self._orientation):
            yield f"{self._orientation} to stand upright"
        if first.width % 2 or first.height % 2:
            yield f"odd size {first.width}x{first.height} is padded to even"
        if self._aspect != 1:
            yield f"sample aspect ratio {self._aspect} is scaled to square pixels"
        if first.interlaced_frame:
            yield "interlaced: deinterlaced" if self._deinterlace else "interlaced: left as it is"
        hdr = hdr_note(first.color_trc)
        if hdr:
            yield hdr

    def _frames(self) -> Iterator[Frame]:
        try:
            for index in itertools.count():
                with self._lock:
                    frame = None if self._closing.is_set() else self._next_frame(index)
                if frame is None:
                    self._check_end()
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
            shape = frame.width, frame.height, picture.sample_aspect
            self._resized += shape != (*self._first_wh, self._first_aspect)
            return Frame(
                index,
                self._timeline.place(picture.pts, picture.duration),
                self._time_base,
                self._converter.convert(frame, self._color, picture.sample_aspect),
                picture.duration,
            )
        except AV_ERRORS as error:
            raise source_error(self._path, error, NOT_VIDEO_REMEDY) from error

    def _deinterlaced(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        if not self._deinterlace:
            yield from pictures
            return
        deinterlacer = Deinterlacer()
        for picture in pictures:
            yield from deinterlacer.push(picture)
        yield from deinterlacer.flush()

    def _check_end(self) -> None:
        """Compares what came with what the file promises."""
        if self._closing.is_set():
            return
        index, spans_s = self._stream.index, self._joined.spans_s
        if self._promise.is_of_video:
            spans_s = {index: spans_s[index]} if index in spans_s else {}
        spans = [*spans_s.values()] or [(Fraction(0),) * 3]
        starts_s, lasts_s, ends_s = zip(*spans, strict=True)
        came = Came(self._joined.counts[index], min(starts_s), max(lasts_s), max(ends_s))
        self._difference = self._promise.difference(came)
        if self._promise.is_missed(came, cut=self._cut is not None):
            self._incomplete = f"{self._path}: is not complete: {self._difference}"

    def _decoded(self) -> Iterator[Picture]:
        for packet in self._packets():
            for frame in self._decode(packet):
                self._damaged += frame.is_corrupt
                # Like FFmpeg's best effort: a decoder that lost the PTS still knows the DTS.
                pts = self._times.shown(frame.pts if frame.pts is not None else frame.dts)
                yield Picture(frame, pts, frame.duration or 0, self._aspect_of(frame))

    def _aspect_of(self, frame: av.VideoFrame) -> Fraction:
        """The picture's sample aspect ratio, which may change at a key frame."""
        coded = self._stream.codec_context.sample_aspect_ratio
        if frame.key_frame and coded != self._coded_aspect:
            # The container's own ratio, if it has one, goes before the first coded one.
            if self._coded_aspect is not _UNSEEN:
                self._aspect = _plausible(coded)
            self._coded_aspect = coded
        return self._aspect

    def _decode(self, packet: Packet[VideoStream] | None) -> list[av.VideoFrame]:
        if packet is not None:
            if self._is_skipped(packet):
                return []
            self._times.send(packet)
            if packet.pts is not None and not packet.is_discard:
                first_pts = packet.pts if self._sent_from is None else self._sent_from
                self._sent_from = min(first_pts, packet.pts)
        try:
            return self._stream.codec_context.decode(packet)
        except av.error.EOFError:  # already drained
            return []
        except AV_ERRORS:
            self._decode_errors += 1
            if packet is not None:
                self._times.lose(packet)
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
        yield from self._joined.read(self._stream.index)
        yield None


def _cut_note(how: str) -> str:
    return f"the file is cut short ({how}); what is there is used"


def _plausible(aspect: Fraction | None) -> Fraction:
    known = aspect or Fraction(1)
    return known if Fraction(1, _ASPECT_LIMIT) <= known <= _ASPECT_LIMIT else Fraction(1)


def _frame_rate(stream: VideoStream) -> Fraction | None:
    return stream.average_rate or stream.guessed_rate or stream.base_rate or None


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6
