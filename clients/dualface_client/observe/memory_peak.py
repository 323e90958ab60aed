"""Largest resident size of processes, sampled during a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dualface_client.background import BackgroundLoop
from dualface_client.observe.host import resident_bytes
from dualface_client.observe.run_log import failure_logger


class MemoryPeak(BackgroundLoop):
    """Samples resident memory of process trees until it is closed; a context manager.

    Closing takes a last sample.

    Args:
        roots: Returns process ids by name, called before each sample, as processes come and go.
            Each counts with its children, except for this process.
        interval_s: Between two samples.
    """

    def __init__(self, roots: Callable[[], Mapping[str, int]], interval_s: float = 0.5) -> None:
        self._roots = roots
        self._peaks: dict[str, int] = dict.fromkeys(roots(), 0)
        super().__init__(
            self._sample,
            name="memory",
            period_s=interval_s,
            at_once=True,
            once_more=True,
            failed=failure_logger("the measurement of memory"),
        )

    @property
    def peaks_bytes(self) -> dict[str, int]:
        """Largest sums of resident bytes so far, by name."""
        return dict(self._peaks)

    def _sample(self) -> None:
        for name, pid in self._roots().items():
            self._peaks[name] = max(self._peaks.get(name, 0), resident_bytes(pid))
