"""What a writer does on a full disk: waits for space for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dualface_client.video.ffmpeg import NO_SPACE

_POLL_S = 0.25


def nobody(full: bool) -> None:
    """Tells nobody."""


class DiskWait:
    """Patience with a full disk, of one output.

    Args:
        limit_s: How long to wait for space before giving up; 0 gives up at once. Starts again after
            every write that succeeds.
        stop: Set from outside to end the wait, None for never.
        tell: Called with True when a wait begins and with False when there is space again.
        errnos: Failures of a write that are worth a wait.
    """

    def __init__(
        self,
        limit_s: float = 0.0,
        stop: threading.Event | None = None,
        tell: Callable[[bool], None] = nobody,
        errnos: frozenset[int] = NO_SPACE,
    ) -> None:
        self._limit_s = limit_s
        self._stop = stop or threading.Event()
        self._tell = tell
        self._errnos = errnos
        self._until_s: float | None = None

    def wait(self, error: OSError) -> bool:
        """A write failed: waits a moment, if it failed for lack of space.

        Args:
            error: Of the write.

        Returns:
            Whether to try again.
        """
        now_s = time.monotonic()
        if error.errno not in self._errnos or self._limit_s <= 0 or self._stop.is_set():
            return False
        if self._until_s is None:
            self._until_s = now_s + self._limit_s
            self._tell(True)
        if now_s >= self._until_s:
            return False
        return not self._stop.wait(_POLL_S)

    def succeeded(self) -> None:
        """A write succeeded."""
        if self._until_s is not None:
            self._until_s = None
            self._tell(False)
