"""A live stream's encoder: pictures and sound once, for all of its outputs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from dualface_client.errors import EncoderError, SinkError
from dualface_client.types import Frame, VideoInfo
from dualface_client.video.color import tag
from dualface_client.video.convert import picture_of
from dualface_client.video.ffmpeg import AV_ERRORS, av, reason, thread_count
from dualface_client.video.live_encoded import KEY_FRAMES_S, Encoded, Target, Templates
from dualface_client.video.live_outputs import LiveOutput
from dualface_client.video.live_sound import LAYOUT, RATE_HZ, LiveSound
from dualface_client.video.null_sink import never
from dualface_client.video.x264_params import cpu_flags, x264_params

_FALLBACK_RATE = Fraction(25)
_SOUND_BITS_PER_S = 160_000
_NO_DISTANT_KEYS = 1_000_000  # frames; key frames are asked for by time
#: Sound that is later than this behind its picture is silence.
_SOUND_PATIENCE_S = 1.0
# AAC's encoder keeps up to three packets. Sound goes in that far ahead of its picture, so that what
# belongs before a key frame has come out for the old file, and muxers need not wait for sound.
_SOUND_AHEAD_S = 3 * 1024 / RATE_HZ
#: How long outputs have for what is waiting at the end.
_CLOSE_S = 10.0


class LiveSink:
    """Encodes canvases with x264 and sound with AAC, and hands the packets to several outputs.

    Pictures leave the encoder at once: it looks at none ahead. Not thread-safe.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option of the command line
        self,
        targets: Sequence[Target],
        info: VideoInfo,
        layout_wh_px: tuple[int, int],
        sound: LiveSound | None,
        tell: Callable[[str], None],
        *,
        preset: str = "veryfast",
        crf: float = 20,
        threads: int | str = "auto",
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """Opens the encoders; outputs are opened with the first picture.

        Args:
            targets: The outputs.
            info: The source's frame rate, time base and colour.
            layout_wh_px: Width and height of the canvases, even.
            sound: None for silent outputs.
            tell: Hears about outputs that stop working, on any thread.
            preset: One of x264's presets.
            crf: x264's constant rate factor, 0 (lossless) to 51.
            threads: Encoder threads, `"auto"` for x264's choice.
            unix_s: A clock, seconds since 1970.

        Raises:
            EncoderError: They cannot be opened.
        """
        self._wh = layout_wh_px
        self._time_base = info.time_base
        self._step = round(1 / (info.frame_rate or _FALLBACK_RATE) / info.time_base)
        self._sound = sound
        self._unix_s = unix_s
        self._frame_count = 0
        self._next_key_s = 0.0
        self._closed = False
        try:
            # It writes nothing; its streams are the encoders, and what the outputs are made like.
            self._encoders = av.open(os.devnull, "w", format="null")
            pictures = self._add_pictures(info, preset, crf, thread_count(threads))
            templates = Templates(pictures, None if sound is None else self._add_sound())
            self._encoders.start_encoding()
        except AV_ERRORS as error:
            raise EncoderError(f"the encoder cannot be opened ({reason(error)})") from error
        self._templates = templates
        self._outputs = [LiveOutput(target, templates, tell) for target in targets]

    @property
    def outputs(self) -> Sequence[LiveOutput]:
        """How the outputs are doing."""
        return self._outputs

    @property
    def frame_count(self) -> int:
        """Frames taken so far."""
        return self._frame_count

    @property
    def sound_drift_s(self) -> float:
        """How far the sound is written from its picture, seconds."""
        return self._sound.drift_s if self._sound is not None else 0.0

    @property
    def sound_corrected_s(self) -> float:
        """Silence filled in and sound cut away, so that it stays with its picture, seconds."""
        return self._sound.filled_s + self._sound.cut_s if self._sound is not None else 0.0

    @property
    def is_short_to_write(self) -> bool:
        """False: the canvas is encoded."""
        return False

    @property
    def partial_path(self) -> Path | None:
        """Always None: files have their final names when the stream has ended."""
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the outputs so far."""
        notes = [
            f"{output.shown}: failed {output.failures} times, {output.lost} packets were lost"
            for output in self._outputs
            if output.failures or output.lost
        ]
        if self._sound is not None and self._sound.damaged:
            notes.append(f"{self._sound.damaged} packets of sound could not be decoded")
        return tuple(notes)

    def write(self, frame: Frame) -> None:
        """Encodes one canvas, and the sound up to it.

        Args:
            frame: A host picture of the layout's size, later than the one before.

        Raises:
            EncoderError: An encoder failed.
            SinkError: The frame has the wrong format, or the sink is closed.
        """
        size = frame.image.size_wh_px
        if self._closed or size != self._wh or frame.time_base != self._time_base:
            raise SinkError(
                f"frame {frame.index} is {size} in {frame.time_base} s, expected {self._wh} in "
                f"{self._time_base} s, before the end"
            )
        self._frame_count += 1
        picture = picture_of(frame.image)
        picture.pts, picture.time_base = frame.pts, self._time_base
        if frame.time_s >= self._next_key_s:
            picture.pict_type = av.video.frame.PictureType.I
            self._next_key_s = frame.time_s + KEY_FRAMES_S
        if self._sound is not None:
            ahead_s = frame.time_s + _SOUND_AHEAD_S
            self._encode_sound(self._sound.until(ahead_s, _SOUND_PATIENCE_S + _SOUND_AHEAD_S))
        self._encode(self._templates.pictures, picture, is_picture=True)

    def close(self, stopped: Callable[[], bool] = never) -> bool:
        """Ends every output, whole; returns whether all of them got everything."""
        del stopped
        return self._end()

    def abort(self) -> None:
        """Ends every output, whole: a live stream has no other end than being stopped."""
        with suppress(EncoderError):  # it has been told; what it still held is not written
            self._end()

    def _end(self) -> bool:
        if self._closed:
            return True
        self._closed = True
        try:
            if self._frame_count:
                self._encode(self._templates.pictures, None, is_picture=True)
            if self._frame_count and self._sound is not None:
                self._encode_sound(self._sound.rest())
                self._encode(self._templates.sound, None, is_picture=False)
        finally:
            until_s = time.monotonic() + _CLOSE_S
            ended = [o.close(max(0.1, until_s - time.monotonic())) for o in self._outputs]
            self._encoders.close()
        return all(ended)

    def _add_pictures(self, info: VideoInfo, preset: str, crf: float, threads: int) -> Any:
        options = {
            **{"preset": preset, "crf": str(crf), "profile": "high", "tune": "zerolatency"},
            # Key frames carry what a decoder needs that joins there.
            "sc_threshold": "0",  # they come when they are asked for, and only then
            **{"forced-idr": "1", "x264-params": f"{x264_params(cpu_flags())}:repeat-headers=1"},
        }
        rate = info.frame_rate or _FALLBACK_RATE
        stream: Any = self._encoders.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = self._wh
        stream.pix_fmt = "nv12"
        context = stream.codec_context
        context.time_base = info.time_base
        context.gop_size = _NO_DISTANT_KEYS
        context.thread_count = threads
        context.flags |= av.codec.context.Flags.global_header
        tag(context, info)
        return stream

    def _add_sound(self) -> Any:
        options = {"aac_coder": "fast"}
        stream: Any = self._encoders.add_stream("aac", rate=RATE_HZ, options=options)
        stream.layout, stream.bit_rate = LAYOUT, _SOUND_BITS_PER_S
        stream.codec_context.flags |= av.codec.context.Flags.global_header
        return stream

    def _encode_sound(self, found: Iterable[Any]) -> None:
        for samples in found:
            samples.time_base = Fraction(1, RATE_HZ)
            self._encode(self._templates.sound, samples, is_picture=False)

    def _encode(self, stream: Any, frame: Any, *, is_picture: bool) -> None:
        try:
            packets = stream.encode(frame)
        except AV_ERRORS as error:
            raise EncoderError(f"the encoder failed ({reason(error)})") from error
        for packet in packets:
            encoded = Encoded(
                is_picture,
                bytes(packet),
                packet.pts,
                packet.dts,
                packet.duration or (self._step if is_picture else 0),
                packet.time_base,
                packet.is_keyframe,
                self._unix_s(),
            )
            for output in self._outputs:
                output.put(encoded)
