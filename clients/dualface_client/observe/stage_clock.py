"""Where a stream's time goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage's totals.

    Attributes:
        wall_s: Elapsed seconds.
        cpu_s: Processor seconds of the calling thread (a library's own threads are not in it).
        calls: How often the stage ran.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0


class StageClock:
    """Adds up wall and processor time per named stage; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, StageTime] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the body as one call of the stage."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - wall, time.thread_time() - cpu)

    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, timing the making of each."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, _END)
            if isinstance(item, _End):
                return
            yield item

    def totals(self) -> dict[str, StageTime]:
        """A copy of the totals so far."""
        with self._lock:
            return dict(self._totals)

    def _add(self, name: str, wall_s: float, cpu_s: float) -> None:
        with self._lock:
            old = self._totals.get(name, StageTime())
            self._totals[name] = StageTime(old.wall_s + wall_s, old.cpu_s + cpu_s, old.calls + 1)


class _End:
    """Marks the end of an iterator; `None` could be an item."""


_END = _End()
