"""Ends a run whose embedded server's memory pools have run dry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dualface_client.errors import DualfaceError
from dualface_client.observe.run_state import RunState
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.log_lines import LogFile
from dualface_client.triton.pool_guard import Fallback, PoolGuard


@contextmanager
def ending_at_pool_fault(
    server: EmbeddedServer | None,
    end: Callable[[DualfaceError], None],
    tell: Callable[[str], None],
    state: RunState,
    *,
    gpu: bool,
) -> Iterator[None]:
    """Follows the server's log while its body runs.

    At the first fault the server's streams are to end, because further answers from it would be
    slow or wrong. A stream that was already done stays done: it may have used
    such answers too, but slow ones are right, and lost ones fail their own request
    (`triton.answers`).

    Args:
        server: The embedded server, None for another one, whose log we cannot read.
        end: Called at the first fault, on another thread.
        tell: Gets a line for the user.
        state: Told about every kind of fallback, for its health page.
        gpu: Whether the server has a GPU.
    """
    if server is None:
        yield
        return

    def on_fallback(fallback: Fallback) -> None:
        error = fallback.error()
        tell(f"{'error' if fallback.form.is_fault else 'note'}: {error}")
        if fallback.form.is_fault:
            end(error)
            state.set_pool({fallback.form.kind: 1}, str(error))

    with PoolGuard(LogFile(server.log_path), on_fallback, gpu=gpu) as guard:
        try:
            yield
        finally:
            guard.close()
            state.set_pool(guard.counts, str(guard.fault.error()) if guard.fault else "")
