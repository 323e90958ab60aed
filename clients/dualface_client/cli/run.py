"""`dualface-client run`: videos in, two-tile videos out."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dualface_client import __version__
from dualface_client.cli.options import embedded_server_options, parse_size
from dualface_client.cli.signals import StopRequest, stop_on_signal
from dualface_client.cli.unattended import (
    RunWatch,
    Unattended,
    check_unattended,
    unattended_options,
    watched_run,
)
from dualface_client.errors import DualfaceError, PlatformError, UsageError
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.memory_peak import MemoryPeak
from dualface_client.observe.report import (
    FINAL_STATES,
    RunSummary,
    StreamReport,
    StreamStatus,
)
from dualface_client.observe.state_file import read_state
from dualface_client.pipeline.devices import make_device
from dualface_client.pipeline.jobs import Job, plan_jobs, written_by
from dualface_client.pipeline.pool_watch import watched_pools
from dualface_client.pipeline.resume import identities, skip_finished
from dualface_client.pipeline.runner import new_statuses
from dualface_client.pipeline.server import ServerChoice, reap_at, server_for
from dualface_client.pipeline.supervisor import Supervisor
from dualface_client.pipeline.worker import run_worker
from dualface_client.pipeline.worker_process import WorkerSetup
from dualface_client.settings.run import DetectionSettings, OutputSettings, RunSettings
from dualface_client.triton.reaper import reap_shared_memory

_SERVER_FAILED = 3

_EPILOG = """
\b
Examples:
  dualface-client run talk.mp4 -o talk_tiles.mp4
  dualface-client run recordings/ -o out/ --summary out/summary.json
  dualface-client run 'day?/*.mkv' -o out/ --streams 2 --overwrite
  dualface-client run talk.mp4 -o tiles.mp4 --tracks tracks.txt --quiet
  dualface-client run talk.mp4 -o tiles.mp4 --server 127.0.0.1:8001
  dualface-client run night/ -o out/ --workers 2 --state out/state.json --resume
  dualface-client run day/ -o out/ --report report.html --health-port 8080 --log-format json
"""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the user asked for, beyond the settings.

    Attributes:
        jobs: One per video.
        choice: Which server.
        streams: How many run at a time.
        tracks: File or directory for tracks.
        summary: File for the JSON summary.
        quiet: Say nothing but errors.
        unattended: Workers, state, health, logs, report.
    """

    jobs: list[Job]
    choice: ServerChoice
    streams: int
    tracks: Path | None
    summary: Path | None
    quiet: bool
    unattended: Unattended = field(default_factory=Unattended)


