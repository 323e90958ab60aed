"""Options for runs that nobody watches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dualface_client.cli.options import FILE_TO_WRITE
from dualface_client.memory.vram import DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class Unattended:
    """What the user asked for.

    Attributes:
        workers: Processes that run streams; 0 lets the program decide.
        resume: Skip videos whose outputs are finished and verified.
        state: State file.
        report: HTML report.
        health_port: Port of the health page, None for no page.
        health_host: Address that it listens on.
        log_format: `text` or `json`.
        vram_limit: Share of the GPU's memory that all its users together may take.
        on_oom: `refuse` or `queue` what does not fit there.
    """

    workers: int = 1
    resume: bool = False
    state: Path | None = None
    report: Path | None = None
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    log_format: str = "text"
    vram_limit: float = DEFAULT_LIMIT
    on_oom: str = "refuse"

    def workers_for(self, streams: int, videos: int) -> int:
        """Worker processes for so many streams at a time: about four in each, where not said."""
        wanted = self.workers or max(1, -(-min(streams, videos) // _STREAMS_PER_WORKER))
        return max(1, min(wanted, videos))


#: Measured on an H200: more streams in one process lose speed to Python's lock.
_STREAMS_PER_WORKER = 4


def unattended_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them as `unattended`."""

    @functools.wraps(command)
    def with_unattended(**kwargs: Any) -> Any:
        names = set(Unattended.__dataclass_fields__) - {"workers"}  # a setting of the table
        chosen = {name: kwargs.pop(name) for name in names}
        return command(unattended=Unattended(**chosen), **kwargs)

    decorated: Callable[..., Any] = with_unattended
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_OPTIONS = (
    click.option(
        "--resume",
        is_flag=True,
        help="Skip videos whose outputs exist and are verified; see --state.",
    ),
    click.option("--state", type=FILE_TO_WRITE, help="JSON with the run's state, always whole."),
    click.option(
        "--report", type=FILE_TO_WRITE, help="HTML page about the run, complete in itself."
    ),
    click.option(
        "--health-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Answer /healthz, /readyz and /metrics; 0 picks a free port.",
    ),
    click.option(
        "--health-host",
        default="127.0.0.1",
        show_default=True,
        metavar="HOST",
        help="Address that the health page listens on.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json writes one object per event instead of progress.",
    ),
    click.option(
        "--vram-limit",
        type=click.FloatRange(0.0, 1.0, min_open=True),
        default=DEFAULT_LIMIT,
        show_default=True,
        metavar="SHARE",
        help="Share of the GPU's memory that server, streams and others may take together.",
    ),
    click.option(
        "--on-oom",
        type=click.Choice(["refuse", "queue"]),
        default="refuse",
        show_default=True,
        help="What becomes of videos that do not fit there: an error by name before any starts, "
        "or fewer at a time.",
    ),
)
