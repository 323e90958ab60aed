"""Ends a run whose embedded server's memory pools have run dry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dualface_client.observe.report import StreamStatus
from dualface_client.observe.run_state import RunState
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.log_lines import LogFile
from dualface_client.triton.pool_guard import Fallback, PoolGuard


@contextmanager
def ending_at_pool_fault(
    server: EmbeddedServer | None,
    statuses: Sequence[StreamStatus],
    stop: threading.Event,
    tell: Callable[[str], None],
    state: RunState,
    *,
    gpu: bool,
) -> Iterator[None]:
    """Follows the server's log while its body runs.

    At the first fault the streams are stopped, and those that have not ended have failed by it:
    what they would still get from the server is slow or wrong.

    Args:
        server: The embedded server, None for somebody else's, whose log is not ours to read.
        statuses: Of the run's streams.
        stop: Set at the first fault.
        tell: Gets a line for the user.
        state: Told of every kind of fallback, for its health page.
        gpu: Whether the server has a GPU.
    """
    if server is None:
        yield
        return

    def on_fallback(fallback: Fallback) -> None:
        tell(f"{'error' if fallback.form.is_fault else 'note'}: {fallback.error()}")
        if fallback.form.is_fault:
            stop.set()
            state.set_pool({fallback.form.kind: 1}, str(fallback.error()))

    with PoolGuard(LogFile(server.log_path), on_fallback, gpu=gpu) as guard:
        try:
            yield
        finally:
            guard.close()
            state.set_pool(guard.counts, str(guard.fault.error()) if guard.fault else "")
            if guard.fault is not None:
                _fail(statuses, str(guard.fault.error()))


def _fail(statuses: Sequence[StreamStatus], error: str) -> None:
    for status in statuses:
        # A stream that was done when the fault came may have used its answers too, but late is
        # not wrong: lost answers fail their own request (`triton.answers`).
        if status.snapshot().state in ("waiting", "running", "stopped"):
            status.update(state="failed", error=error, error_is_servers=True)
