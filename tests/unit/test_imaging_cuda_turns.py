"""Two fibers of one stream on a GPU: what one waits for says nothing of the other one's work.

A stream that has no GPU stands in; pixels are `tests/gpu`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np

from dualface_client.fibers import Fibers, give_way
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.types import Nv12Image


class FakeRecorded:
    """A place in a stream, which it comes to when somebody waits for it."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.waited = 0
        self._wait = wait

    def wait(self) -> None:
        self._wait()
        self.waited += 1


class FakeStream:
    """Takes every launch and does nothing."""

    device_id = 0

    def __init__(self) -> None:
        kernel = SimpleNamespace(get_function=lambda _name: lambda _grid, _block, _args: None)
        self.cupy: Any = SimpleNamespace(
            RawModule=lambda **_options: kernel,
            cuda=SimpleNamespace(alloc_pinned_memory=bytearray),
        )
        self.recorded: list[FakeRecorded] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is entered."""

    def record(self) -> FakeRecorded:
        self.recorded.append(FakeRecorded(lambda: None))
        return self.recorded[-1]

    def finish(self) -> None:
        self.meanwhile()


class Plane(np.ndarray[Any, np.dtype[np.uint8]]):
    """A plane with an address as CuPy's have it."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


def picture() -> Nv12Image:
    luma = np.zeros((64, 128), np.uint8).view(Plane)
    return Nv12Image(luma, np.zeros((32, 64, 2), np.uint8).view(Plane))


def test_pictures_queued_during_a_wait_are_waited_for_themselves() -> None:
    stream: Any = FakeStream()
    imaging, queued = CudaImaging(stream), list[Any]()

    def waiting() -> None:
        stream.meanwhile = lambda: give_way(lambda: bool(queued))
        imaging.thumbnail_async(picture())
        imaging.synchronize()
        queued[0].result()

    def queueing() -> None:
        queued.append(imaging.thumbnail_async(picture()))

    fibers = Fibers()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fibers.run, waiting, "waiting")
        second = pool.submit(fibers.run, queueing, "queueing")
        first.result(30)
        second.result(30)
    earlier, later = stream.recorded
    assert (earlier.waited, later.waited) == (0, 1)