@click.command(epilog=_EPILOG)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File (for one video) or directory; required unless --encoder none.",
)
@click.option(
    "--server",
    metavar="HOST:PORT",
    help="A running Triton's gRPC address; else an embedded one is started.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where pixels live; 'auto' is cuda where that works.",
)
@embedded_server_options
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    help="Videos processed at a time [default: one per 4 cores].",
)
@click.option(
    "--size",
    default="1920x1080",
    show_default=True,
    callback=parse_size,
    metavar="WxH",
    help="Output size; each tile has half the width.",
)
@click.option(
    "--encoder",
    type=click.Choice(["auto", "nvenc", "x264", "none"]),
    default="auto",
    show_default=True,
    help="'auto' is NVENC where the device is cuda and has it, else x264; 'none' writes no video.",
)
@click.option("--preset", default=OutputSettings().preset, show_default=True, help="x264 preset.")
@click.option(
    "--crf",
    type=click.IntRange(1, 51),
    default=OutputSettings().crf,
    show_default=True,
    help="x264 quality, lower is better.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    default=DetectionSettings().requests_in_flight,
    show_default=True,
    help="Detection requests of one video under way at a time.",
)
@click.option(
    "--tracks",
    type=click.Path(path_type=Path),
    help="MOTChallenge text: a file for one video, a directory for several.",
)
@click.option("--summary", type=click.Path(path_type=Path, dir_okay=False), help="JSON summary.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@unattended_options
def run(  # noqa: PLR0913, PLR0917 - one parameter for each option, by name
    inputs: tuple[str, ...],
    output: str | None,
    server: str | None,
    device: str,
    detector_onnx: Path | None,
    reid_onnx: Path | None,
    model_threads: int,
    streams: int | None,
    size: tuple[int, int],
    encoder: str,
    preset: str,
    crf: int,
    overwrite: bool,
    in_flight: int,
    tracks: Path | None,
    summary: Path | None,
    quiet: bool,
    unattended: Unattended,
) -> int:
    """Turn each INPUT into a video with its two people side by side.

    INPUT is a video, a directory of videos or a glob pattern. Frame rate, time stamps and sound are
    the source's. A stream that fails says why; the others go on.
    """
    if output is None and encoder != "none":
        raise click.UsageError("Missing option '-o' / '--output' (or use --encoder none).")
    on_cuda = _on_cuda(device, ServerChoice(server))
    settings = RunSettings(
        detection=replace(DetectionSettings(), requests_in_flight=in_flight),
        output=OutputSettings(size, encoder, preset, crf, overwrite),
    )
    request = RunRequest(
        jobs=plan_jobs(inputs, None if encoder == "none" else output),
        choice=ServerChoice(
            server, detector_onnx, reid_onnx, model_threads, "cuda" if on_cuda else "cpu"
        ),
        streams=streams or max(1, len(os.sched_getaffinity(0)) // 4),
        tracks=tracks,
        summary=summary,
        quiet=quiet,
        unattended=unattended,
    )
    check_unattended(unattended)
    _check_tracks(request)
    _check_side_files(request, overwrite=overwrite)
    return execute(request, _for_device(settings, request))


def execute(request: RunRequest, settings: RunSettings) -> int:
    """Runs a request.

    Returns:
        The exit code.

    Raises:
        DualfaceError: The server could not be had, or the summary not be written.
    """
    quiet = request.quiet or request.unattended.log_format == "json"
    console = Console(stderr=True, quiet=quiet)
    started = time.monotonic()
    statuses = new_statuses(request.jobs)
    _resume(request, settings, statuses)
    inputs = identities(request.jobs)
    with watched_run(request.unattended, statuses, console, inputs) as watch:
        try:
            with stop_on_signal(watch.stopping) as stop:
                server, peaks, region = _run_streams(request, settings, statuses, watch, stop)
            reports = tuple(status.snapshot() for status in statuses)
            elapsed_s = time.monotonic() - started
            summary = RunSummary(__version__, server, reports, elapsed_s, peaks, region)
            _write_end(summary, request, watch)
        except DualfaceError as error:
            watch.fail(error)
            return error.exit_code
    return stop.exit_code or _exit_code(reports)


def _resume(request: RunRequest, settings: RunSettings, statuses: Sequence[StreamStatus]) -> None:
    if request.unattended.resume:
        path = request.unattended.state
        recorded = read_state(path) if path is not None else {}
        skip_finished(request.jobs, statuses, recorded, overwrite=settings.output.overwrite)


def _write_end(summary: RunSummary, request: RunRequest, watch: RunWatch) -> None:
    _say_end(summary, watch, quiet=request.quiet)
    watch.end()
    if request.summary is not None:
        summary.write(request.summary)
    watch.write_report(summary)


def _run_streams(
    request: RunRequest,
    settings: RunSettings,
    statuses: Sequence[StreamStatus],
    watch: RunWatch,
    stop: StopRequest,
) -> tuple[str, dict[str, int], dict[str, Any]]:
    """Starts what is needed and runs; returns the server's description, memory peaks, slots."""
    reap_shared_memory()
    if all(status.snapshot().state in FINAL_STATES for status in statuses):
        with watch.display(statuses):
            return "none", {}, {}
    with ExitStack() as stack:
        if not request.choice.address:
            watch.say("server_starting", "starting the embedded Triton server ...")
        address, embedded = stack.enter_context(server_for(request.choice))
        if embedded is None:
            reap_at(address)
        watch.serves(address, embedded.pid if embedded else None)
        peak = stack.enter_context(MemoryPeak(watch.processes))
        on_gpu = request.choice.device == "cuda"
        stack.enter_context(
            watched_pools(
                embedded,
                statuses,
                stop.event,
                lambda text: watch.say("server_pool", text, logging.WARNING),
                gpu=on_gpu,
            )
        )
        with watch.display(statuses):
            regions = _work(address, request, settings, statuses, watch, stop)
        peak.close()
        for region in regions.values():
            _warn_of_leaks(region, watch)
        return watch.server, peak.peaks_bytes, _plain(regions)


def _work(
    address: str,
    request: RunRequest,
    settings: RunSettings,
    statuses: Sequence[StreamStatus],
    watch: RunWatch,
    stop: StopRequest,
) -> dict[str, PoolReport]:
    """Runs the streams here, or in worker processes; figures of each process's region."""
    workers = request.unattended.workers_for(request.streams, len(request.jobs))
    if request.unattended.workers == 1 or (not request.unattended.workers and workers == 1):
        device = make_device(request.choice.device, settings)
        jobs, tracks, streams = request.jobs, request.tracks, request.streams
        return {
            "client": run_worker(
                address, device, jobs, statuses, settings, stop.event, streams=streams,
                tracks=tracks,
            )
        }  # fmt: skip
    each = -(-request.streams // workers)
    setup = WorkerSetup(address, request.choice.device, settings, each, request.tracks)
    return Supervisor(setup, workers, watch.state).run(request.jobs, statuses, stop.event)


def _plain(regions: dict[str, PoolReport]) -> dict[str, Any]:
    """One region as it is, several by worker."""
    plain = {name: asdict(region) for name, region in regions.items()}
    return plain.get("client", plain)


def _warn_of_leaks(region: PoolReport, watch: RunWatch) -> None:
    for leak in region.leaks:
        why = "no answer came to its request" if leak.quarantined else "never released: a bug"
        where = f"; taken at {leak.place}" if leak.place else ""
        watch.say(
            "slot_leaked",
            f"warning: a {leak.size_class} slot is still held by {leak.label} after "
            f"{leak.age_s:.0f} s ({why}{where})",
            logging.WARNING,
        )


def _on_cuda(device: str, choice: ServerChoice) -> bool:
    """Whether pixels live on the GPU.

    Raises:
        PlatformError: That was asked for and something is missing.
    """
    if device == "cpu" or (device == "auto" and not choice.is_local):
        return False
    from dualface_client.pipeline.cuda_device import why_not_cuda

    reason = why_not_cuda(embedded_server=choice.address is None)
    if reason is not None and device == "cuda":
        raise PlatformError(f"--device cuda: {reason}; --device cpu needs none of it")
    return reason is None


def _for_device(settings: RunSettings, request: RunRequest) -> RunSettings:
    if request.choice.device == "cpu":
        return settings
    from dualface_client.pipeline.cuda_device import for_cuda

    return for_cuda(settings)


def _check_side_files(request: RunRequest, *, overwrite: bool) -> None:
    """Refuses tracks and summaries that would destroy something, before anything starts."""
    videos = {p.resolve() for job in request.jobs for p in (job.input, *written_by(job))}
    replaced = {"--state"} | ({"--summary", "--report"} if request.unattended.resume else set())
    for option, what, path in (
        ("--tracks", "tracks", request.tracks),
        ("--summary", "the summary", request.summary),
        ("--report", "the report", request.unattended.report),
        ("--state", "the state", request.unattended.state),
    ):
        if path is None or path.is_dir():
            continue
        reason = ""
        if path.resolve() in videos:
            reason = "it is one of the videos"
        elif path.is_file() and not (overwrite or option in replaced):
            reason = "it exists; choose another name or allow --overwrite"
        elif not path.parent.is_dir():
            reason = f"{path.parent} is not a directory"
        if reason:
            raise UsageError(f"{option} {path}: cannot write {what}: {reason}")
        videos.add(path.resolve())


def _check_tracks(request: RunRequest) -> None:
    if request.tracks is None or len(request.jobs) == 1:
        return
    if not request.tracks.is_dir():
        raise UsageError(
            f"--tracks {request.tracks}: there are {len(request.jobs)} videos; "
            "name an existing directory"
        )


def _say_end(summary: RunSummary, watch: RunWatch, *, quiet: bool) -> None:
    """The run in a line; with --quiet the failures alone."""
    if quiet:
        for report in summary.streams:
            if report.state == "failed":
                watch.say_failed(report)
        return
    states = Counter(report.state for report in summary.streams)
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    text = f"{len(summary.streams)} videos: {text}, {summary.elapsed_s:.1f} s"
    watch.say_end(text, **states, elapsed_s=round(summary.elapsed_s, 3))


def _exit_code(reports: Sequence[StreamReport]) -> int:
    if any(report.error_is_servers for report in reports):
        return _SERVER_FAILED
    return int(any(report.state == "failed" for report in reports))
