"""Sound that the output's container does not hold, encoded anew as AAC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import OutputContainer

# ISO/IEC 14496-3, table 1.18.
_AAC_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_OTHER_RATE_HZ = 48000
# Layouts that AAC numbers, so that every decoder knows them; more channels are mixed down.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
_MOST = "5.1"
_BITS_PER_S_AND_CHANNEL = 96_000
# The default coder, `twoloop`, overshoots: FFmpeg 8.1 makes the first 60 ms of a tone up to twice
# as loud as they are, and later errors a hundred times larger.
_OPTIONS = {"aac_coder": "fast"}
# Time stamps are rounded, to 1 ms in some containers; what is beyond this is a gap or an overlap.
_TOLERANCE_S = 0.02
_FIRST_PACKETS = 64


def first_format(path: Path, index: int) -> tuple[int, int] | None:
    """Samples per second and channels of the sound that a stream starts with.

    It is decoded: some containers do not say it, and a decoder may be there for another kind of the
    same codec only.

    Args:
        path: An input.
        index: Of its stream, which has packets.

    Returns:
        None if nothing of its beginning can be decoded.
    """
    with av.open(file_url(path), "r", metadata_errors="replace") as source:
        stream: Any = source.streams[index]
        for count, packet in enumerate(source.demux(stream)):
            try:
                for frame in stream.codec_context.decode(packet):
                    return frame.sample_rate, frame.layout.nb_channels
            except AV_ERRORS:  # damage; the next one may be whole
                pass
            if count == _FIRST_PACKETS:
                break
    return None


class TranscodedAudio:
    """One stream: decoded, resampled if necessary, and encoded as AAC.

    The samples stay where the source's time stamps put them: gaps stay gaps, and of overlapping
    sound the earlier one is used.
    """

    def __init__(self, output: OutputContainer, rate_hz: int, channels: int) -> None:
        """Adds the stream.

        Args:
            output: Where its header is not yet written.
            rate_hz: Of the source.
            channels: Of the source.
        """
        self._rate_hz = rate_hz if rate_hz in _AAC_RATES_HZ else _OTHER_RATE_HZ
        self._layout = _LAYOUTS.get(channels, _MOST)
        self.stream: Any = output.add_stream("aac", rate=self._rate_hz, options=_OPTIONS)
        self.stream.layout = self._layout
        self.stream.bit_rate = _BITS_PER_S_AND_CHANNEL * self.stream.layout.nb_channels
        self._resampler: av.AudioResampler | None = None
        self._format: object = None
        self._next: int | None = None  # where the next sample belongs, counted in samples

    def push(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """Packets that are ready; the times of the given one are those of the output.

        Raises:
            FFmpegError: It cannot be decoded.
        """
        return self._encoded(packet.stream.codec_context.decode(packet))

    def end(self, source: Any) -> list[av.Packet[Any]]:
        """The packets of what the decoder, the resampler and the encoder still hold.

        Args:
            source: The stream whose packets were pushed.
        """
        try:
            left = source.codec_context.decode(None)
        except AV_ERRORS:  # it ends in damage, or was drained before
            left = []
        return [*self._encoded(left), *self._placed(self._flushed()), *self.stream.encode(None)]

    def _encoded(self, frames: list[AudioFrame]) -> list[av.Packet[Any]]:
        return [ready for frame in frames for ready in self._placed(self._resampled(frame))]

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        found = frame.format.name, frame.layout.name, frame.sample_rate
        before = []
        if found != self._format:
            before = self._flushed()
            self._format = found
            self._resampler = av.AudioResampler("fltp", self._layout, self._rate_hz)
        assert self._resampler is not None  # noqa: S101 - made for the first frame
        return [*before, *self._resampler.resample(frame)]

    def _flushed(self) -> list[AudioFrame]:
        found = self._resampler.resample(None) if self._resampler is not None else []
        return [frame for frame in found if frame is not None]  # None: nothing was resampled

    def _placed(self, frames: list[AudioFrame]) -> list[av.Packet[Any]]:
        packets: list[av.Packet[Any]] = []
        for frame in frames:
            placed = self._on_clock(frame)
            if placed is not None:
                packets += self.stream.encode(placed)
        return packets

    def _on_clock(self, frame: AudioFrame) -> AudioFrame | None:
        """The frame right behind the one before, unless there is a gap; None if it is too late."""
        at = self._next
        if frame.pts is not None and frame.time_base is not None:
            at = round(frame.pts * frame.time_base * self._rate_hz)
        if at is None:
            at = 0
        if self._next is None or at - self._next > _TOLERANCE_S * self._rate_hz:
            self._next = at
        late = self._next - at
        if late > _TOLERANCE_S * self._rate_hz:
            if late >= frame.samples:
                return None
            frame = self._without_first(frame, late)
        frame.pts, frame.time_base = self._next, self.stream.codec_context.time_base
        self._next += frame.samples
        return frame

    def _without_first(self, frame: AudioFrame, samples: int) -> AudioFrame:
        kept = av.AudioFrame.from_ndarray(frame.to_ndarray()[:, samples:], "fltp", self._layout)
        kept.sample_rate = self._rate_hz
        return kept
