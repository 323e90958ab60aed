"""`dualface-client run`: videos in, two-tile videos out."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dualface_client import __version__
from dualface_client.cli.options import embedded_server_options, parse_size
from dualface_client.cli.signals import StopRequest, stop_on_signal
from dualface_client.errors import PlatformError, UsageError
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.memory_peak import MemoryPeak
from dualface_client.observe.progress import ProgressDisplay, result_lines
from dualface_client.observe.report import RunSummary, StreamReport, StreamStatus
from dualface_client.pipeline.cpu_device import CpuDevice
from dualface_client.pipeline.jobs import Job, plan_jobs, written_by
from dualface_client.pipeline.pool_watch import watched_pools
from dualface_client.pipeline.runner import Device, new_statuses
from dualface_client.pipeline.server import ServerChoice, server_for
from dualface_client.pipeline.worker import run_worker
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
    """

    jobs: list[Job]
    choice: ServerChoice
    streams: int
    tracks: Path | None
    summary: Path | None
    quiet: bool


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
    )
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
    console = Console(stderr=True, quiet=request.quiet)
    started = time.monotonic()
    statuses = new_statuses(request.jobs)
    with stop_on_signal(lambda text: console.print(text, markup=False)) as stop:
        server, peaks, region = _run_streams(request, settings, statuses, console, stop)
    reports = tuple(status.snapshot() for status in statuses)
    elapsed_s = time.monotonic() - started
    _print_end(reports, console, elapsed_s)
    if request.summary is not None:
        RunSummary(__version__, server, reports, elapsed_s, peaks, region).write(request.summary)
    return stop.exit_code or _exit_code(reports)


def _run_streams(
    request: RunRequest,
    settings: RunSettings,
    statuses: Sequence[StreamStatus],
    console: Console,
    stop: StopRequest,
) -> tuple[str, dict[str, int], dict[str, Any]]:
    """Starts what is needed and runs; returns the server's description, memory peaks, slots."""
    reap_shared_memory()
    if all(job.problem for job in request.jobs):
        with ProgressDisplay(statuses, console, quiet=request.quiet):
            return "none", {}, {}
    with ExitStack() as stack:
        if not request.choice.address:
            console.print("starting the embedded Triton server ...", markup=False)
        address, embedded = stack.enter_context(server_for(request.choice))
        roots = {"client": os.getpid()} | ({"server": embedded.pid} if embedded else {})
        peak = stack.enter_context(MemoryPeak(roots))
        on_gpu = request.choice.device == "cuda"
        stack.enter_context(
            watched_pools(
                embedded,
                statuses,
                stop.event,
                lambda text: console.print(text, markup=False),
                gpu=on_gpu,
            )
        )
        with ProgressDisplay(statuses, console, quiet=request.quiet):
            region = run_worker(
                address,
                _device(request, settings),
                request.jobs,
                statuses,
                settings,
                stop.event,
                streams=request.streams,
                tracks=request.tracks,
            )
        peak.close()
        description = f"{address} (embedded)" if embedded else address
        _warn_of_leaks(region, console)
        return description, peak.peaks_bytes, asdict(region)


def _warn_of_leaks(region: PoolReport, console: Console) -> None:
    for leak in region.leaks:
        why = "no answer came to its request" if leak.quarantined else "never released: a bug"
        where = f"; taken at {leak.place}" if leak.place else ""
        console.print(
            f"warning: a {leak.size_class} slot is still held by {leak.label} after "
            f"{leak.age_s:.0f} s ({why}{where})",
            markup=False,
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


def _device(request: RunRequest, settings: RunSettings) -> Device:
    if request.choice.device == "cpu":
        return CpuDevice()
    from dualface_client.pipeline.cuda_device import CudaDevice

    return CudaDevice(settings)


def _check_side_files(request: RunRequest, *, overwrite: bool) -> None:
    """Refuses tracks and summaries that would destroy something, before anything starts."""
    videos = {p.resolve() for job in request.jobs for p in (job.input, *written_by(job))}
    for option, what, path in (
        ("--tracks", "tracks", request.tracks),
        ("--summary", "the summary", request.summary),
    ):
        if path is None or path.is_dir():
            continue
        reason = ""
        if path.resolve() in videos:
            reason = "it is one of the videos"
        elif path.is_file() and not overwrite:
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


def _print_end(reports: Sequence[StreamReport], console: Console, elapsed_s: float) -> None:
    """The run in a line; with --quiet the failures alone."""
    if console.quiet:
        for report in reports:
            if report.state == "failed":
                click.echo("\n".join(result_lines(report)), err=True)
    states = Counter(report.state for report in reports)
    if len(reports) > 1:
        text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        console.print(f"{len(reports)} videos: {text}, {elapsed_s:.1f} s", highlight=False)


def _exit_code(reports: Sequence[StreamReport]) -> int:
    if any(report.error_is_servers for report in reports):
        return _SERVER_FAILED
    return int(any(report.state == "failed" for report in reports))
