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
from dualface_client.video.deinterlace import Picture
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
from tests.connections import CAMERA, Broken, Connections, taken
from tests.media import Clip, join, make
from tests.processes import wait_until

CLIP = Clip(frames=60, size_wh_px=(64, 48), options={"g": "20", "bf": "2"})
Shown = tuple[int | None, bytes]


class HostDecoder:
    """Pictures of the first one's size, like those of an engine."""

    def __init__(self, engine: HostEngine, codec: str, size_wh: tuple[int, int]) -> None:
        self._engine, self._size_wh = engine, size_wh
        self._context: Any = av.CodecContext.create(codec, "r")
        self._context.thread_type = "SLICE"

    def decode(self, part: Any, pts: int | None) -> list[DevicePicture]:
        if pts != -1:
            self._engine.packets += 1
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
        breaks_at: Numbers of packets at which it fails.
    """

    def __init__(self, breaks_at: Sequence[int] = ()) -> None:
        self.gate = threading.Event()
        self.opened: list[tuple[str, tuple[int, int], bool]] = []
        self.packets = self.pictures = 0
        self.breaks_at = frozenset(breaks_at)
        self.closed = False

    def why_not(self, codec: str, first: Picture) -> str | None:
        if str(Orientation.of(first.frame)):
            return "turned"
        return "samples that are not square" if first.sample_aspect != 1 else None

    def open(self, codec: str, first: Picture, *, at_once: bool) -> HostDecoder:
        assert self.gate.wait(20)
        size_wh = first.frame.width, first.frame.height
        self.opened.append((codec, size_wh, at_once))
        return HostDecoder(self, codec, size_wh)

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
        assert decoding.undecodable == 0
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
    begins_plain = not is_first or not {"sample_aspect", "codec"} & set(change)
    assert len(engine.opened) == (1 if begins_plain else 0) or is_first
    assert engine.pictures <= 60


def test_an_engine_that_breaks_costs_a_group_and_is_tried_with_the_next_connection(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))
    packets = packets_of(path, path, count=120)
    engine = HostEngine(breaks_at=[10])
    found, decoding, _ = shown(fresh(packets), engine)
    assert len(found) + decoding.undecodable == 120
    assert decoding.undecodable == 11  # 10 to 20 of the first connection
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


def test_reordering_that_begins_later_is_in_order_from_the_next_key_frame_on(
    tmp_path: Path,
) -> None:
    class Unaware:
        """A decoder that takes the stream for one without reordering."""

        reorder_depth = 0

        def __init__(self, context: Any) -> None:
            self.decode, self.flush_buffers = context.decode, context.flush_buffers

    packets = fresh(packets_of(make(tmp_path / "a.mp4", CLIP), count=60))
    connection = replace(packets[0].connection, pictures=Unaware(packets[0].connection.pictures))
    engine = HostEngine()
    found, decoding, _ = shown([LivePacket(connection, p.packet) for p in packets], engine)
    assert [at_once for _, _, at_once in engine.opened] == [True, False]
    assert (len(found), decoding.undecodable) == (60, 0)


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
    packets = packets_of(make(tmp_path / "a.mp4", clip), count=60)
    if codec == "libx264":
        packets = packets[20:]  # behind the only IDR picture
    engine = HostEngine()
    _, _, device = shown(fresh(packets), engine)
    assert not engine.packets
    assert device is not None
    assert device.why.startswith(why)


def through(source: LiveSource, connections: Connections, count: int) -> list[Frame]:
    frames = taken(source, connections, count)
    source.close()
    return frames


@pytest.fixture
def camera(tmp_path: Path) -> Callable[..., tuple[list[Frame], LiveSource]]:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))

    def play(engine: HostEngine, place: Any = CAMERA) -> tuple[list[Frame], LiveSource]:
        engine.gate.set()
        connections = Connections(*[partial(Broken, path, 10_000)] * 3)
        source = connections.source(place, LiveDevice(engine))
        return through(source, connections, 180), source

    return play


def test_a_sources_frames_are_a_devices(camera: Any) -> None:
    engine = HostEngine()
    frames, source = camera(engine)
    assert len(frames) == 180
    assert 100 < source.on_device <= engine.pictures
    assert source.warnings == ()
    assert not any(source.dropped.values())
    assert engine.closed


def test_what_a_network_may_lose_parts_of_stays_on_the_cpu(camera: Any) -> None:
    engine = HostEngine()
    frames, source = camera(engine, replace(CAMERA, transport="udp"))
    assert (len(frames), source.on_device, engine.opened) == (180, 0, [])
    assert "decoded on the CPU: its network may lose parts" in source.warnings[0]
