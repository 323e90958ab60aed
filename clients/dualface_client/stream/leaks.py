"""Says while a worker runs that a slot is out for longer than any request can take."""

from __future__ import annotations

import logging
import threading

from dualface_client.closing import ClosesAtExit
from dualface_client.memory.figures import Leak
from dualface_client.memory.slots import SlotPool
from dualface_client.observe.run_log import log_event

_LOOK_S = 5.0


class LeakMonitor(ClosesAtExit):
    """Looks from a thread of its own until it is closed; a context manager.

    Each leak is said once. Quarantined slots are no leaks: they are kept on purpose, and their
    request has said why.

    Args:
        pool: The worker's slots.
        limit_s: No lease lasts longer, seconds.
        look_s: Between two looks.
    """

    def __init__(self, pool: SlotPool, limit_s: float, look_s: float = _LOOK_S) -> None:
        self._pool = pool
        self._limit_s = limit_s
        self._look_s = look_s
        self._said: set[tuple[int, str]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="leak monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends; safe to call twice."""
        self._stop.set()
        self._thread.join(5.0)

    def _look(self) -> None:
        while not self._stop.wait(self._look_s):
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
            f"a {leak.size_class} slot is held by {leak.label} for {leak.age_s:.0f} s already, "
            f"longer than any request takes: a bug{place}",
            level=logging.WARNING,
        )
