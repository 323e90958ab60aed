"""H.264 in MP4, MOV or Matroska through PyAV and x264, playable at any moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from dualface_client.errors import DualfaceError, EncoderError, SinkError, UsageError
from dualface_client.types import Frame, VideoInfo
from dualface_client.video.audio import AudioCopy
from dualface_client.video.color import tag
from dualface_client.video.convert import picture_of
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.ffmpeg import AV_ERRORS, av, reason, sink_error, thread_count, ticks
from dualface_client.video.formats import FORMATS, HYBRID_WORKS
from dualface_client.video.metadata import carry_metadata
from dualface_client.video.null_sink import never
from dualface_client.video.outfile import OutputFile, partial_path_of
from dualface_client.video.x264_params import cpu_flags, x264_params

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_BUFFER_BYTES = 1 << 20
_GOP_S = 2
_FALLBACK_RATE = Fraction(25)
_CRF_LIMIT = 51


class PyavSink:
    """One output video: encoded canvases plus the source's audio.

    Written as `NAME.partial.SUFFIX` beside the final name, which it gets in `close`. Until then,
    and if the process dies, the partial file plays up to a second or two before that moment. Not
    thread-safe.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option of the command line
        self,
        path: str | Path,
        info: VideoInfo,
        layout_wh_px: tuple[int, int],
        *,
        audio_from: str | Path | None = None,
        audio: str = "copy",
        encoder: str = "x264",
        preset: str = "veryfast",
        crf: float = 20,
        overwrite: bool = False,
        threads: int | str = "auto",
        disk_wait: DiskWait | None = None,
    ) -> None:
        """Creates the partial file and writes its header.

        Args:
            path: The output; its suffix, .mp4, .m4v, .mov or .mkv, selects the container.
            info: The source's frame rate, time base and colour.
            layout_wh_px: Width and height of the canvases, even.
            audio_from: The file whose sound is used, None for a silent output.
            audio: What happens to it: `copy`, `transcode` or `drop`; see `AudioCopy`.
            encoder: `x264`.
            preset: One of x264's presets, `ultrafast` to `placebo`.
            crf: x264's constant rate factor, 0 (lossless) to 51.
            overwrite: Whether an existing output is replaced.
            threads: Encoder threads, `"auto"` for x264's choice.
            disk_wait: Patience with a full disk, None for none.

        Raises:
            UsageError: An option is out of range, the output exists, or it is the input.
            SinkError: The output cannot be created.
            SourceError: `audio_from` cannot be read.
        """
        self._path = Path(path)
        self._suffix = self._path.suffix.lower()
        self._wh = layout_wh_px
        self._time_base = info.time_base
        self._frame_count = 0
        self._durations: dict[int, int] = {}  # of the frames inside the encoder
        self._step = ticks(1 / (info.frame_rate or _FALLBACK_RATE), info.time_base)
        self._shift = 0
        self._video_end_s = Fraction(0)
        self._state = "open"
        self._notes: list[str] = []
        _check_options(self._path, audio_from, encoder, crf)
        options = {"preset": preset, "crf": str(crf), "profile": "high"}
        count = thread_count(threads)
        self._file = OutputFile(self._path, overwrite=overwrite, disk_wait=disk_wait)
        self._audio: AudioCopy | None = None
        self._container: OutputContainer | None = None
        try:
            if audio_from is not None:
                index = info.stream_index
                self._audio = AudioCopy(Path(audio_from), audio, video_index=index)
            self._container = self._open_container()
            self._stream = self._add_video(info, options, count)
            if self._audio is not None:
                self._audio.attach(self._container, self._suffix)
                shift_s = _whole_seconds(self._audio.start_s, Fraction(0), 1)
                source = self._audio.source
                self._notes += carry_metadata(source, self._container, self._suffix, shift_s)
            self._container.start_encoding()
            self._raise_write_error()
            if not HYBRID_WORKS and self._container.format.name in {"mp4", "mov"}:
                self._notes.append("the MP4 stays in fragments; PyAV 18 or later makes it ordinary")
        except BaseException as error:
            self._drop()
            if isinstance(error, AV_ERRORS):
                raise sink_error(self._path, error) from error
            raise

    @property
    def frame_count(self) -> int:
        """Frames taken so far."""
        return self._frame_count

    @property
    def is_short_to_write(self) -> bool:
        """False: the canvas is encoded."""
        return False

    @property
    def partial_path(self) -> Path | None:
        """Path of the unfinished file; None once it has its final name or was removed."""
        return self._file.partial_path

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was changed in copying audio and times, for the user."""
        return (*self._notes, *(self._audio.warnings if self._audio else ()))

    def write(self, frame: Frame) -> None:
        """Encodes one canvas; times are the source's.

        Args:
            frame: A host picture of the layout's size, in the time base of the source's info,
                later than the one before.

        Raises:
            DiskFullError: No space is left. What was written before stays playable.
            EncoderError: The encoder failed; another one may work.
            SinkError: The output can no longer be written, or the frame has the wrong format.
        """
        self._check_frame(frame)
        if not self._frame_count:
            self._place_origin(frame)
        self._frame_count += 1
        picture = picture_of(frame.image)
        picture.pts = frame.pts - self._shift
        picture.time_base = self._time_base
        self._durations[picture.pts] = frame.duration or self._step
        self._encode(lambda: self._stream.encode(picture))

    def _encode(self, encode: Callable[[], list[Packet[VideoStream]]]) -> None:
        """Muxes what the encoder yields; its own failure is distinguished from the file's."""
        try:
            packets = encode()
        except EncoderError as error:
            self._state = "failed"
            raise EncoderError(f"{self._path}: the encoder failed ({error})") from error
        except AV_ERRORS as error:
            self._state = "failed"
            raise EncoderError(f"{self._path}: the encoder failed ({reason(error)})") from error
        try:
            self._mux(packets)
        except AV_ERRORS as error:
            self._state = "failed"
            raise sink_error(self._path, error) from error

    def close(self, stopped: Callable[[], bool] = never) -> bool:
        """Finishes the file and gives it its final name; a second call does nothing.

        Args:
            stopped: Asked while audio that is longer than the video is copied. True ends the
                file there; it then keeps its partial name, as after `abort`.

        Returns:
            Whether the output is complete and has its final name.

        Raises:
            DiskFullError: No space is left for the end of the file.
            SinkError: No frame was written (nothing is left behind), an earlier write failed, or
                the final name is taken; else the partial file stays, playable.
        """
        if self._state == "closed":
            return self.partial_path is None
        failed = self._state == "failed"
        if failed or not self._frame_count:
            self.abort()
            why = "an earlier write failed" if failed else "no frame was written"
            raise SinkError(f"{self._path}: {why}; there is no output under this name")
        self._state = "failed"
        try:
            complete = self._finish(math.inf, stopped)
        except DualfaceError:
            self._file.release()
            raise
        self._state = "closed"
        if complete:
            self._file.publish()
        else:
            self._file.release()
        return complete

    def abort(self) -> None:
        """Stops early: what was written stays playable at `partial_path`.

        Without any frame nothing stays. Never raises for what can no longer be written.
        """
        if self._state == "closed":
            return
        if not self._frame_count:
            self._drop()
            return
        failed, self._state = self._state == "failed", "closed"
        try:
            if failed:
                self._close_parts()
            else:
                self._finish(self._video_end_s)
        except SinkError as error:
            self._notes.append(str(error))
        finally:
            self._file.release()

    def _open_container(self) -> OutputContainer:
        form = FORMATS[self._suffix]
        return av.open(
            self._file, "w", format=form.muxer, options=form.options, buffer_size=_BUFFER_BYTES
        )

    def _add_video(self, info: VideoInfo, options: dict[str, str], threads: int) -> VideoStream:
        assert self._container is not None  # noqa: S101 - the constructor opened it
        rate = info.frame_rate or _FALLBACK_RATE
        options = {**options, "x264-params": x264_params(cpu_flags())}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = self._wh
        stream.pix_fmt = "nv12"  # x264 takes NV12 directly; the bitstream is 4:2:0 in any case
        context = stream.codec_context
        context.time_base = info.time_base
        context.gop_size = max(1, round(_GOP_S * rate))
        context.thread_count = threads
        tag(context, info)
        return stream

    def _place_origin(self, first: Frame) -> None:
        """Subtracts whole seconds if a source starts late, or so early that frames are lost."""
        video_s = first.pts * first.time_base
        origin_s = min(video_s, self._audio.start_s) if self._audio else video_s
        # A multiple of this many seconds is a whole number of units in any such time base.
        shift_s = _whole_seconds(origin_s, video_s, self._time_base.numerator)
        if not shift_s:
            return
        self._notes.append(f"the source starts at {float(origin_s):.3f} s: {shift_s} s subtracted")
        self._shift = int(shift_s / self._time_base)
        if self._audio is not None:
            self._audio.start(shift_s)

    def _check_frame(self, frame: Frame) -> None:
        if self._state != "open":
            raise SinkError(f"{self._path}: the output is {self._state}; no frame can follow")
        size = frame.image.size_wh_px
        if size != self._wh or frame.time_base != self._time_base:
            raise SinkError(
                f"{self._path}: frame {frame.index} is {size} in {frame.time_base} s, expected "
                f"{self._wh} in {self._time_base} s; compose to the layout's size"
            )

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        assert self._container is not None  # noqa: S101 - open until `_close_parts`
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts or 0, self._step)
            decode_stamp = packet.dts if packet.dts is not None else packet.pts or 0
            time_s = decode_stamp * self._time_base
            self._video_end_s = max(self._video_end_s, time_s)
            if self._audio is not None:
                self._audio.copy_until(self._container, time_s)
            self._container.mux(packet)
        self._raise_write_error()

    def _finish(self, audio_until_s: Fraction | float, stopped: Callable[[], bool] = never) -> bool:
        """Drains the encoder, copies audio and closes; returns whether all of it was copied."""
        assert self._container is not None  # noqa: S101 - open until `_close_parts`
        complete = True
        try:
            self._mux(self._stream.encode(None))
            if self._audio is not None:
                complete = self._audio.copy_until(self._container, audio_until_s, stopped)
                self._audio.finish(self._container)
        except AV_ERRORS as error:
            raise sink_error(self._path, error) from error
        finally:
            self._close_parts()
        self._raise_write_error()
        return complete

    def _close_parts(self) -> None:
        """Ends the container and the audio reader; the trailer may fail on a full disk."""
        try:
            if self._container is not None:
                self._container.close()
        except AV_ERRORS as error:
            if self._file.error is None:
                raise sink_error(self._path, error) from error
        finally:
            self._container = None
            if self._audio is not None:
                self._audio.close()

    def _drop(self) -> None:
        """Closes everything and leaves no file."""
        self._state = "closed"
        try:
            self._close_parts()
        except SinkError as error:
            self._notes.append(str(error))
        finally:
            self._file.discard()

    def _raise_write_error(self) -> None:
        if self._file.error is not None:
            self._state = "failed"
            raise sink_error(self._path, self._file.error) from self._file.error


def _whole_seconds(origin_s: Fraction, video_s: Fraction, unit_s: int) -> int:
    """By how much a source's times are moved, a multiple of the unit.

    Args:
        origin_s: Where its earliest stream starts.
        video_s: Where its video starts.
        unit_s: Seconds.
    """
    shift_s = math.floor(origin_s / unit_s) * unit_s
    if shift_s < 0 <= video_s and origin_s > Fraction(-1, 2):
        return 0  # encoder priming before zero: players skip it by the edit list
    return shift_s


def _check_options(path: Path, audio_from: str | Path | None, encoder: str, crf: float) -> None:
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{path}: output suffix {path.suffix!r} is unknown; expected one of "
            f"{', '.join(FORMATS)}"
        )
    if encoder != "x264":
        raise UsageError(f"encoder is {encoder!r}; on the CPU expected 'x264'")
    if not 0 <= crf <= _CRF_LIMIT:
        raise UsageError(f"crf is {crf}; expected 0 to {_CRF_LIMIT}")
    # The partial file is replaced when the output is opened: it must not be the input either.
    for written in (path, partial_path_of(path)):
        if audio_from is not None and written.exists() and written.samefile(audio_from):
            raise UsageError(f"{written}: is the input itself; choose another output")
