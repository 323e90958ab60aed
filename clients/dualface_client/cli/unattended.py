"""What a run tells besides its videos: progress, logs, state, health, report."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import click
from rich.console import Console

from dualface_client import __version__
from dualface_client.cli.unattended_options import Unattended
from dualface_client.errors import DualfaceError
from dualface_client.observe.health import HealthServer
from dualface_client.observe.html import RunRecord, write_html
from dualface_client.observe.progress import ProgressDisplay, result_lines
from dualface_client.observe.report import RunSummary, StreamReport, StreamStatus
from dualface_client.observe.run_log import EventRecorder, log_event, run_log
from dualface_client.observe.run_state import RunState, hearing_of_server
from dualface_client.observe.samples import Sampler
from dualface_client.observe.state_file import StateFile, read_state
from dualface_client.observe.stream_events import StreamEvents
from dualface_client.observe.watch import Alert
from dualface_client.pipeline.record import pictures_of


class RunWatch:
    """Tells the user, the log, the state file and the report about one run.

    Attributes:
        state: Where the run stands.
    """

    def __init__(
        self, chosen: Unattended, console: Console, state: RunState, recorder: EventRecorder
    ) -> None:
        self.state = state
        self._chosen = chosen
        self._console = console
        self._recorder = recorder
        self._server_pid: Callable[[], int] | None = None
        self._sampler: Sampler | None = None
        self._started_unix_s = time.time()

    def say(self, event: str, text: str, level: int = logging.INFO) -> None:
        """One line for the user: on the console, or in the JSON log."""
        if self._chosen.log_format == "text" and level < logging.WARNING:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        log_event(event, text, level=level)

    def alert(self, alert: Alert) -> None:
        """The hardware monitor has seen something, or its end."""
        level = logging.INFO if alert.is_over else logging.WARNING
        self.say("hardware_alert", str(alert), level)

    def stopping(self, text: str) -> None:
        """A signal asked for the end."""
        self.state.set_phase("stopping")
        self.say("stopping", text)

    def say_end(self, text: str, **figures: Any) -> None:
        """The run in a line; on the console where there were several videos."""
        if len(self.state.as_dict()["streams"]) > 1 and self._chosen.log_format == "text":
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        log_event("run_ended", text, **figures)

    def say_failed(self, report: StreamReport) -> None:
        """A failure on a quiet console; the JSON log has it already."""
        if self._chosen.log_format == "text":
            click.echo("\n".join(result_lines(report)), err=True)

    def fail(self, error: DualfaceError) -> None:
        """The run could not be done at all.

        Raises:
            DualfaceError: Again, where people read; the JSON log tells it by itself.
        """
        if self._chosen.log_format == "text":
            raise error
        log_event("run_failed", str(error), level=logging.ERROR, exit_code=error.exit_code)

    def end(self) -> None:
        """All streams have ended: no more samples, and the state says so."""
        self.state.set_phase("ended")
        if self._sampler is not None:
            self._sampler.close()

    @property
    def server(self) -> str:
        """Address of the server, and whether it is embedded."""
        return str(self.state.as_dict()["server"])

    def display(self, statuses: Sequence[StreamStatus]) -> AbstractContextManager[object]:
        """Progress for people, or stream events for machines."""
        if self._chosen.log_format == "json":
            return StreamEvents(statuses)
        return ProgressDisplay(statuses, self._console, quiet=self._console.quiet)

    def serves(self, address: str, pid: Callable[[], int] | None) -> None:
        """The server is there and the streams start; gives its pid where it is ours."""
        self._server_pid = pid
        self.state.set_server(f"{address} (embedded)" if pid else address)
        self.state.set_phase("running")

    def processes(self) -> dict[str, int]:
        """The run's processes by name."""
        server = {"server": self._server_pid()} if self._server_pid else {}
        workers = self.state.as_dict()["workers"]
        return {
            "client": os.getpid(),
            **server,
            **{f"worker {worker['number']}": worker["pid"] for worker in workers if worker["pid"]},
        }

    def sample(self, statuses: Sequence[StreamStatus]) -> AbstractContextManager[object]:
        """Collects figures for the report while the body runs, where one was asked for."""
        if self._chosen.report is None:
            return ExitStack()
        self._sampler = Sampler(statuses, self.processes)
        return self._sampler

    def write_report(self, summary: RunSummary) -> None:
        """Writes the HTML report where one was asked for.

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
def watched_run(
    chosen: Unattended,
    statuses: Sequence[StreamStatus],
    console: Console,
    inputs: dict[str, dict[str, Any]],
    server_wait_s: float,
) -> Iterator[RunWatch]:
    """Logs, writes the state and answers health checks while its body runs.

    Args:
        chosen: What was asked for.
        statuses: Of the streams.
        console: Where text goes.
        inputs: What the state file says of each input, by stream name.
        server_wait_s: How long a server that went away is awaited.

    Raises:
        UsageError: The health page's address is taken.
        SinkError: The state file cannot be written.
    """

    def write(line: str) -> None:
        if chosen.log_format == "json":
            click.echo(line, err=True)
        else:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    state = RunState(__version__, statuses, inputs)
    with ExitStack() as stack:
        recorder = stack.enter_context(run_log(chosen.log_format, write))
        stack.enter_context(hearing_of_server(state, server_wait_s))
        watch = RunWatch(chosen, console, state, recorder)
        if chosen.state is not None:
            stack.enter_context(StateFile(chosen.state, state))
        if chosen.health_port is not None:
            page = HealthServer(state, chosen.health_host, chosen.health_port)
            stack.enter_context(page)
            watch.say("health_page", f"health: http://{page.address}/healthz")
        stack.callback(state.set_phase, "ended")
        stack.enter_context(watch.sample(statuses))
        yield watch


def check_unattended(chosen: Unattended) -> None:
    """Refuses to replace a file that is no state file.

    Raises:
        UsageError: It is another one.
    """
    if chosen.state is not None:
        read_state(chosen.state)
