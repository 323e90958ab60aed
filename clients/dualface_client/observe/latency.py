"""How long a frame takes from the decoder until it is written."""

from __future__ import annotations

import threading
import time
from collections import deque

from dualface_client.histogram import Histogram, HistogramMeter

_RECENT = 1024
_QUANTILES = (0.5, 0.95, 0.99)
_REFRESH_S = 0.25  # queried after every frame


class LatencyMeter:
    """Quantiles over the last 1,024 frames; frames enter on one thread and leave on another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered_s: dict[int, float] = {}
        self._recent_s: deque[float] = deque(maxlen=_RECENT)
        self._whole, self._queue = HistogramMeter(), HistogramMeter()
        self._quantiles_s = (0.0, 0.0, 0.0)
        self._computed_s = -_REFRESH_S

    def enter(self, index: int) -> None:
        """The frame has come from the decoder."""
        with self._lock:
            self._entered_s[index] = time.monotonic()

    def age_s(self, index: int) -> float:
        """How long ago a frame that is on its way has come from the decoder; 0 for any other."""
        with self._lock:
            entered_s = self._entered_s.get(index)
        return 0.0 if entered_s is None else time.monotonic() - entered_s

    def forget(self, index: int) -> None:
        """The frame is not going to be written."""
        with self._lock:
            self._entered_s.pop(index, None)

    def send(self, index: int) -> None:
        """The frame's detection request is on its way."""
        with self._lock:
            entered_s = self._entered_s.get(index)
        if entered_s is not None:
            self._queue.add(time.monotonic() - entered_s)

    def leave(self, index: int) -> None:
        """The frame has been written."""
        with self._lock:
            entered_s = self._entered_s.pop(index, None)
            if entered_s is not None:
                self._recent_s.append(time.monotonic() - entered_s)
                self._whole.add(self._recent_s[-1])

    def histograms(self) -> tuple[Histogram, Histogram]:
        """From entering to leaving, and from entering to sending, of all frames so far."""
        return self._whole.histogram(), self._queue.histogram()

    def quantiles_s(self) -> tuple[float, float, float]:
        """Median, 95th and 99th percentile, at most 0.25 s old; 0 before the first frame."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._computed_s < _REFRESH_S or not self._recent_s:
                return self._quantiles_s
            ordered = sorted(self._recent_s)
            last = len(ordered) - 1
            p50_s, p95_s, p99_s = (ordered[round(share * last)] for share in _QUANTILES)
            self._quantiles_s = p50_s, p95_s, p99_s
            self._computed_s = now_s
            return self._quantiles_s
