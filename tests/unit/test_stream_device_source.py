"""A source that goes on with another one where the first cannot follow the pictures' size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dualface_client.stream.device_source import DeviceSource
from dualface_client.types import ColorSpec, Frame, Nv12Image, VideoInfo
from dualface_client.video.nvdec import NvdecSizeChangedError

TIME_BASE = Fraction(1, 25)
INFO = VideoInfo(2, 2, Fraction(25), TIME_BASE)
IMAGE = Nv12Image(np.zeros((2, 2), np.uint8), np.zeros((1, 1, 2), np.uint8), ColorSpec())


@dataclass
class FakeSource:
    """Frames at given times; after `until` of them the size changes, if that is not None.

    Without `ends_when_closed`, one more is under way when it is closed.
    """

    stamps: tuple[int, ...]
    until: int | None = None
    info: VideoInfo = INFO
    decode_errors: int = 0
    is_short_to_read: bool = True
    incomplete: str = ""
    warnings: tuple[str, ...] = ()
    closed: bool = False
    ends_when_closed: bool = True

    def __iter__(self) -> Iterator[Frame]:
        for index, pts in enumerate(self.stamps):
            if self.closed and self.ends_when_closed:
                return
            if index == self.until:
                raise NvdecSizeChangedError("the picture size changes from 2x2 to 4x4")
            yield Frame(index, pts, TIME_BASE, IMAGE)

    def close(self) -> None:
        self.closed = True


def test_the_rest_comes_from_the_second_source_without_a_gap() -> None:
    first, second = FakeSource((0, 1, 2, 3, 9), until=3), FakeSource((0, 1, 2, 3, 9))
    second.warnings = ("2 frames had another size",)
    reasons: list[str] = []

    def reopen(why: str) -> FakeSource:
        reasons.append(why)
        return second

    source = DeviceSource(first, reopen)
    assert [(frame.index, frame.pts) for frame in source] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 9),
    ]
    assert reasons == ["the picture size changes from 2x2 to 4x4"]
    assert first.closed
    assert source.warnings == second.warnings
    source.close()
    assert second.closed


def test_a_source_of_one_size_stays_alone() -> None:
    first = FakeSource((0, 1))
    source = DeviceSource(first, lambda why: FakeSource(()))
    assert [frame.pts for frame in source] == [0, 1]
    assert not first.closed


def test_a_closed_source_is_not_opened_again() -> None:
    first = FakeSource((0, 1, 2), until=1, ends_when_closed=False)
    reasons: list[str] = []

    def reopen(why: str) -> FakeSource:
        reasons.append(why)
        return FakeSource((0, 1, 2))

    source = DeviceSource(first, reopen)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    assert reasons == []


def test_a_source_that_is_closed_while_the_file_is_opened_again_closes_that_too() -> None:
    second = FakeSource((0, 1, 2))

    def reopen(_why: str) -> FakeSource:
        source.close()
        return second

    source = DeviceSource(FakeSource((0, 1, 2), until=1), reopen)
    assert [frame.pts for frame in source] == [0]
    assert second.closed
