"""How often something took how long: counts by fixed bounds, as Prometheus wants them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass

#: Upper bounds of the buckets, seconds; what took longer is in one bucket more.
BOUNDS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations since the beginning.

    Attributes:
        counts: How many were in each bucket, one more than `BOUNDS_S` has; empty for none at all.
        sum_s: All durations together.
    """

    counts: tuple[int, ...] = ()
    sum_s: float = 0.0


class HistogramMeter:
    """Collects durations; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Takes one duration."""
        with self._lock:
            self._counts[bisect_left(BOUNDS_S, seconds)] += 1
            self._sum_s += seconds

    def histogram(self) -> Histogram:
        """What was collected so far."""
        with self._lock:
            return Histogram(tuple(self._counts), self._sum_s)
