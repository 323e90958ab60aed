"""A device takes a live stream's decoding over from the CPU, and gives it back.

The device is another decoder of FFmpeg's, so that its pictures can be compared with the CPU's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.types import Frame, Nv12Image
from dualface_client.video.annexb import begins_anew, sequence_sets
from dualface_client.video.color import spec_of
from dualface_client.video.convert import Nv12Converter
from dualface_client.video.deinterlace import Picture
from dualface_client.video.ffmpeg import packet_of
from dualface_client.video.live_decoding import DeviceDecoderLostError, DevicePicture
from dualface_client.video.live_packet import Connection, LivePacket
from dualface_client.video.orientation import Orientation
from tests.connections import CAMERA, Broken, Connections, taken
from tests.media import Clip, join, make

CLIP = Clip(frames=60, size_wh_px=(64, 48), options={"g": "20", "bf": "2"})


class Twin:
    """Decodes in place of a GPU; counts what it decodes.

    Args:
        late: How often it says that it is not ready.
        breaks_at: Packet at which it fails; None for never.
    """

    def __init__(self, late: int = 0, breaks_at: int | None = None) -> None:
        self.why = "not offered"
        self.offers: list[tuple[int, int]] = []
        self.pictures = self.packets = 0
        self.closed = False
        self._late, self._breaks_at, self._asked = late, breaks_at, 0
        self._connection: Connection | None = None
        self._sets = b""

    def can_begin(self, packet: LivePacket) -> bool:
        annexb = packet.connection.annexb
        return begins_anew(annexb.whole(packet.packet), annexb.codec)

    def offer(self, key: LivePacket, first: Picture) -> None:
        size_wh = first.frame.width, first.frame.height
        self.offers.append(size_wh)
        if size_wh != self.offers[0]:
            self.why = "another size"
            return
        annexb = key.connection.annexb
        self._connection, self._asked = key.connection, 0
        self._sets = sequence_sets(annexb.whole(key.packet), annexb.codec)
        self._context: Any = av.CodecContext.create(annexb.codec, "r")
        self._context.thread_type = "SLICE"
        self._converter = Nv12Converter(size_wh, Fraction(1), Orientation())
        self.why = ""

    def is_ready(self, connection: Connection) -> bool:
        self._asked += 1
        return connection is self._connection and self._asked > self._late

    def goes_on(self, key: LivePacket) -> bool:
        annexb = key.connection.annexb
        same = sequence_sets(annexb.whole(key.packet), annexb.codec) == self._sets
        return key.connection is self._connection and same

    def decode(self, packet: LivePacket | None) -> list[DevicePicture]:
        self.packets += 1
        if self.packets == self._breaks_at:
            self._connection, self.why = None, "it broke"
            raise DeviceDecoderLostError(self.why)
        part = None
        if packet is None:
            self._connection = None
        else:
            part = packet_of(packet.connection.annexb.whole(packet.packet))
            part.pts, part.dts = packet.packet.pts, packet.packet.dts
        return [self._picture(frame) for frame in self._context.decode(part)]

    def close(self) -> None:
        self.closed = True

    def _picture(self, frame: Any) -> DevicePicture:
        self.pictures += 1
        found: Nv12Image = self._converter.convert(frame, spec_of(frame), Fraction(1))
        return DevicePicture(found, frame.pts)


def through(
    device: Twin | None, *paths: Path, frames: int, place: Any = CAMERA
) -> tuple[list[Frame], Any]:
    opened: list[Callable[[], Any]] = [partial(Broken, path, 10_000) for path in paths]
    connections = Connections(*opened)
    source = connections.source(place, device)
    found = taken(source, connections, frames)
    source.close()
    return found, source


def assert_same(found: list[Frame], expected: list[Frame]) -> None:
    assert [frame.pts - found[0].pts for frame in found] == [
        frame.pts - expected[0].pts for frame in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.image.y, other.image.y)
        assert np.array_equal(one.image.uv, other.image.uv)


@pytest.mark.parametrize("late", [0, 1, 7, 25])
@pytest.mark.parametrize("bf", ["0", "2"])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_device_takes_over_without_losing_or_repeating_a_picture(
    tmp_path: Path, suffix: str, bf: str, late: int
) -> None:
    path = make(tmp_path / f"a{suffix}", replace(CLIP, options={"g": "20", "bf": bf}))
    count = 60 - int(bf)  # the rest stays in the decoder until more comes
    expected, _ = through(None, path, frames=count)
    device = Twin(late)
    found, source = through(device, path, frames=count)
    assert len(found) == count
    assert_same(found, expected)
    assert 20 <= device.pictures <= 60
    assert device.closed
    assert source.warnings == ()
    assert not any(source.dropped.values())


def test_a_device_that_is_ready_late_in_a_long_group_takes_over_at_the_next_key_frame(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, frames=120, options={"g": "50", "bf": "0"}))
    expected, _ = through(None, path, frames=120)
    device = Twin(late=31)
    found, _ = through(device, path, frames=120)
    assert_same(found, expected)
    assert device.pictures == 70


def test_pictures_of_another_size_are_the_cpus(tmp_path: Path) -> None:
    clips = (CLIP, replace(CLIP, size_wh_px=(96, 48)), CLIP)
    parts = [make(tmp_path / f"{n}.ts", clip) for n, clip in enumerate(clips)]
    path = join(tmp_path / "all.ts", parts)
    expected, _ = through(None, path, frames=178)
    device = Twin()
    found, source = through(device, path, frames=178)
    assert_same(found, expected)
    assert device.offers == [(64, 48), (96, 48), (64, 48)]
    assert "60 frames had another size" in source.warnings[0]


def test_a_device_that_fails_costs_what_comes_before_the_next_key_frame(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, options={"g": "20", "bf": "0"}))
    device = Twin(breaks_at=10)
    found, source = through(device, path, frames=49)
    assert len(found) == 49
    assert source.dropped["undecodable"] == 11
    assert len(device.offers) == 2
    assert source.warnings[0] == "11 pictures could not be decoded"


def test_each_connection_is_offered(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", CLIP)
    expected, _ = through(None, path, path, frames=118)
    device = Twin()
    found, _ = through(device, path, path, frames=118)
    assert_same(found, expected)
    assert device.offers == [(64, 48)] * 2


def test_what_a_network_may_lose_parts_of_stays_on_the_cpu(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", CLIP)
    device = Twin()
    found, source = through(device, path, frames=58, place=replace(CAMERA, transport="udp"))
    assert len(found) == 58
    assert not device.offers
    assert "decoded on the CPU: its network may lose parts" in source.warnings[0]


def test_a_device_that_does_not_take_it_says_why(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", replace(CLIP, codec="mpeg4", options={}))
    _, source = through(Twin(), path, frames=60)
    assert source.warnings == ("decoded on the CPU: not offered",)
