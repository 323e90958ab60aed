"""Sound and subtitles that go from the source into the output beside the encoded video."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dualface_client.video.ffmpeg import AV_ERRORS, av
from dualface_client.video.formats import filter_for, filtered, holders, holds, stream_metadata
from dualface_client.video.packets import JoinedPackets
from dualface_client.video.timeline import Timeline
from dualface_client.video.tracks import open_input, sound_of
from dualface_client.video.transcode import TranscodedAudio, first_format

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

#: How far into a file the first packets of its streams are looked for.
_LOOK_BYTES = 64 << 20
#: That many packets of a stream show whether a container holds it.
_FIRST_PACKETS = 4
_RATE_HZ = 8000  # where the file does not say it: the coarsest
# Sound before the first sample to be heard that a decoder may need: 0.08 s for Opus.
_PRIMING_S = Fraction(1, 10)


class _Carrier(Protocol):
    """Takes a source's packets of one stream to the output."""

    def push(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """The output's packets that are ready."""

    def end(self, source: Any) -> list[av.Packet[Any]]:
        """The output's last packets."""


class _Copy:
    """Leaves the payload as it is."""

    def __init__(self, output: OutputContainer, suffix: str, source: Any) -> None:
        self._stream = output.add_stream_from_template(source)
        self._stream.metadata.update(stream_metadata(suffix, source.metadata))
        self._stream.disposition = source.disposition.value
        self._filter = filter_for(source)

    def push(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        found = list(filtered(self._filter, packet))
        for ready in found:
            ready.stream = self._stream
        return found

    def end(self, source: Any) -> list[av.Packet[Any]]:
        del source
        return []


class AudioCopy:
    """Reads the audio packets of a file once, in step with the video that is written.

    Times keep their relation to the video: both readers find the same joins. Packets that an edit
    list discards stay out, but for those that prepare the decoder. Payloads are copied as they are
    if the container holds them; other sound is transcoded to AAC, and what cannot be decoded either
    is left out. Subtitles are copied or left out. What is not copied is said in `warnings`.
    """

    def __init__(self, path: Path, mode: str = "copy", *, video_index: int | None = None) -> None:
        """Opens a second reader on the source.

        Args:
            path: The input.
            mode: `copy` as far as possible, `transcode` everything to AAC, or `drop` all sound.
            video_index: Stream index of the video track whose sound it is, None for all sound.

        Raises:
            SourceError: The file cannot be read.
        """
        self._path = path
        self._mode = mode
        self._input = open_input(path)
        self._sound = tuple(stream.index for stream in self._input.streams.audio)
        if video_index is not None:
            self._sound = sound_of(self._input, video_index)
        tracks = self._sound if video_index is None else (video_index, *self._sound)
        self._joined = JoinedPackets(self._input, tracks)
        self._carriers: dict[int, _Carrier] = {}
        self._timelines: dict[int, Timeline] = {}
        self._shift_s = 0
        self._left_out = 0
        self._warnings: list[str] = []
        self._read_ahead: deque[av.Packet[Any]] = deque()
        self._head: av.Packet[Any] | None = None
        self._packets: Iterator[av.Packet[Any]] = iter(())

    @property
    def source(self) -> InputContainer:
        """The reader, for what else it knows of the file."""
        return self._input

    @property
    def start_s(self) -> Fraction:
        """Where the file's earliest stream starts, in seconds."""
        return Fraction(self._input.start_time or 0, av.time_base)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be copied as it was."""
        moved = sum(line.bumped + line.filled + line.jumps for line in self._timelines.values())
        counted = [f"{moved} audio time stamps did not increase and were moved"] if moved else []
        if self._left_out:
            counted.append(f"{self._left_out} damaged audio or subtitle packets were left out")
        if self._joined.error is not None:
            counted.append(f"audio ends early: reading {self._path} stopped ({self._joined.error})")
        return (*self._warnings, *counted)

    def attach(self, output: OutputContainer, suffix: str) -> None:
        """Adds a stream to the output for each audio and subtitle stream that it can hold.

        Args:
            output: Its header is not yet written.
            suffix: Of its name, a key of `FORMATS`.
        """
        wanted = set() if self._mode == "drop" else set(self._sound)
        streams = [stream for stream in self._input.streams.audio if stream.index in wanted]
        others = {stream.index for stream in self._input.streams.subtitles}
        packets = self._joined.read_past(*wanted, *others)
        whole = self._look_ahead(wanted, packets)
        for stream in streams:
            carrier = self._carrier(output, suffix, stream, is_whole=whole)
            if carrier is not None:
                self._carry(stream, carrier)
        self._attach_subtitles(output, suffix)
        if self._carriers:
            self._packets = self._read(packets)
            self._head = next(self._packets, None)

    def _attach_subtitles(self, output: OutputContainer, suffix: str) -> None:
        for stream in self._input.streams.subtitles:
            if holds(suffix, stream, ()):
                self._carry(stream, _Copy(output, suffix, stream))
            else:
                name = f"subtitle stream {stream.index} ({_codec_name(stream)})"
                remedy = _remedy(holders(stream, ()))
                self._warnings.append(f"{name} is left out: {suffix} does not hold it{remedy}")

    def _carry(self, stream: Any, carrier: _Carrier) -> None:
        self._carriers[stream.index] = carrier
        base = stream.time_base or Fraction(1, 90_000)
        # MP4 counts sound in samples.
        sample_s = Fraction(1, getattr(stream.codec_context, "sample_rate", 0) or _RATE_HZ)
        least = math.ceil(sample_s / base)
        self._timelines[stream.index] = Timeline(base, 1, may_repeat=True, least=least)

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

    def finish(self, output: OutputContainer) -> None:
        """Writes what decoders and encoders still hold, after the last `copy_until`."""
        for index, carrier in self._carriers.items():
            output.mux(carrier.end(self._input.streams[index]))

    def close(self) -> None:
        """Closes the reader; may be repeated."""
        self._head, self._packets = None, iter(())
        self._read_ahead.clear()
        self._input.close()

    def _carrier(
        self, output: OutputContainer, suffix: str, stream: Any, *, is_whole: bool
    ) -> _Carrier | None:
        """The way of one stream into the output, None if there is none.

        Args:
            output: The container.
            suffix: Of its name.
            stream: Of the input.
            is_whole: Whether the packets that were read ahead are all that the file has.
        """
        if stream.codec_context is None:
            self._warnings.append(f"audio stream {stream.index} has an unknown codec: left out")
            return None
        name = f"audio stream {stream.index} ({stream.codec_context.name})"
        first = [packet for packet in self._read_ahead if packet.stream.index == stream.index]
        if not first and (is_whole or not stream.codec_context.sample_rate):
            self._warnings.append(f"{name} has no packets: left out")
            return None
        if self._mode == "copy" and holds(suffix, stream, first):
            return _Copy(output, suffix, stream)
        found = self._format_of(stream, first)
        remedy = _remedy(holders(stream, first)) if self._mode == "copy" else ""
        if found is None:
            self._warnings.append(
                f"{name} can be neither copied into {suffix} nor decoded: left out{remedy}"
            )
            return None
        if self._mode == "copy":
            why = f"{suffix} does not hold it"
            if not stream.codec_context.sample_rate:
                why = "its format is known only after the header"
            self._warnings.append(f"{name} is transcoded to AAC, because {why}{remedy}")
        carrier = TranscodedAudio(output, *found)
        carrier.stream.metadata.update(stream_metadata(suffix, stream.metadata))
        carrier.stream.disposition = stream.disposition.value
        return carrier

    def _format_of(self, stream: Any, first: list[av.Packet[Any]]) -> tuple[int, int] | None:
        """Samples per second and channels of a stream, None if it cannot be decoded."""
        if first:
            return first_format(self._path, stream.index)
        context = stream.codec_context
        return context.sample_rate, context.layout.nb_channels

    def _look_ahead(self, wanted: set[int], packets: Iterator[av.Packet[Any]]) -> bool:
        """Reads the first packets of each stream, as far as they lie near the file's start.

        Returns:
            Whether the end of the file was reached.
        """
        left, seen_bytes = dict.fromkeys(wanted, _FIRST_PACKETS), 0
        while any(count > 0 for count in left.values()) and seen_bytes < _LOOK_BYTES:
            packet = next(packets, None)
            if packet is None:
                return True
            seen_bytes += packet.size
            is_wanted = packet.stream.index in wanted
            if is_wanted or packet.stream.type == "subtitle":
                self._read_ahead.append(packet)
            if is_wanted:
                left[packet.stream.index] -= 1
        return False

    def _copy(self, output: OutputContainer, packet: av.Packet[Any]) -> None:
        index = packet.stream.index
        decode_stamp = packet.dts if packet.dts is not None else packet.pts
        placed = self._timelines[index].place(decode_stamp, packet.duration or 0)
        placed -= round(self._shift_s / packet.time_base)
        lead = 0 if packet.pts is None or decode_stamp is None else packet.pts - decode_stamp
        packet.pts, packet.dts = placed + lead, placed
        try:
            output.mux(self._carriers[index].push(packet))
        except AV_ERRORS:
            self._left_out += 1  # damage; the output's file reports a full disk, not this

    def _read(self, packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """What was read ahead and the rest, without what an edit list discards."""
        leads: dict[int, list[av.Packet[Any]]] = {index: [] for index in self._carriers}
        while (packet := self._next(packets)) is not None:
            index = packet.stream.index
            if index not in self._carriers:
                continue
            lead = leads.get(index)
            if not packet.is_discard:
                start_s = _time_s(packet) - _PRIMING_S
                yield from (early for early in leads.pop(index, ()) if _time_s(early) >= start_s)
                yield packet
            elif lead is not None:
                lead.append(packet)

    def _next(self, packets: Iterator[av.Packet[Any]]) -> av.Packet[Any] | None:
        return self._read_ahead.popleft() if self._read_ahead else next(packets, None)


def _codec_name(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "unknown codec"


def _remedy(kept_by: list[str]) -> str:
    return f"; name the output {' or '.join(kept_by)} to keep it as it is" * bool(kept_by)


def _time_s(packet: av.Packet[Any]) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base
