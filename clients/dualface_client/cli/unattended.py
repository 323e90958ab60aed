"""What a run reports besides its videos: progress, logs, state, health, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dualface_client.batch.listener import Listener
from dualface_client.batch.pictures import pictures_of
from dualface_client.batch.run import Run
from dualface_client.batch.shards import Shard
from dualface_client.cli.downloads import download_bar
from dualface_client.errors import DualfaceError
from dualface_client.observe.health import HealthServer
from dualface_client.observe.html import RunRecord, write_html
from dualface_client.observe.progress import ProgressDisplay, print_plainly, result_lines
from dualface_client.observe.report import RunSummary, StreamReport, StreamStatus
from dualface_client.observe.run_log import EventRecorder, log_event, run_log
from dualface_client.observe.samples import Sampler
from dualface_client.observe.state_file import StateFile
from dualface_client.observe.stream_events import StreamEvents


@dataclass(frozen=True, slots=True)
class Telling:
    """What a run shows, and leaves behind besides its videos.

    Attributes:
        summary: File for the JSON summary.
        report: HTML report.
        state: State file.
        quiet: Say only errors.
        verbose: Say figures of the tracking too.
        log_format: `text` or `json`.
        health_port: Port of the health page, None for no page.
        health_host: Address that it listens on.
    """

    summary: Path | None
    report: Path | None
    state: Path | None
    quiet: bool
    verbose: bool
    log_format: str
    health_port: int | None
    health_host: str

    def of_shard(self, shard: Shard | None) -> Telling:
        """With names of its own for one of several runs that are given the same names."""
        if shard is None:
            return self
        return replace(
            self,
            summary=self.summary and shard.own(self.summary),
            report=self.report and shard.own(self.report),
            state=self.state and shard.own(self.state),
        )


class RunPresenter(Listener):
    """Tells the user, the log, the state file and the report about one run."""

    def __init__(
        self, chosen: Telling, console: Console, run: Run, recorder: EventRecorder
    ) -> None:
        self._run = run
        self._chosen = chosen
        self._console = console
        self._recorder = recorder
        self._sampler: Sampler | None = None
        self._started_unix_s = time.time()

    def say(self, event: str, text: str, level: int = logging.INFO) -> None:
        """One line for the user: on the console, or in the JSON log."""
        if self._chosen.log_format == "text" and level < logging.WARNING:
            print_plainly(self._console, text)
        log_event(event, text, level=level)

    def stopping(self, text: str) -> None:
        """A signal asked for a stop."""
        self._run.state.set_phase("stopping")
        self.say("stopping", text)

    def say_end(self, text: str, **figures: Any) -> None:
        """The run in one line; on the console only if there were several videos."""
        if len(self._run.jobs) > 1 and self._chosen.log_format == "text":
            print_plainly(self._console, text)
        log_event("run_ended", text, **figures)

    def say_failed(self, report: StreamReport) -> None:
        """A failure on a quiet console; the JSON log already has it."""
        if self._chosen.log_format == "text":
            click.echo("\n".join(result_lines(report)), err=True)

    def fail(self, error: DualfaceError) -> None:
        """The run could not be carried out.

        Raises:
            DualfaceError: The same one, for people to read; the JSON log has it already.
        """
        if self._chosen.log_format == "text":
            raise error
        log_event("run_failed", str(error), level=logging.ERROR, exit_code=error.exit_code)

    def end(self) -> None:
        """All streams have ended: takes no more samples and writes that into the state."""
        self._run.state.set_phase("ended")
        if self._sampler is not None:
            self._sampler.close()

    def display(self, statuses: Sequence[StreamStatus]) -> AbstractContextManager[object]:
        """Progress for people, or stream events for machines."""
        if self._chosen.log_format == "json":
            return StreamEvents(statuses)
        verbose = self._chosen.verbose
        return ProgressDisplay(statuses, self._console, quiet=self._console.quiet, verbose=verbose)

    def download(
        self, what: str, size_bytes: int, so_far_bytes: Callable[[], int]
    ) -> AbstractContextManager[object]:
        """A bar on a terminal."""
        return download_bar(self._console, what, size_bytes, so_far_bytes)

    def sample(self) -> AbstractContextManager[object]:
        """Collects figures for the report, if one was asked for, while the body runs."""
        if self._chosen.report is None:
            return ExitStack()
        self._sampler = Sampler(self._run.statuses, self._run.processes)
        return self._sampler

    def write_report(self, summary: RunSummary) -> None:
        """Writes the HTML report if one was asked for.

        Raises:
            SinkError: It cannot be written.
        """
        if self._chosen.report is None:
            return
        record = RunRecord(
            summary,
            self._sampler.samples if self._sampler else (),
            self._recorder.events,
            {report.name: pictures_of(report) for report in summary.streams},
            self._started_unix_s,
        )
        write_html(record, self._chosen.report)
        self.say("report_written", f"report: {self._chosen.report}")


@contextmanager
def presented_run(chosen: Telling, run: Run, console: Console) -> Iterator[RunPresenter]:
    """Logs, writes the state and answers health checks while its body runs.

    Args:
        chosen: What was asked for.
        run: What is presented.
        console: Where text goes.

    Raises:
        UsageError: The health page's address is taken.
        SinkError: The state file cannot be written.
    """

    def write(line: str) -> None:
        if chosen.log_format == "json":
            click.echo(line, err=True)
        else:
            print_plainly(console, line)

    with ExitStack() as stack:
        recorder = stack.enter_context(run_log(chosen.log_format, write))
        presenter = RunPresenter(chosen, console, run, recorder)
        if chosen.state is not None:
            stack.enter_context(StateFile(chosen.state, run.state))
        if chosen.health_port is not None:
            page = HealthServer(run.state, chosen.health_host, chosen.health_port)
            stack.enter_context(page)
            presenter.say("health_page", f"health: http://{page.address}/healthz")
        stack.callback(run.state.set_phase, "ended")
        stack.enter_context(presenter.sample())
        yield presenter
