"""A device takes a live stream's decoding over from the CPU, and gives it back.

The device's engine is FFmpeg, too, so that its pictures can be compared with the CPU's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.types import Frame
from dualface_client.video.color import spec_of
from dualface_client.video.convert import Nv12Converter
from dualface_client.video.deinterlace import Deinterlacer, Picture
from dualface_client.video.ffmpeg import packet_of
from dualface_client.video.live_decoding import (
    DeviceDecoderLostError,
    DevicePicture,
    LiveDecoding,
)
from dualface_client.video.live_device import LiveDevice
from dualface_client.video.live_packet import LivePacket
from dualface_client.video.live_reader import LiveReader
from dualface_client.video.live_source import LiveSource
from dualface_client.video.orientation import Orientation
from tests.connections import CAMERA, Broken, Connections
from tests.media import Clip, join, make
from tests.processes import wait_until

CLIP = Clip(frames=60, size_wh_px=(64, 48), options={"g": "20", "bf": "2"})
Shown = tuple[int | None, bytes]


class HostDecoder:
    """Pictures of the first one's size, like those of an engine."""

    def __init__(
        self, engine: HostEngine, codec: str, size_wh: tuple[int, int], *, at_once: bool
    ) -> None:
        self._engine, self._size_wh, self._at_once = engine, size_wh, at_once
        self._latest_pts = -1
        self._context: Any = av.CodecContext.create(codec, "r")
        self._context.thread_type = "SLICE"

    def decode(self, part: Any, pts: int | None) -> list[DevicePicture]:
        if pts is not None and pts >= 0:
            self._engine.packets += 1
            self._engine.disorder += self._at_once and pts < self._latest_pts
            self._latest_pts = max(pts, self._latest_pts)
            if self._engine.packets in self._engine.breaks_at:
                raise DeviceDecoderLostError("it broke")
        if part is not None:
            part.pts = pts
        return [self._picture(frame) for frame in self._context.decode(part)]

    def _picture(self, frame: Any) -> DevicePicture:
        assert (frame.width, frame.height) == self._size_wh, "scaled without a word"
        converter = Nv12Converter(self._size_wh, Fraction(1), Orientation())
        self._engine.pictures += frame.pts != -1
        return DevicePicture(converter.convert(frame, spec_of(frame), Fraction(1)), frame.pts)


class HostEngine:
    """Opens FFmpeg's decoders as a GPU's.

    Attributes:
        gate: Opening waits for it.
        opened: What was opened: codec, size and `at_once`.
        packets: Handed to decoders.
        pictures: Decoded.
        disorder: Packets that a decoder without reordering was not meant for.
        breaks_at: Numbers of packets at which it fails.
    """

    def __init__(self, breaks_at: Sequence[int] = ()) -> None:
        self.gate = threading.Event()
        self.opened: list[tuple[str, tuple[int, int], bool]] = []
        self.packets = self.pictures = self.disorder = 0
        self.breaks_at = frozenset(breaks_at)
        self.closed = False

    def why_not(self, codec: str, first: Picture) -> str | None:
        if first.frame.interlaced_frame:
            return "interlaced pictures"
        return "samples that are not square" if first.sample_aspect != 1 else None

    def open(self, codec: str, first: Picture, *, at_once: bool) -> HostDecoder:
        assert self.gate.wait(20)
        size_wh = first.frame.width, first.frame.height
        self.opened.append((codec, size_wh, at_once))
        return HostDecoder(self, codec, size_wh, at_once=at_once)

    def close(self) -> None:
        self.closed = True


def packets_of(*paths: Path, count: int) -> list[LivePacket]:
    """Of connections, one after the other."""
    stop, opened = threading.Event(), iter(paths)

    def open_next(place: object) -> Any:
        if (path := next(opened, None)) is None:
            raise OSError(111, "Connection refused")
        return Broken(path, 10_000)

    reader = LiveReader(CAMERA, stop, lambda news: None, opened=open_next)
    found = list(islice(reader.pictures(), count))
    stop.set()
    reader.close()
    return found


