"""Options for runs that nobody watches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from dualface_client.cli.options import FILE_TO_WRITE
from dualface_client.settings.machine import ProgramSettings, WorkSettings


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
    vram_limit: float = WorkSettings().vram_limit
    on_oom: str = "refuse"

    def with_settings(self, program: ProgramSettings) -> Unattended:
        """The same with what the table of settings says."""
        return replace(
            self,
            workers=program.run.workers or 0,
            vram_limit=program.run.vram_limit,
            on_oom=program.run.on_oom,
            log_format=program.record.log_format,
            health_port=program.record.health_port,
            health_host=program.record.health_host,
        )

    def workers_for(self, streams: int, videos: int) -> int:
        """Worker processes for so many streams at a time: about four in each, where not said."""
        wanted = self.workers or max(1, -(-min(streams, videos) // _STREAMS_PER_WORKER))
        return max(1, min(wanted, videos))


#: Measured on an H200: more streams in one process lose speed to Python's lock.
_STREAMS_PER_WORKER = 4


def unattended_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them as `unattended`, see `with_settings` for the rest."""

    @functools.wraps(command)
    def with_unattended(**kwargs: Any) -> Any:
        chosen = {name: kwargs.pop(name) for name in ("resume", "state", "report")}
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
)
