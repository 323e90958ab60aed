"""How long to wait before trying something that keeps failing again."""

from __future__ import annotations

import math


class Backoff:
    """Pauses that grow with every failure in a row.

    >>> backoff = Backoff(0.25, 8.0, retried_at_once=1)
    >>> for _ in range(4):
    ...     backoff.fail()
    ...     print(backoff.failures, backoff.pause_s)
    1 0.0
    2 0.25
    3 0.5
    4 1.0

    Args:
        first_s: The first pause, seconds.
        limit_s: The longest pause.
        factor: How many times as long each pause is as the one before.
        retried_at_once: How many failures in a row bring no pause yet.

    Attributes:
        failures: In a row.
    """

    def __init__(
        self,
        first_s: float,
        limit_s: float = math.inf,
        *,
        factor: float = 2.0,
        retried_at_once: int = 0,
    ) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._factor = factor
        self._retried_at_once = retried_at_once
        self.failures = 0
        self._pause_s = 0.0

    @property
    def pause_s(self) -> float:
        """How long to wait before the next attempt, seconds; 0 if nothing has failed."""
        return self._pause_s

    def fail(self) -> None:
        """Counts a failure; the pause grows."""
        self.failures += 1
        if self.failures > self._retried_at_once:
            self._pause_s = min(self._pause_s * self._factor or self._first_s, self._limit_s)

    def reset(self) -> None:
        """Forgets the failures, once something has succeeded."""
        self.failures = 0
        self._pause_s = 0.0