def nothing_opens() -> bool:
    return not any(thread.name == "open" for thread in threading.enumerate())


def shown(
    packets: Sequence[LivePacket], engine: HostEngine | None = None, open_at: int = 0
) -> tuple[list[Shown], LiveDecoding, LiveDevice | None]:
    """Pictures of packets; what the device opens is open from packet `open_at` on."""
    device = None if engine is None else LiveDevice(engine)
    decoding = LiveDecoding(None, device)
    found: list[Shown] = []
    for number, packet in enumerate(packets):
        if engine is not None and number >= open_at:
            engine.gate.set()
            wait_until(nothing_opens)
        found += map(content, decoding.push(packet))
    found += map(content, decoding.rest())
    if device is not None:
        device.close()
    return found, decoding, device


def content(picture: Picture | DevicePicture) -> Shown:
    if isinstance(picture, DevicePicture):
        return picture.pts, bytes(np.ascontiguousarray(picture.image.y))
    frame = picture.frame
    size_wh = frame.width, frame.height
    converter = Nv12Converter(size_wh, Fraction(1), Orientation())
    return picture.pts, bytes(converter.convert(frame, spec_of(frame), Fraction(1)).y)


def fresh(packets: Sequence[LivePacket]) -> list[LivePacket]:
    """The same packets with new decoders, and what a decoder may have taken away."""
    contexts: dict[int, Any] = {}
    for packet in packets:
        number = packet.connection.number
        if number not in contexts:
            old = packet.connection.pictures
            context: Any = av.CodecContext.create(old.name, "r")
            context.extradata, context.thread_type = old.extradata, "SLICE"
            contexts[number] = replace(packet.connection, pictures=context)
    return [LivePacket(contexts[p.connection.number], p.packet) for p in packets]


@pytest.mark.parametrize(
    ("suffix", "codec", "bf"),
    [
        (".mp4", "libx264", "0"),
        (".mp4", "libx264", "2"),
        (".ts", "libx264", "2"),
        (".mkv", "libx265", "2"),
    ],
)
def test_a_device_takes_over_at_any_packet_and_nothing_is_lost_or_shown_twice(
    tmp_path: Path, suffix: str, codec: str, bf: str
) -> None:
    options = {
        "g": "20",
        "bf": bf,
        "x265-params": f"keyint=20:bframes={bf}:open-gop=0:log-level=none",
    }
    if codec == "libx264":
        del options["x265-params"]
    path = make(tmp_path / f"a{suffix}", replace(CLIP, codec=codec, options=options))
    packets = packets_of(path, count=60)
    expected, _, _ = shown(fresh(packets))
    assert len(expected) == 60
    moved = []
    for open_at in range(60):
        engine = HostEngine()
        found, decoding, _ = shown(fresh(packets), engine, open_at)
        assert found == expected, open_at
        assert (decoding.undecodable, engine.disorder) == (0, 0)
        moved.append(engine.pictures)
    assert moved[0] >= 55
    assert max(moved) <= 60
    assert sum(map(bool, moved)) > 50


def test_a_device_that_is_open_late_in_a_long_group_takes_over_with_the_next_one(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, frames=120, options={"g": "50", "bf": "2"}))
    packets = packets_of(path, count=120)
    expected, _, _ = shown(fresh(packets))
    engine = HostEngine()
    found, decoding, _ = shown(fresh(packets), engine, 40)
    assert (found, decoding.undecodable) == (expected, 0)
    assert engine.pictures == 70


def test_pictures_of_another_size_are_the_cpus(tmp_path: Path) -> None:
    clips = (CLIP, replace(CLIP, size_wh_px=(96, 48)), CLIP)
    parts = [make(tmp_path / f"{n}.ts", clip) for n, clip in enumerate(clips)]
    packets = packets_of(join(tmp_path / "all.ts", parts), count=180)
    expected, _, _ = shown(fresh(packets))
    for open_at in (0, 30, 59, 60, 61, 70, 100, 119, 121, 140):
        engine = HostEngine()
        found, decoding, _ = shown(fresh(packets), engine, open_at)
        assert (found, decoding.undecodable) == (expected, 0), open_at
        assert {size_wh for _, size_wh, _ in engine.opened} == {(64, 48)}
        assert 30 < engine.pictures <= 120


