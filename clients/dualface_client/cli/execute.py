"""What `dualface-client run` does once its options are read."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dualface_client import __version__
from dualface_client.cli.run_end import exit_code, plain_regions, say_end, warn_of_leaks
from dualface_client.cli.signals import StopRequest, stop_on_signal
from dualface_client.cli.unattended import RunWatch, check_unattended, watched_run
from dualface_client.cli.unattended_options import Unattended
from dualface_client.errors import DualfaceError, PlatformError, StoppedError
from dualface_client.memory.figures import PoolReport
from dualface_client.memory.vram import NVDEC_CONTEXT_BYTES, WORKER_BYTES
from dualface_client.observe.hardware import HardwareMonitor
from dualface_client.observe.memory_peak import MemoryPeak
from dualface_client.observe.report import (
    FINAL_STATES,
    RunSummary,
    StreamStatus,
)
from dualface_client.observe.state_file import read_state
from dualface_client.pipeline.admission import (
    VramLimit,
    admit_streams,
    card_of,
    guarded,
    load_of,
    needs_of,
)
from dualface_client.pipeline.devices import make_device
from dualface_client.pipeline.jobs import Job, plan_jobs
from dualface_client.pipeline.outputs import (
    SideFile,
    check_outputs,
    check_per_video,
    check_side_files,
    new_directories,
    overlay_files,
)
from dualface_client.pipeline.pool_watch import watched_pools
from dualface_client.pipeline.resume import identities, skip_finished
from dualface_client.pipeline.runner import fail_unstarted, new_statuses
from dualface_client.pipeline.server import ServerChoice, reap_at, server_for
from dualface_client.pipeline.stream_jobs import plan_streams
from dualface_client.pipeline.supervisor import Supervisor
from dualface_client.pipeline.worker import run_worker
from dualface_client.pipeline.worker_process import WorkerSetup
from dualface_client.settings.machine import MonitorSettings
from dualface_client.settings.run import RunSettings
from dualface_client.settings.streams import StreamEntry
from dualface_client.triton.access import OPEN_ACCESS
from dualface_client.triton.reaper import reap_shared_memory, unlink_own_shared_memory

__all__ = ["RunRequest", "ServerChoice", "execute"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the user asked for, beyond the settings.

    Attributes:
        inputs: Videos, directories, patterns.
        output: File or directory, None to write nothing.
        entries: Streams of a file, instead of the two.
        choice: Which server; its device may still be `auto`.
        streams: How many run at a time.
        tracks: File or directory for tracks.
        summary: File for the JSON summary.
        quiet: Say nothing but errors.
        unattended: Workers, state, health, logs, report.
        monitor: What the hardware monitor watches.
        batch_is_auto: Whether the device decides how many frames a request has.
        overlay: File or directory for debug overlays.
    """

    inputs: tuple[str, ...]
    output: str | None
    entries: tuple[StreamEntry, ...]
    choice: ServerChoice
    streams: int
    tracks: Path | None
    summary: Path | None
    quiet: bool
    unattended: Unattended = field(default_factory=Unattended)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    batch_is_auto: bool = True
    overlay: Path | None = None


@dataclass(slots=True)
class _Run:
    """A request on its way: its videos, and what becomes known while they are processed."""

    request: RunRequest
    settings: RunSettings
    jobs: list[Job]
    statuses: list[StreamStatus]
    notes: list[str]
    server: str = "none"
    peaks_bytes: dict[str, int] = field(default_factory=dict)
    region: dict[str, Any] = field(default_factory=dict)
    vram: VramLimit | None = None
    hardware: dict[str, Any] = field(default_factory=dict)

    def summary(self, elapsed_s: float) -> RunSummary:
        reports = tuple(status.snapshot() for status in self.statuses)
        return RunSummary(
            __version__,
            self.server,
            reports,
            elapsed_s,
            self.peaks_bytes,
            self.region,
            self.hardware,
        )


