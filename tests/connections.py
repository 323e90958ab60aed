"""Connections of a live input that a test opens, ends and breaks; no server and no network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dualface_client.types import Frame
from dualface_client.video.ffmpeg import packet_of
from dualface_client.video.live_decoding import DeviceDecoder
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_packet import Connection, LivePacket
from dualface_client.video.live_reader import LiveNews, LiveReader
from dualface_client.video.live_sound import LAYOUT, RATE_HZ
from dualface_client.video.live_source import LiveSource
from dualface_client.video.live_times import TIME_BASE, UNITS_PER_S
from tests.media import Audio, Clip

SOUND = Audio(codec="aac", seconds=1.0)
SMALL = Clip(frames=25, size_wh_px=(64, 48), audio=(SOUND,), options={"g": "5"})
CAMERA = LiveInput("rtsp://camera/door", "rtsp://ann:pw@camera/door", longest_pause_s=0.2)


class Broken:
    """A container that fails after some packets; none of it is a network's."""

    def __init__(self, path: Path, packets: int) -> None:
        self._container = av.open(str(path))
        self._packets = packets
        self.duration = 0  # like a camera's
        self.streams = self._container.streams

    def demux(self, *streams: Any) -> Iterator[Any]:
        for number, packet in enumerate(self._container.demux(*streams)):
            if number == self._packets:
                raise OSError(110, "Connection timed out")
            yield packet

    def close(self) -> None:
        self._container.close()


class Connections:
    """Opens one after the other; then stops the stream."""

    def __init__(self, *opened: Callable[[], Any]) -> None:
        self.stop = threading.Event()
        self.told: list[LiveNews] = []
        self.drained = threading.Event()
        self._opened = iter(opened)

    def __call__(self, place: LiveInput) -> Any:
        opened = next(self._opened, None)
        if opened is None:
            self.drained.wait(10)
            self.stop.set()
            raise OSError(111, "Connection refused")
        return opened()

    def source(self, place: LiveInput = CAMERA, device: DeviceDecoder | None = None) -> LiveSource:
        reader = LiveReader(place, self.stop, self.told.append, opened=self)
        return LiveSource(place, self.stop, self.told.append, reader=reader, device=device)


def taken(source: LiveSource, connections: Connections, count: int) -> list[Frame]:
    """Frames until so many have come; then the last connection may fail."""
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            connections.drained.set()
    return frames


def refused() -> Any:
    raise OSError(111, "Connection refused")


class Tones:
    """Packets of a tone and their decoder, without a file.

    Attributes:
        decoded: Packets so far.
    """

    samples = 1024

    def __init__(self) -> None:
        self.decoded = 0
        self._connection = Connection(1, None, None, None, self, None)
        self._made = 0

    def up_to(self, time_s: float) -> list[LivePacket]:
        """The packets from where the last call ended."""
        made = []
        while (begin_s := self._made * self.samples / RATE_HZ) < time_s:
            packet = packet_of(b"tone")
            packet.pts = packet.dts = round(begin_s * UNITS_PER_S)
            packet.time_base = TIME_BASE
            made.append(LivePacket(self._connection, packet))
            self._made += 1
        return made

    def decode(self, packet: Any) -> list[av.AudioFrame]:
        self.decoded += 1
        times = packet.pts / UNITS_PER_S + np.arange(self.samples) / RATE_HZ
        tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", LAYOUT)
        frame.sample_rate, frame.pts = RATE_HZ, packet.pts
        frame.time_base = Fraction(TIME_BASE)
        return [frame]
