"""Where a stream's time goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from dualface_client.fibers import cpu_time_s

T = TypeVar("T")

#: Items of a timed iteration whose time is added up before others can see it.
_ADDED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage's totals.

    Attributes:
        wall_s: Elapsed seconds; on a fiber with the turns of others while it waits.
        cpu_s: Processor seconds of the calling thread (without a library's own threads).
        calls: How often the stage ran.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0


class StageClock:
    """Adds up wall and processor time per named stage; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, tuple[float, float, int]] = {}

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times the body as one call of the stage."""
        return _Stage(self._add, name)

    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, timing how long each one takes to come."""
        iterator = iter(items)
        wall_s = cpu_s = 0.0
        calls = 0
        while True:
            began_s, cpu_began_s = time.perf_counter(), cpu_time_s()
            item: T | _End = _END
            try:
                item = next(iterator, _END)
            finally:
                calls += 1
                wall_s += time.perf_counter() - began_s
                cpu_s += cpu_time_s() - cpu_began_s
                if calls == _ADDED_AT_ONCE or isinstance(item, _End):
                    self._add(name, wall_s, cpu_s, calls)
                    wall_s, cpu_s, calls = 0.0, 0.0, 0
            if isinstance(item, _End):
                return
            # Closed here, by the garbage collector for example, it must not take the lock.
            yield item

    def totals(self) -> dict[str, StageTime]:
        """A copy of the totals so far."""
        with self._lock:
            return {name: StageTime(*numbers) for name, numbers in self._totals.items()}

    def add(self, name: str, time_: StageTime) -> None:
        """Adds what another clock has measured."""
        self._add(name, time_.wall_s, time_.cpu_s, time_.calls)

    def _add(self, name: str, wall_s: float, cpu_s: float, calls: int = 1) -> None:
        with self._lock:
            wall, cpu, before = self._totals.get(name, (0.0, 0.0, 0))
            self._totals[name] = wall + wall_s, cpu + cpu_s, before + calls


class _Stage:
    """One call of a stage. Several run for every frame, so it is not a generator."""

    __slots__ = ("_add", "_cpu", "_name", "_wall")

    def __init__(self, add: Callable[[str, float, float], None], name: str) -> None:
        self._add = add
        self._name = name

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), cpu_time_s()

    def __exit__(self, *error: object) -> None:
        wall_s, cpu_s = time.perf_counter() - self._wall, cpu_time_s() - self._cpu
        self._add(self._name, wall_s, cpu_s)


class _End:
    """Marks the end of an iterator; `None` could be an item."""


_END = _End()