@pytest.mark.parametrize(
    "change",
    [
        {"size_wh_px": (96, 48)},
        {"color": (1, 1, 1, 1)},
        {"color": (5, 2, 2, 2), "pix_fmt": "yuvj420p"},
        {"sample_aspect": Fraction(4, 3)},
        {"codec": "mpeg4", "options": {}},
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_differs_from_the_first_picture_is_the_cpus(
    tmp_path: Path, change: dict[str, Any], is_first: bool
) -> None:
    usual, other = CLIP, replace(CLIP, **change)
    first, second = (other, usual) if is_first else (usual, other)
    paths = [make(tmp_path / "1.mp4", first), make(tmp_path / "2.mp4", second)]
    packets = packets_of(*paths, count=120)
    expected, _, _ = shown(fresh(packets))
    engine = HostEngine()
    found, _, _ = shown(fresh(packets), engine)
    assert found == expected
    # The engine has one of the two, unless all have to look like what it cannot decode.
    has_one = not (is_first and "sample_aspect" in change)
    assert len(engine.opened) == has_one
    assert (engine.pictures > 0) == has_one
    assert engine.pictures <= 60


def test_an_engine_that_breaks_costs_a_group_and_is_tried_with_the_next_connection(
    tmp_path: Path,
) -> None:
    for bf in ("0", "2"):
        path = make(tmp_path / f"{bf}.mp4", replace(CLIP, options={"g": "20", "bf": bf}))
        packets = packets_of(path, path, count=120)
        for breaks_at in (10, 19, 21, 35, 58):
            engine = HostEngine(breaks_at=[breaks_at])
            found, decoding, _ = shown(fresh(packets), engine)
            assert len(found) + decoding.undecodable == 120
            assert 0 < decoding.undecodable <= 20 + int(bf)
            assert len(engine.opened) == 2
            assert engine.pictures >= 60


def test_an_engine_that_breaks_before_it_took_over_costs_nothing(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", CLIP)
    packets = packets_of(path, count=60)
    expected, _, _ = shown(fresh(packets))
    engine = HostEngine(breaks_at=[3])
    found, decoding, device = shown(fresh(packets), engine, 8)
    assert (found, decoding.undecodable, len(engine.opened)) == (expected, 0, 1)
    assert device is not None
    assert device.why == "it broke"


def test_an_engine_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    class Closed(HostEngine):
        def open(self, codec: str, first: Picture, *, at_once: bool) -> HostDecoder:
            self.opened.append((codec, (0, 0), at_once))
            raise RuntimeError("out of decoders")

    packets = packets_of(make(tmp_path / "a.mp4", CLIP), count=60)
    engine = Closed()
    found, _, device = shown(packets, engine)
    assert len(found) == 60
    assert len(engine.opened) == 1
    assert device is not None
    assert device.why == "no decoder could be opened (out of decoders)"


def test_an_opening_for_an_earlier_connection_is_not_used_for_a_later_one(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", CLIP)
    packets = packets_of(path, path, count=120)
    expected, _, _ = shown(fresh(packets))
    for open_at in (63, 70, 81, 100):
        engine = HostEngine()
        found, decoding, _ = shown(fresh(packets), engine, open_at)
        assert (found, decoding.undecodable) == (expected, 0), open_at
        assert 20 <= engine.pictures <= 60


def test_reordering_is_noticed_where_the_decoder_does_not_tell(tmp_path: Path) -> None:
    class Unaware:
        reorder_depth = 0

        def __init__(self, context: Any) -> None:
            self.decode, self.flush_buffers = context.decode, context.flush_buffers

    packets = packets_of(make(tmp_path / "a.mp4", CLIP), count=60)
    expected, _, _ = shown(fresh(packets))
    for open_at in range(0, 60, 3):
        given = fresh(packets)
        connection = replace(given[0].connection, pictures=Unaware(given[0].connection.pictures))
        engine = HostEngine()
        unaware = [LivePacket(connection, packet.packet) for packet in given]
        found, decoding, _ = shown(unaware, engine, open_at)
        assert (found, decoding.undecodable, engine.disorder) == (expected, 0, 0), open_at


def test_reordering_that_begins_later_is_in_order_from_the_next_key_frame_on(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))
    packets = fresh(packets_of(path, count=60))
    late, before = packets[25].packet, packets[23].packet
    late.pts = (before.pts or 0) + 1
    engine = HostEngine()
    found, decoding, _ = shown(packets, engine)
    assert [at_once for _, _, at_once in engine.opened] == [True, False]
    assert (len(found), decoding.undecodable, engine.disorder) == (60, 0, 1)


@pytest.mark.parametrize("open_at", [0, 12, 30])
@pytest.mark.parametrize("at", [10, 20, 25])
@pytest.mark.parametrize("by_s", [0.2, 0.4])
def test_a_clock_that_steps_back_costs_no_picture(
    tmp_path: Path, by_s: float, at: int, open_at: int
) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))
    packets = fresh(packets_of(path, count=60))
    for packet in packets[at:]:
        packet.packet.pts = (packet.packet.pts or 0) - round(by_s * 90_000)
        packet.packet.dts = packet.packet.pts
    engine = HostEngine()
    found, decoding, _ = shown(packets, engine, open_at)
    assert (len(found), decoding.undecodable) == (60, 0)
    assert [at_once for _, _, at_once in engine.opened] == [True]
    assert engine.pictures > 20


def test_a_picture_that_the_cpu_loses_without_a_word_makes_none_come_twice(tmp_path: Path) -> None:
    class Losing:
        def __init__(self, context: Any) -> None:
            self._context, self._left = context, 5
            self.reorder_depth, self.flush_buffers = context.reorder_depth, context.flush_buffers

        def decode(self, packet: Any) -> list[Any]:
            frames: list[Any] = self._context.decode(packet)
            self._left -= len(frames)
            return [] if -3 < self._left <= 0 else frames

    path = make(tmp_path / "a.mp4", CLIP)
    for open_at in range(0, 60, 4):
        given = fresh(packets_of(path, count=60))
        connection = replace(given[0].connection, pictures=Losing(given[0].connection.pictures))
        packets = [LivePacket(connection, packet.packet) for packet in given]
        found, decoding, _ = shown(packets, HostEngine(), open_at)
        stamps = [pts for pts, _ in found]
        assert len(stamps) == len(set(stamps)), open_at
        assert len(found) + decoding.undecodable == 60


def test_neighbours_with_one_time_are_both_shown(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))
    for at in range(1, 15):
        packets = fresh(packets_of(path, count=60))
        packets[at].packet.pts = packets[at - 1].packet.pts
        found, decoding, _ = shown(packets, HostEngine(), at)
        assert (len(found), decoding.undecodable) == (60, 0), at


