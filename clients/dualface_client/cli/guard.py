"""`dualface-client guard`: watch a server's log for memory pools that have run dry."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from dualface_client import __version__
from dualface_client.cli.signals import stop_on_signal
from dualface_client.errors import UsageError
from dualface_client.observe.health import HealthServer
from dualface_client.observe.run_state import RunState
from dualface_client.triton.log_lines import LogFile, LogPipe
from dualface_client.triton.pool_guard import Fallback, Log, PoolGuard

_SERVER_FAILED = 3
_POLL_S = 0.25


@click.command(
    epilog="""
\b
Examples:
  docker compose logs -f --no-log-prefix triton | dualface-client guard --log -
  dualface-client guard --log /var/log/triton.log --health-port 9101
  dualface-client guard --log /var/log/triton.log --once
"""
)
@click.option("--log", required=True, metavar="FILE|-", help="Triton's log; - is standard input.")
@click.option("--once", is_flag=True, help="Read what is there and exit, for health checks.")
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Answer /healthz (503 after a fault) and /metrics on 127.0.0.1.",
)
@click.option("--no-gpu", is_flag=True, help="The server has no GPU: no pinned pool is no fault.")
def guard(log: str, once: bool, health_port: int | None, no_gpu: bool) -> int:
    """Alert when Triton's memory pools have run dry.

    Triton then continues with slower memory, or with wrong answers, and logs only one line. Ends
    with the log or with Ctrl-C: exit code 3 if there was such a line, else 0.
    """
    source = _source(log, once=once)
    once = once and log != "-"  # a pipe is read to its end anyway
    state = RunState(__version__, ())
    state.set_phase("running")
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal(lambda text: None, lambda: None))
        if health_port is not None:
            health = stack.enter_context(HealthServer(state, port=health_port))
            click.echo(f"/healthz and /metrics on http://{health.address}", err=True)
        pool_guard = stack.enter_context(PoolGuard(source, _say, gpu=not no_gpu))
        while not (once or pool_guard.ended):
            if stop.event.wait(_POLL_S):
                break
            _tell(state, pool_guard)
        pool_guard.close()
        _tell(state, pool_guard)
    return _SERVER_FAILED if pool_guard.fault else 0


def _source(log: str, *, once: bool) -> Log:
    if log == "-":
        return LogPipe(sys.stdin.fileno())
    path = Path(log)
    if once and not path.is_file():
        raise UsageError(f"--log {log}: no such file; Triton's output must be written there")
    if not path.exists():
        click.echo(f"--log {log}: no such file yet; waiting for it to appear", err=True)
    return LogFile(path)


def _say(fallback: Fallback) -> None:
    word = "error" if fallback.form.is_fault else "note"
    click.echo(f"{word}: {fallback.error()}", err=True)


def _tell(state: RunState, pool_guard: PoolGuard) -> None:
    state.set_pool(pool_guard.counts, str(pool_guard.fault.error()) if pool_guard.fault else "")
