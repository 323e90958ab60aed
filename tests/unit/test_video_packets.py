"""Packets of several tracks on one clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

from dualface_client.video.packets import JoinedPackets

SECOND = 90_000


class CountingStream:
    """A track that counts how often its unit of time is asked for, which makes a fraction."""

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.type = kind
        self.asked = 0

    @property
    def time_base(self) -> Fraction:
        self.asked += 1
        return Fraction(1, SECOND)


@dataclass
class FakePacket:
    stream: CountingStream
    pts: int | None
    dts: int | None
    duration: int = SECOND // 25
    size: int = 1
    is_discard: bool = False

    @property
    def stream_index(self) -> int:
        return self.stream.index

    @property
    def time_base(self) -> Fraction:
        return self.stream.time_base


@dataclass
class FakeContainer:
    streams: Sequence[CountingStream]
    packets: Sequence[FakePacket] = ()
    format: Any = field(default_factory=lambda: SimpleNamespace(name="mpegts", flags=0x200))
    duration: int | None = None

    def demux(self, *_streams: CountingStream) -> Iterator[FakePacket]:
        return iter(self.packets)


def joined(streams: Sequence[CountingStream], packets: Sequence[FakePacket]) -> JoinedPackets:
    container = FakeContainer(streams, packets)
    return JoinedPackets(cast("Any", container), [stream.index for stream in streams])


def test_times_are_compared_in_the_tracks_own_unit() -> None:
    """A fraction for each packet would cost more than reading it, under the interpreter's lock."""
    picture, sound = CountingStream(0, "video"), CountingStream(1, "audio")
    packets = [
        FakePacket(stream, number * SECOND // 25, number * SECOND // 25)
        for number in range(500)
        for stream in (picture, sound)
    ]
    reader = joined([picture, sound], packets)
    assert len(list(reader.read_past(0, 1))) == 1000
    assert (picture.asked, sound.asked) == (1, 1)
    assert reader.counts == {0: 500, 1: 500}
    span_s = Fraction(0), Fraction(499, 25), Fraction(20)
    assert reader.spans_s == {0: span_s, 1: span_s}


def test_a_presentation_time_far_from_its_decode_time_is_none() -> None:
    """Far is more than a second and more than 32 packets, whichever is longer."""
    picture = CountingStream(0, "video")
    cases = [
        (SECOND, SECOND // 25, True),
        (SECOND + 1, SECOND // 25, SECOND + 1 <= 32 * SECOND // 25),
        (2 * SECOND, SECOND // 25, False),
        (-2 * SECOND, SECOND // 25, False),
        (2 * SECOND, SECOND, True),
        (33 * SECOND, SECOND, False),
    ]
    for lead, duration, kept in cases:
        packet = FakePacket(picture, 100 * SECOND + lead, 100 * SECOND, duration)
        list(joined([picture], [packet]).read(0))
        assert (packet.pts is not None) == kept, (lead, duration)


def test_a_presentation_time_within_the_file_is_kept_where_times_do_not_start_again() -> None:
    """Pictures on both sides of a gap may be decoded before it."""
    picture = CountingStream(0, "video")
    for lead_s, kept in ((12, True), (31, False), (-2, False)):
        packet = FakePacket(picture, (100 + lead_s) * SECOND, 100 * SECOND)
        form = SimpleNamespace(name="matroska,webm", flags=0)
        container = FakeContainer([picture], [packet], form, duration=130_000_000)
        list(JoinedPackets(cast("Any", container), [0]).read(0))
        assert (packet.pts is not None) == kept, lead_s


def test_a_part_begins_where_the_longest_track_ended() -> None:
    picture, sound = CountingStream(0, "video"), CountingStream(1, "audio")
    step = SECOND // 25

    def part(pictures: int, sounds: int) -> list[FakePacket]:
        times = [(n * step, s) for n in range(pictures) for s in [picture]]
        times += [(n * step, s) for n in range(sounds) for s in [sound]]
        return [FakePacket(s, at, at) for at, s in sorted(times, key=lambda each: each[0])]

    reader = joined([picture, sound], [*part(25, 50), *part(50, 50)])
    found = list(reader.read_past(0, 1))
    second = [packet.pts for packet in found[75:]]
    assert reader.joins == 1
    assert second[:2] == [2 * SECOND, 2 * SECOND]
    assert max(at for at in second if at is not None) == 2 * SECOND + 49 * step
