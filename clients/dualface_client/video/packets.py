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

from dualface_client.video.ffmpeg import AV_ERRORS, ticks

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

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
    """What was last seen of a track.

    Attributes:
        offset_s: What its current part is moved by.
        last_s: Decode time of its last packet, as in the file; None before the first.
        end_s: Where it ends so far, moved.
    """

    offset_s: Fraction = Fraction(0)
    last_s: Fraction | None = None
    end_s: Fraction = Fraction(0)


class JoinedPackets:
    """Reads packets in file order and puts the parts of a joined file one behind another.

    A part starts where the decode times of a track step back. The other tracks step back nearby,
    and all are moved by the same offset, so that the part begins where the longest track of the
    one before ends. Nothing is dropped and the part stays in sync, whatever its tracks' lengths.

    Attributes:
        joins: Parts begun so far, besides the first.
        counts: Packets so far by stream index.
        spans_s: Start of the earliest and end of the latest packet so far by stream index, seconds
            as in the file.
        error: What ended the reading early, None for the end of the file.
    """

    def __init__(self, container: InputContainer, tracks: Iterable[int]) -> None:
        """Starts at the beginning of a container.

        Args:
            container: Opened, nothing read yet.
            tracks: Stream indices of the video track and its sound: the same for each reader.
        """
        self._container = container
        self._tracks = {index: _Track() for index in tracks}
        self._offset_s = Fraction(0)
        self.joins = 0
        self.counts = dict.fromkeys(self._tracks, 0)
        self.spans_s: dict[int, tuple[Fraction, Fraction]] = {}
        self.error: Exception | None = None

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
                        self._note(packet)
                        yield packet
                return
            except AV_ERRORS as error:
                # A demuxer may find the next packet after an error; if not, it fails again.
                self.error = self.error or error

    def _note(self, packet: Packet[Any]) -> None:
        index, time_base = packet.stream_index, packet.time_base
        self.counts[index] = self.counts.get(index, 0) + 1
        if packet.pts is not None and packet.dts is not None:
            lead_s: Fraction = abs(packet.pts - packet.dts) * time_base
            limit_s: Fraction = _REORDER_LIMIT * (packet.duration or 0) * time_base
            if lead_s > max(limit_s, _REORDER_LIMIT_S):
                packet.pts = None
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None and not packet.is_discard:
            start_s, end_s = stamp * time_base, (stamp + (packet.duration or 0)) * time_base
            first_s, last_s = self.spans_s.get(index, (start_s, end_s))
            self.spans_s[index] = min(first_s, start_s), max(last_s, end_s)

    def _placed(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        held: deque[Packet[Any]] = deque()
        while (packet := held.popleft() if held else next(packets, None)) is not None:
            track = self._tracks.get(packet.stream_index)
            if track is None or packet.is_discard:
                yield self._moved(packet, self._offset_s if track is None else track.offset_s)
                continue
            if _steps_back(packet, track.last_s) and not self._follows(packet, track):
                held.appendleft(packet)
                self._join(held, self._look_ahead(held, packets))
                held.popleft()
            track.last_s = _decoded_at_s(packet, track.last_s)
            self._moved(packet, track.offset_s)
            track.end_s = max(track.end_s, _end_s(packet))
            yield packet

    def _follows(self, packet: Packet[Any], track: _Track) -> bool:
        """Lets a track into the part that other tracks have begun already."""
        if track.offset_s == self._offset_s:
            return False
        if _shown_at_s(packet) + self._offset_s < track.end_s - _OVERLAP_S:
            return False
        track.offset_s = self._offset_s
        return True

    def _look_ahead(
        self, held: deque[Packet[Any]], packets: Iterator[Packet[Any]]
    ) -> dict[int, int]:
        """Reads on until every track has stepped back, or for a while.

        Returns:
            Where each track steps back first, as positions in what is held.
        """
        last = {i: track.last_s for i, track in self._tracks.items() if track.last_s is not None}
        steps: dict[int, int] = {}
        until_s = _shown_at_s(held[0]) + _AHEAD_S
        for position in range(_AHEAD_PACKETS):
            if position == len(held):
                held.extend(itertools.islice(packets, 1))
            if position == len(held) or len(steps) == len(last):
                break
            packet = held[position]
            index = packet.stream_index
            if index not in last or packet.is_discard:
                continue
            if index not in steps and _steps_back(packet, last[index]):
                steps[index] = position
            last[index] = _decoded_at_s(packet) or last[index]
            if index == held[0].stream_index and _shown_at_s(packet) > until_s:
                break
        return steps

    def _join(self, held: deque[Packet[Any]], steps: dict[int, int]) -> None:
        """Begins a part at the first packet held, if it is one; else that packet is disordered."""
        first = held[0]
        track = self._tracks[first.stream_index]
        if len(steps) == 1:
            if _returns(held, track.last_s):
                first.pts = first.dts = None  # a wrong time, no join
                return
            if (track.last_s or 0) - _shown_at_s(first) < _OVERLAP_S:
                return
        starts, ends = [], [track.end_s for track in self._tracks.values()]
        for position, packet in enumerate(held):
            index = packet.stream_index
            if index not in steps or packet.is_discard:
                continue
            if position >= steps[index]:
                starts.append(_shown_at_s(packet))
            else:
                ends.append(_end_s(packet) + self._tracks[index].offset_s)
        self._offset_s = max(ends) - min(starts)
        self.joins += 1
        track.offset_s = self._offset_s

    @staticmethod
    def _moved(packet: Packet[Any], offset_s: Fraction) -> Packet[Any]:
        if offset_s:
            units = ticks(offset_s, packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + units
            packet.dts = None if packet.dts is None else packet.dts + units
        return packet


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
        # Of pictures that only change places, some come from their own packet or an earlier one. If
        # none does for so long, packets without a picture have moved all that followed.
        self._ahead.append(sum(each < stamp for each in self._waiting))
        if len(self._ahead) == _PICTURES_LATE and min(self._ahead) > 0:
            for _ in range(min(self._ahead)):
                self._waiting.popleft()
            self._ahead.clear()
        return self._waiting.popleft() if self._waiting else stamp


def _decoded_at_s(packet: Packet[Any], otherwise_s: Fraction | None = None) -> Fraction | None:
    stamp = packet.dts
    if stamp is None and packet.stream.type == "audio":
        stamp = packet.pts
    return otherwise_s if stamp is None else stamp * packet.time_base


def _shown_at_s(packet: Packet[Any]) -> Fraction:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return Fraction(stamp or 0) * packet.time_base


def _end_s(packet: Packet[Any]) -> Fraction:
    return _shown_at_s(packet) + (packet.duration or 0) * packet.time_base


def _steps_back(packet: Packet[Any], last_s: Fraction | None) -> bool:
    """Whether a packet decodes before the last one of its track, by more than its own length."""
    at_s = _decoded_at_s(packet)
    if at_s is None or last_s is None:
        return False
    return at_s < last_s - (packet.duration or 0) * packet.time_base


def _returns(held: Iterable[Packet[Any]], last_s: Fraction | None) -> bool:
    """Whether the track of the first packet soon goes on where it was."""
    before_s = None
    index = None
    for packet in held:
        index = packet.stream_index if index is None else index
        at_s = _decoded_at_s(packet)
        if packet.stream_index != index or at_s is None:
            continue
        if before_s is not None and at_s - before_s > _OVERLAP_S and at_s >= (last_s or 0):
            return True
        before_s = at_s
    return False
