"""How long a supervisor waits for its workers, and the end of those that say nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from dualface_client.observe.run_log import log_event
from dualface_client.workers.link import WorkerLink

#: If more than this share of the silence limit passes between two checks, the supervisor was
#: paused.
_PAUSED_SHARE = 1 / 6


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits, and for what.

    Attributes:
        backoff_s: Before the first restart of a worker; doubles each time.
        backoff_limit_s: Longest such wait.
        silence_s: A worker that says nothing for this long is killed.
        start_s: The same until it has its session.
        stop_s: After a stop, workers have this long to finish their files.
        forgive_s: In a fleet, a stream under which a worker died is no longer suspected after it
            has run for this long; nor is the place where it failed.
        avoid_s: In a fleet, a stream is started elsewhere, if there is room, for this long after it
            failed at a place.
    """

    backoff_s: float = 0.5
    backoff_limit_s: float = 30.0
    silence_s: float = 30.0
    start_s: float = 120.0
    stop_s: float = 8.0
    forgive_s: float = 60.0
    avoid_s: float = 600.0


class SilenceMonitor:
    """Kills workers that say nothing; time in which the supervisor was paused does not count.

    Args:
        patience: Waiting times.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._looked_s = time.monotonic()

    def kill_silent(self, links: Iterable[WorkerLink], now_s: float | None = None) -> None:
        """Checks once; call it several times a second.

        Args:
            links: The workers that run.
            now_s: Monotonic time, None for now.
        """
        now_s = time.monotonic() if now_s is None else now_s
        unseen_s = now_s - self._looked_s
        self._looked_s = now_s
        for link in links:
            if unseen_s > self._patience.silence_s * _PAUSED_SHARE:
                link.heard_s = min(now_s, link.heard_s + unseen_s)
            limit_s = self._patience.silence_s if link.ready else self._patience.start_s
            if now_s - link.heard_s > limit_s and link.process.poll() is None:
                _kill(link, limit_s)
                link.heard_s = now_s


def _kill(link: WorkerLink, limit_s: float) -> None:
    log_event(
        "worker_silent",
        f"worker {link.number} said nothing for {limit_s:g} s and was killed",
        level=logging.WARNING,
        worker=link.number,
    )
    link.kill()
