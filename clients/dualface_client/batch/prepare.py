"""Plans a run and checks everything that can be checked before anything is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dualface_client import __version__
from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.batch.live_jobs import check_live
from dualface_client.batch.locations import locations_of
from dualface_client.batch.object_jobs import check_object_outputs, skip_published
from dualface_client.batch.outputs import (
    SideFile,
    check_outputs,
    check_per_video,
    check_side_files,
    new_directories,
    overlay_files,
)
from dualface_client.batch.resume import identities, skip_finished
from dualface_client.batch.run import Run, RunRequest
from dualface_client.batch.server import ServerChoice, choice_of, transport_of
from dualface_client.batch.shards import Shard
from dualface_client.batch.streams_file import jobs_of_streams
from dualface_client.errors import UsageError
from dualface_client.extras import TRACE, require
from dualface_client.location import HERE, Location
from dualface_client.observe.gpus import mps_pipe_directory
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.observe.run_state import RunState
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device_choice import device_for, settings_for
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.load import demands
from dualface_client.stream.pins import check_photos
from dualface_client.triton.batch_sizes import Demand

_CORES_PER_STREAM = 4


def prepare_run(
    request: RunRequest, side_files: Sequence[SideFile] = (), *, elsewhere: bool = False
) -> Run:
    """Plans a run; starts nothing, and creates only missing directories.

    Args:
        request: What to do.
        side_files: Further files that the caller is going to write.
        elsewhere: Whether other machines process the videos: they have the devices, they need
            absolute paths, and they verify outputs that exist.

    Raises:
        UsageError: The request cannot be carried out as it stands.
        PlatformError: The device was asked for by name and something is missing.
    """
    notes: list[str] = []
    files = _files(request, notes)
    count = len(request.entries or files)
    locations: tuple[Location, ...] = (HERE,)
    choice = choice_of(request.program.server, "cpu")
    streams, settings = 1, request.program.stream
    if not elsewhere:
        locations = request.locations or locations_of(
            request.program, held=request.held is not None
        )
        locations = locations[: max(1, count)]  # a server without a video would only cost time
        choice = choice_at(request.program, locations)
        notes += _unused(choice)
        streams, settings = settings_of(request.program, choice.device, count, len(locations))
    listed = jobs_of_streams(request.entries, settings) if request.entries else files
    if elsewhere:
        listed = [_with_absolute_paths(job) for job in listed]
    jobs = _share(listed, request.shard, notes)
    with new_directories(jobs, (request.tracks, request.overlay), several=len(listed) > 1):
        _check_files(request, settings, jobs, notes, side_files, listed=len(listed))
    published = check_object_outputs(jobs, settings, existing_may_stay=request.resume)
    statuses = new_statuses(jobs)
    if request.resume:
        if not elsewhere:
            skip_finished(jobs, statuses, request.recorded, settings)
        skip_published(jobs, statuses, request.recorded, published)
    asked = _demands_of(jobs, statuses, settings, -(-streams // len(locations)))
    return Run(
        request,
        settings,
        replace(choice, has_live=any(job.is_live(settings) for job in jobs), demands=asked),
        jobs,
        statuses,
        notes,
        RunState(__version__, statuses, identities(jobs)),
        streams,
        locations,
    )


def _demands_of(
    jobs: Sequence[Job], statuses: Sequence[StreamStatus], settings: StreamSettings, at_each: int
) -> dict[str, Demand]:
    """What each server is asked by those that have not ended."""
    each = zip(jobs, statuses, strict=True)
    waiting = [job for job, status in each if status.snapshot().state not in FINAL_STATES]
    live = sum(job.is_live(settings) for job in waiting)
    own = [job.settings for job in waiting if job.settings is not None]
    return demands(settings, min(at_each, len(waiting) - live), min(at_each, live), own)


def choice_at(program: ProgramSettings, locations: Sequence[Location]) -> ServerChoice:
    """Which server, and on which device.

    Args:
        program: What was asked for.
        locations: From `locations_of`.

    Raises:
        PlatformError: The device was asked for by name and something is missing.
        UsageError: Device and transport do not go together.
    """
    choice = choice_of(program.server, program.run.device)
    transport = transport_of(program)
    in_messages = transport != "shm"
    if in_messages and (program.run.device == "cuda" or program.run.gpus):
        raise UsageError(
            f"--transport {transport}: with --device cuda or --gpus frames are in GPU memory, "
            "which no message reaches; use --device cpu, or --transport shm with a server of "
            "this host"
        )
    # One of several GPUs may be broken: that shows where it is used, and costs this one only.
    device = device_for(
        "cuda" if program.run.gpus else program.run.device,
        server_is_local=choice.is_local and not in_messages,
        embedded_server=choice.address is None,
        look_at_gpu=all(location.is_everywhere for location in locations),
    )
    return replace(choice, device=device)


def _with_absolute_paths(job: Job) -> Job:
    output = None if job.output is None else job.output.absolute()
    return replace(job, input=job.input if job.input_url else job.input.absolute(), output=output)


def settings_of(
    program: ProgramSettings, device: str, count: int, places: int = 1
) -> tuple[int, StreamSettings]:
    """How many streams may run at a time, and the settings for that many.

    Args:
        program: What was asked for.
        device: `cpu` or `cuda`.
        count: Streams of the run.
        places: Servers that share them.

    Raises:
        UsageError: The device cannot do what was asked for.
        PlatformError: What traces need is not installed.
    """
    if program.trace.endpoint is not None:
        require(*TRACE)
    streams = program.run.streams or max(1, len(os.sched_getaffinity(0)) // _CORES_PER_STREAM)
    at_each = -(-min(streams, count) // places)
    server = program.server
    mps = (server.mps and server.address is None) or mps_pipe_directory() is not None
    settings = settings_for(device, program.stream, program.limits, at_each, mps=mps)
    return streams, settings


def _unused(choice: ServerChoice) -> list[str]:
    """What was asked for and does not apply here."""
    if not choice.mps or choice.uses_mps:
        return []
    if choice.address is not None:
        return [
            f"--mps: not used, since the server at {choice.address} runs already; `dualface-client "
            "serve --mps` starts one with it"
        ]
    return ["--mps: not used, since there is no GPU to share in this run"]


def _share(listed: list[Job], shard: Shard | None, notes: list[str]) -> list[Job]:
    """This run's part of what the request names."""
    if shard is None:
        return listed
    jobs = [job for job in listed if shard.holds(job)]
    notes.append(f"shard {shard}: {len(jobs)} of {len(listed)} videos")
    return jobs