def execute(request: RunRequest, settings: RunSettings) -> int:
    """Runs a request.

    Returns:
        The exit code.

    Raises:
        UsageError: The request cannot be carried out as it stands; nothing was started.
        DualfaceError: The server could not be had, or the summary not be written.
    """
    started = time.monotonic()
    console = Console(stderr=True, quiet=request.quiet or request.unattended.log_format == "json")
    run = _prepare(request, settings)
    with watched_run(
        request.unattended,
        run.statuses,
        console,
        identities(run.jobs),
        run.settings.server_wait_s,
    ) as watch:
        for note in run.notes:
            watch.say("note", f"note: {note}")
        try:
            with stop_on_signal(watch.stopping, unlink_own_shared_memory) as stop:
                failure = _try_streams(run, watch, stop)
            summary = run.summary(time.monotonic() - started)
            if failure is None:
                say_end(summary, watch, quiet=request.quiet)
            _write_end(summary, request, watch)
            if failure is not None:
                raise failure
        except DualfaceError as error:
            watch.fail(error)
            return error.exit_code
    return stop.exit_code or exit_code(summary.streams)


def _prepare(request: RunRequest, settings: RunSettings) -> _Run:
    """Plans and checks everything that can be told before something is started."""
    on_cuda = _on_cuda(request.choice)
    choice = replace(request.choice, device="cuda" if on_cuda else "cpu")
    if choice.device == "cuda" and request.batch_is_auto:
        settings = _for_cuda(settings)
    notes: list[str] = []
    jobs = (
        plan_streams(request.entries, settings)
        if request.entries
        else plan_jobs(request.inputs, request.output, notes.append)
    )
    with new_directories(jobs):
        _check_files(request, settings, jobs, notes)
    statuses = new_statuses(jobs)
    if request.unattended.resume:
        path = request.unattended.state
        recorded = read_state(path) if path is not None else {}
        skip_finished(jobs, statuses, recorded, overwrite=settings.output.overwrite)
    return _Run(replace(request, choice=choice), settings, jobs, statuses, notes)


def _check_files(
    request: RunRequest, settings: RunSettings, jobs: list[Job], notes: list[str]
) -> None:
    """Looks at everything that the run is going to write."""
    overwrite = settings.output.overwrite
    again = overwrite or request.unattended.resume
    check_unattended(request.unattended)
    check_outputs(jobs, settings, notes.append, existing_may_stay=request.unattended.resume)
    check_per_video("--tracks", request.tracks, len(jobs))
    overlays = overlay_files(request.overlay, jobs, may_replace=again)
    check_side_files(jobs, [*_side_files(request, overwrite=overwrite), *overlays])


def _side_files(request: RunRequest, *, overwrite: bool) -> list[SideFile]:
    chosen = request.unattended
    again = overwrite or chosen.resume
    files = (
        ("--tracks", "tracks", request.tracks, overwrite),
        ("--summary", "the summary", request.summary, again),
        ("--report", "the report", chosen.report, again),
        ("--state", "the state", chosen.state, True),
    )
    return [SideFile(option, what, path, may) for option, what, path, may in files if path]


def _write_end(summary: RunSummary, request: RunRequest, watch: RunWatch) -> None:
    watch.end()
    if request.summary is not None:
        summary.write(request.summary)
    watch.write_report(summary)


def _try_streams(run: _Run, watch: RunWatch, stop: StopRequest) -> DualfaceError | None:
    """Runs the streams; returns why they could not even be started."""
    try:
        _run_streams(run, watch, stop)
    except StoppedError as error:
        fail_unstarted(run.statuses, error)
    except DualfaceError as error:
        fail_unstarted(run.statuses, error)
        return error
    return None


