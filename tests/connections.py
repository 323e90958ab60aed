"""Connections of a live input that a test opens, ends and breaks; no server and no network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from dualface_client.types import Frame
from dualface_client.video.live_decoding import DeviceDecoder
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_reader import LiveNews, LiveReader
from dualface_client.video.live_source import LiveSource
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