def test_a_picture_that_waits_to_be_deinterlaced_comes_before_a_devices(tmp_path: Path) -> None:
    woven = replace(CLIP, frames=10, interlaced=True, options={"g": "20", "bf": "0"})
    plain = replace(CLIP, frames=40, options={"g": "20", "bf": "0"})
    paths = [make(tmp_path / f"{n}.mp4", clip) for n, clip in enumerate((woven, plain, woven))]
    packets = fresh(packets_of(*paths, count=60))
    engine = HostEngine()
    engine.gate.set()
    device = LiveDevice(engine)
    decoding = LiveDecoding(Deinterlacer(), device)
    stamps: list[int] = []
    for packet in packets:
        wait_until(nothing_opens)
        stamps += [picture.pts or 0 for picture in decoding.push(packet)]
    stamps += [picture.pts or 0 for picture in decoding.rest()]
    device.close()
    assert len(stamps) == 60
    assert stamps == sorted(stamps)
    assert engine.pictures > 30


def test_a_damaged_packet_costs_the_rest_of_its_group(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))
    packets = fresh(packets_of(path, count=60))
    broken = packet_of(b"\x7f" + bytes(packets[30].packet)[1:])
    broken.pts, broken.dts = packets[30].packet.pts, packets[30].packet.dts
    packets[30] = LivePacket(packets[30].connection, broken)
    engine = HostEngine()
    found, decoding, _ = shown(packets, engine)
    assert (len(found), decoding.undecodable) == (50, 10)
    assert len(engine.opened) == 2


