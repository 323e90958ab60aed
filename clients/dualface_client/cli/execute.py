"""What `dualface-client run` shows and leaves of a run; the run itself is `batch`'s."""

from __future__ import annotations

import time
from dataclasses import replace

from rich.console import Console

from dualface_client.batch.execute import carry_out
from dualface_client.batch.outputs import SideFile
from dualface_client.batch.prepare import prepare_run
from dualface_client.batch.run import Run, RunRequest
from dualface_client.batch.shards import read_states
from dualface_client.cli.run_end import exit_code, say_end
from dualface_client.cli.signals import StopRequest, stop_on_signal
from dualface_client.cli.unattended import RunPresenter, Telling, presented_run
from dualface_client.cluster.run import carry_out_on_cluster
from dualface_client.errors import DualfaceError
from dualface_client.observe.report import RunSummary
from dualface_client.triton.reaper import unlink_own_shared_memory


def execute(request: RunRequest, telling: Telling, cluster: str | None = None) -> int:
    """Runs a request.

    Args:
        request: What is to be done.
        telling: What the run shows and leaves behind.
        cluster: Address of the Ray cluster that does it, None for this machine.

    Returns:
        The exit code.

    Raises:
        UsageError: The request cannot be carried out as it stands; nothing was started.
        DualfaceError: The server could not be reached, or the summary could not be written.
    """
    started = time.monotonic()
    console = Console(stderr=True, quiet=telling.quiet or telling.log_format == "json")
    # Read without --resume too, so that a file that is not a state file is not replaced.
    recorded = read_states(telling.state) if telling.state is not None else {}
    request = replace(request, recorded=recorded)
    telling = telling.of_shard(request.shard)
    run = prepare_run(request, _side_files(telling, request), elsewhere=cluster is not None)
    with presented_run(telling, run, console) as presenter:
        for note in run.notes:
            presenter.say("note", f"note: {note}")
        try:
            with stop_on_signal(presenter.stopping, unlink_own_shared_memory) as stop:
                failure = _try_streams(run, presenter, stop, cluster)
            summary = run.summary(time.monotonic() - started)
            if failure is None:
                say_end(summary, presenter, quiet=telling.quiet)
            _write_end(summary, telling, presenter)
            if failure is not None:
                raise failure
        except DualfaceError as error:
            presenter.fail(error)
            return error.exit_code
    return stop.exit_code or exit_code(summary.streams)


def _side_files(telling: Telling, request: RunRequest) -> list[SideFile]:
    again = request.program.stream.output.overwrite or request.resume
    files = (
        ("--summary", "the summary", telling.summary, again),
        ("--report", "the report", telling.report, again),
        ("--state", "the state", telling.state, True),
    )
    return [SideFile(option, what, path, may) for option, what, path, may in files if path]


def _try_streams(
    run: Run, presenter: RunPresenter, stop: StopRequest, cluster: str | None
) -> DualfaceError | None:
    """Runs the streams; returns why they could not even be started."""
    try:
        if cluster is None:
            carry_out(run, stop, presenter)
        else:
            carry_out_on_cluster(cluster, run, stop, presenter)
    except DualfaceError as error:
        return error
    return None


def _write_end(summary: RunSummary, telling: Telling, presenter: RunPresenter) -> None:
    presenter.end()
    if telling.summary is not None:
        summary.write(telling.summary)
    presenter.write_report(summary)
