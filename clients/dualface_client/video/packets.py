"""Packets of an input with one clock for all of its tracks, for every reader of a file.

Picture and sound are read by two readers. Both read the same tracks in the same order, so that
both find the same joins, and a part is moved by one offset for all of its tracks.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dualface_client.video.ffmpeg import AV_ERRORS, TIMES_RESTART, av, ticks

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

# Steps back of a single track by less than this are an overlap, not a new part.
_OVERLAP_S = Fraction(1, 4)
# How far is looked ahead for the same join in the other tracks.
_AHEAD_S = 2
_AHEAD_PACKETS = 2000
# A presentation time further away from its decode time than both of these is damage.
_REORDER_LIMIT_S = Fraction(1)
_REORDER_LIMIT = 32  # packets
_READ_RETRIES = 16
_PICTURES_LATE = 17  # more than this many pictures later, no decoder shows one (H.264, HEVC: 16)


@dataclass(slots=True)
class _Track:
    """What was last seen of a track. Whole numbers are ticks: every packet is compared with them.

    Attributes:
        time_base: Seconds of a tick.
        is_sound: Whether packets without a decode time are decoded when they are heard.
        reorder_limit: `_REORDER_LIMIT_S` in ticks.
        count: Packets so far.
        span: Start of the earliest, start and end of the latest packet so far, as in the file.
        until: Where it ends by its header, for a container whose times cannot start again.
        offset_s: What its current part is moved by.
        offset: The same in ticks.
        last: Decode time of its last packet, as in the file; None before the first.
        end: Where it ends so far, moved.
    """

    time_base: Fraction
    is_sound: bool
    reorder_limit: int
    count: int = 0
    span: tuple[int, int, int] | None = None
    until: int | None = None
    offset_s: Fraction = Fraction(0)
    offset: int = 0
    last: int | None = None
    end: int = 0

    @classmethod
    def of(cls, stream: Stream, container: InputContainer) -> _Track:
        time_base = stream.time_base or Fraction(1, 90_000)
        until = None
        if not container.format.flags & TIMES_RESTART and container.duration is not None:
            until = ticks(Fraction(container.duration, av.time_base), time_base)
        limit = int(_REORDER_LIMIT_S / time_base)
        return cls(time_base, stream.type == "audio", limit, until=until)

    def note(self, packet: Packet[Any]) -> None:
        """Counts a packet, and takes a presentation time away that cannot be right."""
        self.count += 1
        stamp, decoded, length = packet.pts, packet.dts, packet.duration or 0
        if stamp is not None and decoded is not None:
            lead = abs(stamp - decoded)
            is_far = lead > self.reorder_limit and lead > _REORDER_LIMIT * length
            # Across a gap, pictures are decoded long before they are shown.
            is_within = self.until is not None and decoded < stamp <= self.until
            if is_far and not is_within:
                packet.pts = stamp = None
        if stamp is None:
            stamp = decoded
        if stamp is None or packet.is_discard:
            return
        start, last, end = self.span or (stamp, stamp, stamp)
        self.span = min(start, stamp), max(last, stamp), max(end, stamp + length)

    def decoded_at(self, packet: Packet[Any]) -> int | None:
        """When a packet is decoded, as in the file."""
        stamp = packet.dts
        return packet.pts if stamp is None and self.is_sound else stamp

    def steps_back(self, packet: Packet[Any], last: int | None) -> bool:
        """Whether a packet decodes before the `last` one, by more than its own length."""
        at = self.decoded_at(packet)
        return at is not None and last is not None and at < last - (packet.duration or 0)

    def take(self, packet: Packet[Any]) -> None:
        """Places a packet behind those so far."""
        at = self.decoded_at(packet)
        if at is not None:
            self.last = at
        _move(packet, self.offset)
        self.end = max(self.end, _shown_at(packet) + (packet.duration or 0))

    def move_by(self, offset_s: Fraction) -> None:
        """Moves the packets to come."""
        self.offset_s, self.offset = offset_s, ticks(offset_s, self.time_base)

    def shown_at_s(self, packet: Packet[Any]) -> Fraction:
        """When a packet is shown, 0 if that is not known."""
        return _shown_at(packet) * self.time_base

    def end_s(self, packet: Packet[Any]) -> Fraction:
        """When a packet is no longer shown."""
        return (_shown_at(packet) + (packet.duration or 0)) * self.time_base


class JoinedPackets:
    """Reads packets in file order and puts the parts of a joined file one behind another.

    A part starts where the decode times of a track step back. The other tracks step back nearby,
    and all are moved by the same offset, so that the part begins where the longest track of the
    one before ends. Nothing is dropped and the part stays in sync, whatever its tracks' lengths.

    Attributes:
        joins: Parts begun so far, besides the first.
        error: What ended the reading early, None for the end of the file.
    """

    def __init__(self, container: InputContainer, tracks: Iterable[int]) -> None:
        """Starts at the beginning of a container.

        Args:
            container: Opened, nothing read yet.
            tracks: Stream indices of the video track and its sound: the same for each reader.
        """
        self._container = container
        self._seen = {stream.index: _Track.of(stream, container) for stream in container.streams}
        self._tracks = {index: self._seen[index] for index in tracks}
        self._offset_s = Fraction(0)
        self.joins = 0
        self.error: Exception | None = None

    @property
    def counts(self) -> dict[int, int]:
        """Packets so far by stream index."""
        return {index: track.count for index, track in self._seen.items()}

    @property
    def spans_s(self) -> dict[int, tuple[Fraction, Fraction, Fraction]]:
        """Start of the earliest, start and end of the latest packet, as in the file, by index."""
        return {
            index: (
                track.span[0] * track.time_base,
                track.span[1] * track.time_base,
                track.span[2] * track.time_base,
            )
            for index, track in self._seen.items()
            if track.span is not None
        }

    def read(self, *indices: int) -> Iterator[Packet[Any]]:
        """Packets of some of the tracks, with times on the common clock; once only.

        Args:
            indices: Their stream indices.
        """
        return (packet for packet in self.read_past(*indices) if packet.stream_index in indices)

    def read_past(self, *indices: int) -> Iterator[Packet[Any]]:
        """Like `read`, with the packets of other tracks that are read on the way."""
        # An index has the times of each track, without joins; reading all of its tracks would
        # seek to and fro where they lie apart.
        has_index = self._container.format.name.startswith("mov,")
        wanted = indices if has_index else tuple(s.index for s in self._container.streams)
        yield from self._placed(self._demuxed(wanted))

    def _demuxed(self, indices: Iterable[int]) -> Iterator[Packet[Any]]:
        streams = [self._container.streams[index] for index in indices]
        for _ in range(_READ_RETRIES):
            try:
                for packet in self._container.demux(*streams):
                    if packet.size:
                        self._seen[packet.stream_index].note(packet)
                        yield packet
                return
            except AV_ERRORS as error:
                # A demuxer may find the next packet after an error; if not, it fails again.
                self.error = self.error or error

    def _placed(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        held: deque[Packet[Any]] = deque()
        while (packet := held.popleft() if held else next(packets, None)) is not None:
            track = self._tracks.get(packet.stream_index)
            if track is None:
                self._move_along(packet)
            elif packet.is_discard:
                _move(packet, track.offset)
            else:
                if track.steps_back(packet, track.last) and not self._follows(packet, track):
                    held.appendleft(packet)
                    self._join(held, self._look_ahead(held, packets))
                    held.popleft()
                track.take(packet)
            yield packet

    def _move_along(self, packet: Packet[Any]) -> None:
        """Moves a packet of a track that is not watched with the part that was begun last."""
        if self._offset_s:
            _move(packet, ticks(self._offset_s, self._seen[packet.stream_index].time_base))

    def _follows(self, packet: Packet[Any], track: _Track) -> bool:
        """Lets a track into the part that other tracks have begun already."""
        if track.offset_s == self._offset_s:
            return False
        end_s = track.end * track.time_base
        if track.shown_at_s(packet) + self._offset_s < end_s - _OVERLAP_S:
            return False
        track.move_by(self._offset_s)
        return True

    def _look_ahead(
        self, held: deque[Packet[Any]], packets: Iterator[Packet[Any]]
    ) -> dict[int, int]:
        """Reads on until every track has stepped back, or for a while.

        Returns:
            Where each track steps back first, as positions in what is held.
        """
        last = {i: track.last for i, track in self._tracks.items() if track.last is not None}
        steps: dict[int, int] = {}
        first = self._tracks[held[0].stream_index]
        until_s = first.shown_at_s(held[0]) + _AHEAD_S
        for position in range(_AHEAD_PACKETS):
            if position == len(held):
                held.extend(itertools.islice(packets, 1))
            if position == len(held) or len(steps) == len(last):
                break
            packet = held[position]
            index = packet.stream_index
            if index not in last or packet.is_discard:
                continue
            track = self._tracks[index]
            if index not in steps and track.steps_back(packet, last[index]):
                steps[index] = position
            at = track.decoded_at(packet)
            last[index] = last[index] if at is None else at
            if track is first and track.shown_at_s(packet) > until_s:
                break
        return steps

    def _join(self, held: deque[Packet[Any]], steps: dict[int, int]) -> None:
        """Begins a part at the first packet held, if it is one; else that packet is disordered."""
        first = held[0]
        track = self._tracks[first.stream_index]
        if len(steps) == 1:
            if _returns(held, first.stream_index, track):
                first.pts = first.dts = None  # a wrong time, no join
                return
            if (track.last or 0) * track.time_base - track.shown_at_s(first) < _OVERLAP_S:
                return
        starts, ends = [], [each.end * each.time_base for each in self._tracks.values()]
        for position, packet in enumerate(held):
            index = packet.stream_index
            if index not in steps or packet.is_discard:
                continue
            own = self._tracks[index]
            if position >= steps[index]:
                starts.append(own.shown_at_s(packet))
            else:
                ends.append(own.end_s(packet) + own.offset_s)
        self._offset_s = max(ends) - min(starts)
        self.joins += 1
        track.move_by(self._offset_s)


class PictureTimes:
    """When each decoded picture is shown.

    Most files say it, and then the decoder does. Some (AVI, ASF) have only the times of the packets
    in decode order: there the n-th picture is shown at the n-th of these times. If pictures are
    reordered, that is one picture later, as the second one cannot be decoded before.
    """

    def __init__(self, delay: int) -> None:
        """Starts a stream.

        Args:
            delay: Units from one picture to the next if pictures are decoded in another order than
                they are shown, else 0.
        """
        self._delay = delay
        self._guessed: bool | None = None
        self._waiting: deque[int] = deque()
        self._ahead: deque[int] = deque(maxlen=_PICTURES_LATE)  # times before the packet's own

    def send(self, packet: Packet[Any]) -> None:
        """Notes a packet that goes to the decoder, and sets its presentation time if it has none.

        Args:
            packet: In decode order; those without any time stay so.
        """
        if self._guessed is None:
            self._guessed = packet.pts is None and packet.dts is not None
        if not self._guessed or packet.dts is None:
            return
        packet.pts = packet.dts + self._delay
        self._waiting.append(packet.pts)

    def lose(self, packet: Packet[Any]) -> None:
        """Takes back a packet that could not be decoded."""
        if packet.pts is not None and packet.pts in self._waiting:
            self._waiting.remove(packet.pts)

    def shown(self, stamp: int | None) -> int | None:
        """The time of the next picture in the order of presentation.

        Args:
            stamp: The time of the packet that it came from.
        """
        if not self._guessed or stamp is None or not self._waiting:
            return stamp
        # Pictures that merely change places come from their own packet or an earlier one now and
        # then. If `_PICTURES_LATE` in a row came from later ones, packets without a picture have
        # shifted everything after them.
        self._ahead.append(sum(each < stamp for each in self._waiting))
        if len(self._ahead) == _PICTURES_LATE and min(self._ahead) > 0:
            for _ in range(min(self._ahead)):
                self._waiting.popleft()
            self._ahead.clear()
        return self._waiting.popleft() if self._waiting else stamp


def _shown_at(packet: Packet[Any]) -> int:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return stamp or 0


def _move(packet: Packet[Any], offset: int) -> None:
    if offset:
        packet.pts = None if packet.pts is None else packet.pts + offset
        packet.dts = None if packet.dts is None else packet.dts + offset


def _returns(held: Iterable[Packet[Any]], index: int, track: _Track) -> bool:
    """Whether a track soon goes on where it was."""
    before = None
    overlap = _OVERLAP_S / track.time_base
    for packet in held:
        at = track.decoded_at(packet) if packet.stream_index == index else None
        if at is None:
            continue
        if before is not None and at - before > overlap and at >= (track.last or 0):
            return True
        before = at
    return False