def _run_streams(run: _Run, watch: RunWatch, stop: StopRequest) -> None:
    reap_shared_memory()
    choice = run.request.choice
    if _all_ended(run):
        with watch.display(run.statuses):
            return
    with ExitStack() as stack:
        if not choice.address:
            watch.say("server_starting", "starting the embedded Triton server ...")
        address, embedded = stack.enter_context(server_for(choice, stop.event))
        if embedded is None:
            reap_at(address)
        watch.serves(address, (lambda: embedded.pid) if embedded else None)
        run.server = watch.server
        peak = stack.enter_context(MemoryPeak(watch.processes))
        stack.enter_context(
            watched_pools(
                embedded,
                run.statuses,
                stop.event,
                lambda text: watch.say("server_pool", text, logging.WARNING),
                watch.state,
                gpu=choice.device == "cuda",
            )
        )
        monitor = stack.enter_context(
            HardwareMonitor(run.request.monitor, watch.alert, on_gpu=choice.device == "cuda")
        )
        if choice.device == "cuda":
            _admit(run)
        with watch.display(run.statuses):
            regions = {} if _all_ended(run) else _work(address, run, watch, stop, monitor)
        peak.close()
        monitor.close()
        run.hardware = monitor.summary()
        run.peaks_bytes = peak.peaks_bytes
        run.region = plain_regions(regions)
        for region in regions.values():
            warn_of_leaks(region, watch)


def _all_ended(run: _Run) -> bool:
    return all(status.snapshot().state in FINAL_STATES for status in run.statuses)


def _processes(run: _Run, streams: int) -> int:
    """Worker processes for so many streams at a time, 0 where they run in this process."""
    chosen = run.request.unattended
    workers = chosen.workers_for(streams, len(run.jobs))
    return 0 if chosen.workers == 1 or (not chosen.workers and workers == 1) else workers


def _work(
    address: str, run: _Run, watch: RunWatch, stop: StopRequest, monitor: HardwareMonitor
) -> dict[str, PoolReport]:
    """Runs the streams here, or in worker processes; figures of each process's region."""
    request = run.request
    workers = _processes(run, request.streams)
    embedded = request.choice.address is None
    if not workers:
        return {
            "client": run_worker(
                address,
                make_device(request.choice.device, run.settings),
                run.jobs,
                run.statuses,
                run.settings,
                stop.event,
                streams=request.streams,
                tracks=request.tracks,
                access=OPEN_ACCESS if embedded else None,
                guard=guarded(run.vram, monitor),
                overlay=request.overlay,
            )
        }
    each = -(-request.streams // workers)
    setup = WorkerSetup(
        address,
        request.choice.device,
        run.settings,
        each,
        request.tracks,
        request.monitor,
        open_access=embedded,
        vram=run.vram,
        overlay=request.overlay,
    )
    return Supervisor(setup, workers, watch.state).run(run.jobs, run.statuses, stop.event)


def _admit(run: _Run) -> None:
    """Fails streams that do not fit into the GPU's memory, or lets fewer run at a time."""
    from dualface_client.pipeline.cuda_device import frames_held

    unattended = run.request.unattended
    card = card_of(unattended.vram_limit)
    if card is None:
        return
    needs = needs_of(run.jobs, run.statuses, load_of(run.settings, frames_held(run.settings)))
    if not needs:
        return
    found = admit_streams(
        run.jobs,
        run.statuses,
        needs,
        card,
        run.request.streams,
        # This process has its context already: it is among what the card shows as used.
        lambda streams: _processes(run, streams) * WORKER_BYTES or NVDEC_CONTEXT_BYTES,
        queue=unattended.on_oom == "queue",
    )
    run.request = replace(run.request, streams=max(1, found.at_a_time))
    sizes = [sum(terms.values()) for name, terms in needs if name not in found.refused]
    run.vram = VramLimit(card.limit_bytes, max(sizes, default=0))


def _on_cuda(choice: ServerChoice) -> bool:
    """Whether pixels live on the GPU.

    Raises:
        PlatformError: That was asked for and something is missing.
    """
    if choice.device == "cpu" or (choice.device == "auto" and not choice.is_local):
        return False
    from dualface_client.pipeline.cuda_device import why_not_cuda

    reason = why_not_cuda(embedded_server=choice.address is None)
    if reason is not None and choice.device == "cuda":
        raise PlatformError(f"--device cuda: {reason}; --device cpu needs none of it")
    return reason is None


def _for_cuda(settings: RunSettings) -> RunSettings:
    from dualface_client.pipeline.cuda_device import for_cuda

    return for_cuda(settings)
