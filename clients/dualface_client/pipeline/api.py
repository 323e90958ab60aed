"""The main job as one call, for programs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from os import PathLike

from dualface_client.errors import StoppedError
from dualface_client.observe.report import StreamReport
from dualface_client.pipeline.cpu_device import CpuDevice
from dualface_client.pipeline.jobs import plan_jobs
from dualface_client.pipeline.outputs import check_outputs, new_directories
from dualface_client.pipeline.runner import fail_unstarted, new_statuses
from dualface_client.pipeline.server import ServerChoice, server_for
from dualface_client.pipeline.worker import run_worker
from dualface_client.settings.run import RunSettings
from dualface_client.triton.access import OPEN_ACCESS


def process(
    inputs: Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    server: str | None = None,
    settings: RunSettings | None = None,
    streams: int = 1,
    stop: threading.Event | None = None,
) -> tuple[StreamReport, ...]:
    """Turns each video into one with its two people side by side.

    Args:
        inputs: Files, directories or glob patterns.
        output: A file (for one video) or a directory.
        server: `HOST:PORT` of a running Triton; None starts the embedded one and stops it.
        settings: How to process; None for the defaults.
        streams: Videos processed at a time.
        stop: Set it from another thread to end early, as Ctrl-C does here; partial outputs stay
            playable.

    Returns:
        One report per video, in order. A video that failed says why in `error`; it raises nothing.

    Raises:
        UsageError: The outputs cannot be laid out as asked, exist or cannot be written; nothing was
            started.
        ServerError: The server cannot be had or is not the right one.
        AssetError: The embedded server's models or binary are missing.
    """
    settings = settings or RunSettings()
    jobs = plan_jobs([str(path) for path in inputs], str(output))
    with new_directories(jobs):
        check_outputs(jobs, settings)
    statuses = new_statuses(jobs)
    stop = stop or threading.Event()
    try:
        with server_for(ServerChoice(server), stop) as (address, embedded):
            run_worker(
                address,
                CpuDevice(),
                jobs,
                statuses,
                settings,
                stop,
                streams=streams,
                access=OPEN_ACCESS if embedded else None,
            )
    except StoppedError as error:
        fail_unstarted(statuses, error)
    return tuple(status.snapshot() for status in statuses)
