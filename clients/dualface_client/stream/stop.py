"""Whether streams should end early, and why."""

from __future__ import annotations

import threading

from dualface_client.errors import DualfaceError


class Stop:
    """Asked for at most once: the first reason counts.

    Attributes:
        event: Set when streams should end, for code that only waits.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._lock = threading.Lock()
        self._error: DualfaceError | None = None

    def ask(self, error: DualfaceError | None = None) -> None:
        """Ends the streams.

        Args:
            error: What makes continuing pointless; None if somebody wants to stop.
        """
        with self._lock:
            if not self.event.is_set():
                self._error = error
                self.event.set()

    @property
    def is_asked(self) -> bool:
        """Whether streams should end."""
        return self.event.is_set()

    @property
    def error(self) -> DualfaceError | None:
        """What makes continuing pointless; None if nothing does, or somebody wants to stop."""
        with self._lock:
            return self._error