def test_packets_without_presentation_times_stay_on_the_cpu(tmp_path: Path) -> None:
    path = make(tmp_path / "a.avi", replace(CLIP, options={"g": "20", "bf": "0"}))
    packets = packets_of(path, count=60)
    for packet in packets:
        packet.packet.pts = None
    for open_at in (0, 12):
        engine = HostEngine()
        found, _, _ = shown(fresh(packets), engine, open_at)
        assert (len(found), engine.packets) == (60, 0)


def test_an_end_does_not_wait_for_a_decoder_that_waits_to_be_opened(tmp_path: Path) -> None:
    packets = packets_of(make(tmp_path / "a.mp4", CLIP), count=60)
    held, waiting = HostEngine(), HostEngine()
    devices = LiveDevice(held), LiveDevice(waiting)
    for device in devices:
        decoding = LiveDecoding(None, device)
        for packet in fresh(packets)[:10]:
            list(decoding.push(packet))
    devices[1].close()  # while the first one is being opened
    assert sum(thread.name == "open" for thread in threading.enumerate()) == 1
    held.gate.set()
    waiting.gate.set()
    devices[0].close()
    wait_until(nothing_opens)
    assert (len(held.opened), len(waiting.opened)) == (1, 0)
    assert held.closed
    assert waiting.closed


@pytest.mark.parametrize(
    ("codec", "why"),
    [("mpeg4", "codec mpeg4"), ("libx264", "its key frames are not pictures that")],
)
def test_what_no_device_can_begin_with_is_said(tmp_path: Path, codec: str, why: str) -> None:
    options = {"g": "20", "x264-params": "open-gop=1:bframes=2:intra-refresh=0"}
    clip = replace(CLIP, codec=codec, options=options if codec == "libx264" else {})
    packets = packets_of(make(tmp_path / "a.ts", clip), count=60)
    if codec == "libx264":
        packets = packets[20:]  # behind the only IDR picture
    engine = HostEngine()
    _, _, device = shown(fresh(packets), engine)
    assert not engine.packets
    assert device is not None
    assert device.why.startswith(why)


def through(source: LiveSource, connections: Connections, count: int) -> list[Frame]:
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count // 6:
            wait_until(nothing_opens)
        if len(frames) == count:
            connections.drained.set()
    source.close()
    return frames


@pytest.fixture
def camera(tmp_path: Path) -> Callable[..., tuple[list[Frame], LiveSource]]:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))

    def play(engine: HostEngine) -> tuple[list[Frame], LiveSource]:
        connections = Connections(*[partial(Broken, path, 10_000)] * 3)
        source = connections.source(device=LiveDevice(engine))
        return through(source, connections, 180), source

    return play


def test_a_sources_frames_are_a_devices(camera: Any) -> None:
    engine = HostEngine()
    engine.gate.set()
    frames, source = camera(engine)
    assert len(frames) == 180
    assert 20 <= source.on_device <= engine.pictures
    assert source.warnings == ()
    assert not any(source.dropped.values())
    assert engine.closed


def test_a_source_whose_decoder_is_not_used_says_why(camera: Any) -> None:
    class Never(HostEngine):
        def why_not(self, codec: str, first: Picture) -> str | None:
            return "this engine is another one's"

    _, source = camera(Never())
    assert source.on_device == 0
    assert source.warnings == ("decoded on the CPU: this engine is another one's",)