def _files(request: RunRequest, notes: list[str]) -> list[Job]:
    """What the inputs name; nothing if a streams file says what to do."""
    if request.entries:
        return []
    output = None if request.program.stream.output.encoder == "none" else request.output
    return jobs_of_inputs(
        request.inputs,
        output,
        notes.append,
        further_outputs=request.further_outputs,
        settings=request.program.stream,
    )


def _check_files(
    request: RunRequest,
    settings: StreamSettings,
    jobs: list[Job],
    notes: list[str],
    side_files: Sequence[SideFile],
    *,
    listed: int,
) -> None:
    """Checks the photos of pins and everything that the run is going to write."""
    overwrite = settings.output.overwrite
    check_photos(settings, jobs)
    check_live(jobs, settings)
    check_outputs(jobs, settings, notes.append, existing_may_stay=request.resume)
    check_per_video("--tracks", request.tracks, listed)
    check_per_video("--debug-overlay", request.overlay, listed)
    overlays = overlay_files(request.overlay, jobs, may_replace=overwrite or request.resume)
    tracks = _tracks(request.tracks, may_replace=overwrite or request.resume)
    check_side_files(jobs, [*tracks, *side_files, *overlays])


def _tracks(path: Path | None, *, may_replace: bool) -> list[SideFile]:
    if path is None:
        return []
    return [SideFile("--tracks", "tracks", path, may_replace, in_place=True)]
