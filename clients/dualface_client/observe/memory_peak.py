"""Largest resident size of processes, sampled while a run lasts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

import psutil

from dualface_client.closing import ClosesAtExit


class MemoryPeak(ClosesAtExit):
    """Samples resident memory of process trees until it is closed; a context manager.

    Args:
        roots: Process ids by name, asked before each sample, as processes come and go; each
            counts with its children, this process without.
        interval_s: Between two samples.
    """

    def __init__(self, roots: Callable[[], Mapping[str, int]], interval_s: float = 0.5) -> None:
        self._roots = roots
        self._interval_s = interval_s
        self._peaks: dict[str, int] = dict.fromkeys(roots(), 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="memory", daemon=True)
        self._thread.start()

    @property
    def peaks_bytes(self) -> dict[str, int]:
        """Largest sums of resident bytes so far, by name."""
        return dict(self._peaks)

    def close(self) -> None:
        """Takes a last sample and ends; safe to call twice."""
        self._stop.set()
        self._thread.join(5.0)

    def _sample_on(self) -> None:
        while True:
            stopping = self._stop.is_set()
            for name, pid in self._roots().items():
                self._peaks[name] = max(self._peaks.get(name, 0), resident_bytes(pid))
            if stopping:
                return
            self._stop.wait(self._interval_s)


def resident_bytes(pid: int) -> int:
    """Resident size of a process with its children (of this process without); 0 if it is gone."""
    try:
        root = psutil.Process(pid)
        family = [root] if pid == os.getpid() else [root, *root.children(recursive=True)]
        return sum(process.memory_info().rss for process in family)
    except psutil.Error:  # ended between two samples
        return 0
