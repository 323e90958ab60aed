"""Audio streams copied packet by packet from the source beside the encoded video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dualface_client.errors import SinkError
from dualface_client.video.color import UNSPECIFIED, ColorTags
from dualface_client.video.ffmpeg import AV_ERRORS, av, file_url, source_error
from dualface_client.video.timeline import Timeline

if TYPE_CHECKING:
    from av.container import OutputContainer


class AudioCopy:
    """Reads the audio packets of a file once, in step with the video that is written.

    Payloads are not touched, and times keep their relation to the video. Streams whose codec FFmpeg
    does not know are left out with a warning.
    """

    def __init__(self, path: Path) -> None:
        """Opens a second reader on the source.

        Raises:
            SourceError: The file cannot be read.
        """
        self._path = path
        try:
            self._input = av.open(file_url(path), "r", metadata_errors="replace")
        except AV_ERRORS as error:
            raise source_error(path, error, "check that it is a complete video file") from error
        self._outputs: dict[int, Any] = {}
        self._filters: dict[int, av.bitstream.BitStreamFilterContext] = {}
        self._timelines: dict[int, Timeline] = {}
        self._shift_s = 0
        self._left_out = 0
        self._warnings: list[str] = []
        self._head: av.Packet[Any] | None = None
        self._packets: Iterator[av.Packet[Any]] = iter(())

    @property
    def start_s(self) -> Fraction:
        """Where the file's earliest stream starts, in seconds."""
        return Fraction(self._input.start_time or 0, av.time_base)

    @property
    def tags(self) -> ColorTags:
        """Primaries and transfer of the file's first video stream."""
        for stream in self._input.streams.video:
            context = stream.codec_context
            if context is not None:
                return ColorTags(context.color_primaries, context.color_trc)
        return ColorTags(UNSPECIFIED, UNSPECIFIED)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be copied as it was."""
        moved = sum(line.bumped + line.filled + line.jumps for line in self._timelines.values())
        counted = [f"{moved} audio time stamps did not increase and were moved"] if moved else []
        if self._left_out:
            counted.append(f"{self._left_out} damaged audio packets were left out")
        return (*self._warnings, *counted)

    def attach(self, output: OutputContainer) -> None:
        """Adds a stream to the output for each audio stream.

        Raises:
            SinkError: The container cannot hold the codec.
        """
        for stream in self._input.streams.audio:
            if stream.codec_context is None:
                self._warnings.append(f"audio stream {stream.index} has an unknown codec: left out")
                continue
            try:
                copy = output.add_stream_from_template(stream)
            except ValueError as error:
                raise SinkError(
                    f"{self._path}: its {stream.codec_context.name} audio cannot be copied into "
                    f"{output.format.name}; name the output .mkv or .mov"
                ) from error
            copy.metadata.update(stream.metadata)
            # PyAV 16 takes only the number, 18 takes both.
            cast(Any, copy).disposition = stream.disposition.value
            self._outputs[stream.index] = copy
            if stream.codec_context.name == "aac" and not stream.codec_context.extradata:
                # MPEG-TS repeats the decoder's settings in each packet; files have them once.
                self._filters[stream.index] = av.bitstream.BitStreamFilterContext(
                    "aac_adtstoasc", stream
                )
            self._timelines[stream.index] = Timeline(stream.time_base or Fraction(1, 90_000), 1)
        if self._outputs:
            self._packets = self._read()
            self._head = next(self._packets, None)

    def start(self, shift_s: int) -> None:
        """Sets the seconds to subtract from every time stamp; call it before the first copy."""
        self._shift_s = shift_s

    def copy_until(
        self,
        output: OutputContainer,
        time_s: Fraction | float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Writes the packets that decode up to a time of the output.

        Args:
            output: The container of `attach`.
            time_s: Seconds on the output's clock; infinite for all the rest.
            stopped: Asked before each packet; ends the copy early.

        Returns:
            Whether every packet up to there was written.
        """
        while self._head is not None and _time_s(self._head) - self._shift_s <= time_s:
            if stopped():
                return False
            self._copy(output, self._head)
            self._head = next(self._packets, None)
        return True

    def close(self) -> None:
        """Closes the reader; may be repeated."""
        self._head, self._packets = None, iter(())
        self._input.close()

    def _copy(self, output: OutputContainer, packet: av.Packet[Any]) -> None:
        index = packet.stream.index
        decode_stamp = packet.dts if packet.dts is not None else packet.pts
        placed = self._timelines[index].place(decode_stamp, packet.duration or 0)
        placed -= round(self._shift_s / packet.time_base)
        lead = 0 if packet.pts is None or decode_stamp is None else packet.pts - decode_stamp
        packet.pts, packet.dts = placed + lead, placed
        time_base = packet.time_base
        bit_filter = self._filters.get(index)
        try:
            for ready in bit_filter.filter(packet) if bit_filter else (packet,):
                ready.stream, ready.time_base = self._outputs[index], time_base
                output.mux(ready)
        except AV_ERRORS:
            self._left_out += 1  # damage; the output's file reports a full disk, not this

    def _read(self) -> Iterator[av.Packet[Any]]:
        streams = [self._input.streams[index] for index in self._outputs]
        try:
            for packet in self._input.demux(*streams):
                if packet.size:
                    yield packet
        except AV_ERRORS as error:
            self._warnings.append(f"audio ends early: reading {self._path} stopped ({error})")


def _time_s(packet: av.Packet[Any]) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base
