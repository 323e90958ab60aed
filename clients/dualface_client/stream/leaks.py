"""Reports, while a worker runs, slots that are out for longer than any request can take."""

from __future__ import annotations

import logging

from dualface_client.background import BackgroundLoop
from dualface_client.memory.figures import Leak
from dualface_client.memory.slots import SlotPool
from dualface_client.observe.run_log import failure_logger, log_event
from dualface_client.settings.stream import StreamSettings

_LOOK_S = 5.0


def longest_lease_s(settings: StreamSettings) -> float:
    """Longest that a request of either model may have its slot, seconds."""
    # A request that is sent again after the server was away takes at most this long, and its answer
    # may wait for its turn for as long again.
    timeout_s = max(settings.detection.timeout_s, settings.reid_timeout_s)
    return 2 * timeout_s + settings.server_wait_s


class LeakMonitor(BackgroundLoop):
    """Checks repeatedly until it is closed; a context manager.

    Each leak is reported once. Quarantined slots are not leaks: they are kept on purpose, and their
    request has reported why.

    Args:
        pool: The worker's slots.
        limit_s: No lease lasts longer, seconds.
        look_s: Time between two checks.
    """

    def __init__(self, pool: SlotPool, limit_s: float, look_s: float = _LOOK_S) -> None:
        self._pool = pool
        self._limit_s = limit_s
        self._said: set[tuple[int, str]] = set()
        super().__init__(
            self._look,
            name="leak monitor",
            period_s=look_s,
            failed=failure_logger("the search for leaks"),
        )

    def _look(self) -> None:
        leaks = [leak for leak in self._pool.leaks(self._limit_s) if not leak.quarantined]
        for leak in leaks:
            if (leak.offset, leak.label) not in self._said:
                self._say(leak)
        # A slot that came back may leak again.
        self._said = {(leak.offset, leak.label) for leak in leaks}

    def _say(self, leak: Leak) -> None:
        place = (
            f"; taken at {leak.place}" if leak.place else " (DUALFACE_DEBUG_LEASES=1 says where)"
        )
        log_event(
            "slot_leaked",
            f"a {leak.size_class} slot has been held by {leak.label} for {leak.age_s:.0f} s, "
            f"longer than any request takes: a bug{place}",
            level=logging.WARNING,
        )
