"""Something done repeatedly on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from dualface_client.closing import ClosesAtExit


def _nothing() -> None:
    """Does nothing."""


class BackgroundLoop(ClosesAtExit):
    """Calls a step repeatedly, from construction until it is closed.

    A subclass constructs this last, because the thread starts here. The thread is a daemon, so a
    step that hangs does not keep the process alive.

    Args:
        step: One round. Returns False to end the loop, even without the call of `once_more`.
        name: Of the thread.
        period_s: Pause between two calls.
        at_once: Whether the first call comes at once, or after a pause.
        once_more: Whether closing leads to one more call, which sees what happened last.
        at_end: Called on the thread after the last call, however that ended.
        failed: Called on the thread with what `step` or `at_end` raised, which ends the loop; None
            lets `close` raise it.
        join_limit_s: How long `close` waits for a call that is under way; None for no limit.

    Attributes:
        period_s: As above; the step may change it.
    """

    def __init__(
        self,
        step: Callable[[], bool | None],
        *,
        name: str,
        period_s: float,
        at_once: bool = False,
        once_more: bool = False,
        at_end: Callable[[], None] = _nothing,
        failed: Callable[[Exception], None] | None = None,
        join_limit_s: float | None = 5.0,
    ) -> None:
        self.period_s = period_s
        self._step = step
        self._at_once = at_once
        self._once_more = once_more
        self._at_end = at_end
        self._failed = failed or self._keep
        self._join_limit_s = join_limit_s
        self._error: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether no call is under way and none will come."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Ends the loop and waits for a call that is under way; safe to call twice.

        Raises:
            Exception: What ended the loop, once, unless `failed` got it.
        """
        self._closing.set()
        self._thread.join(self._join_limit_s)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            try:
                for _ in self._rounds():
                    if self._step() is False:
                        break
            finally:
                self._at_end()
        except Exception as error:  # `failed` gets it, or whoever closes the loop
            self._failed(error)

    def _rounds(self) -> Iterator[None]:
        if self._at_once:
            yield
        while not self._closing.wait(self.period_s):
            yield
        if self._once_more:
            yield

    def _keep(self, error: Exception) -> None:
        self._error = error
