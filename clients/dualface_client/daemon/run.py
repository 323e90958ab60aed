"""Runs the daemon: server, fleet, keeper and API, until a stop is asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dualface_client import __version__
from dualface_client.batch.execute import STREAMS_PER_WORKER, deciding_processes
from dualface_client.batch.listener import Listener
from dualface_client.batch.live_jobs import check_live
from dualface_client.batch.locations import locations_of
from dualface_client.batch.prepare import choice_at, settings_of
from dualface_client.batch.server import transport_of
from dualface_client.batch.servers import pids_of, servers_for
from dualface_client.batch.shared_memory import check_shared_memory, shared_memory_of
from dualface_client.batch.streams_file import jobs_of_streams
from dualface_client.config.stack import Effective
from dualface_client.config.streams_file import StreamEntry, read_streams, stream_entry
from dualface_client.daemon.api import ApiServer
from dualface_client.daemon.desired import DesiredStream, DesiredStreams, NotSavedError
from dualface_client.daemon.keeper import Keeper
from dualface_client.daemon.policy import Policy
from dualface_client.daemon.room import GpuRoom, refusal_of_all
from dualface_client.daemon.service import ServiceNotifier
from dualface_client.daemon.steering import Steering
from dualface_client.daemon.token import token_at
from dualface_client.errors import ConfigError, UsageError
from dualface_client.observe.run_state import RunState
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job
from dualface_client.stream.pacing import card_of
from dualface_client.stream.pins import check_photos
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.reaper import reap_shared_memory
from dualface_client.workers.fleet import Fleet
from dualface_client.workers.place import Losses, Place

#: Streams at a time where nobody says how many.
STREAMS = 16
#: Workers have 8 s to finish their files, then they are killed.
_END_S = 30.0


@dataclass(frozen=True, slots=True)
class DaemonRequest:
    """What the daemon is to do.

    Attributes:
        config: The file of streams.
        directory: Where state and token are kept; exists.
        effective: Every setting.
    """

    config: Path
    directory: Path
    effective: Effective


def run_daemon(
    request: DaemonRequest,
    stop: Stop,
    reload: threading.Event,
    listener: Listener,
    service: ServiceNotifier,
) -> None:
    """Runs streams until a stop is asked for; afterwards their files are playable.

    Args:
        request: What to do.
        stop: Asked from outside to end.
        reload: Set from outside when the file of streams has changed.
        listener: Hears what happens.
        service: Told when the daemon is ready, and that it lives.

    Raises:
        ConfigError: The file of streams or a setting is wrong; nothing was started.
        UsageError: The address is taken, or state or token cannot be used.
        NotSavedError: The state file cannot be written.
        PlatformError: The device cannot be used, or /dev/shm is too small.
        ServerError: The server cannot be started or reached, or failed for good.
    """
    program = request.effective.program()
    entries = _entries(request)
    token = token_at(request.directory / "token")
    desired = DesiredStreams(request.directory / "state.json")
    locations = locations_of(program)
    choice = choice_at(program, locations)
    count, device = len(locations), choice.device
    limit = program.run.streams or STREAMS
    _, settings = settings_of(program, device, limit, count)
    at_each = -(-limit // count)
    workers = max(-(-(program.run.workers or 1) // count), -(-at_each // STREAMS_PER_WORKER))
    per_worker = -(-at_each // workers)
    check_shared_memory(count * shared_memory_of(settings, choice, per_worker, 1))
    reap_shared_memory()
    state, losses = RunState(__version__, []), Losses()
    with ExitStack() as stack:
        servers = stack.enter_context(servers_for(choice, locations, stop, listener, state, losses))
        rooms = [
            GpuRoom(partial(card_of, program.run.vram_limit, server.location), settings)
            for server in (servers if device == "cuda" else ())
        ]
        limits = [room.limit() for room in rooms] or [None] * len(servers)
        places = [
            Place(
                WorkerSetup(
                    server.address,
                    device,
                    settings,
                    per_worker,
                    monitor=program.monitor,
                    open_access=choice.address is None,
                    deciders=deciding_processes(program.run, device, limit, count * workers),
                    vram=vram,
                    trace=program.trace,
                    transport=transport_of(program),
                ),
                workers,
                server.location,
            )
            for server, vram in zip(servers, limits, strict=True)
        ]
        fleet = Fleet(places, stop, state, losses=losses)

        def is_made(job: Job) -> bool:
            own = (job.settings or settings).output
            return job.output is not None and job.output.exists() and not own.overwrite

        job_of = _job_maker(request.effective, settings)
        asked = rooms if program.run.on_oom == "refuse" else []
        refusal_of = partial(refusal_of_all, asked)
        keeper = Keeper(desired, fleet, state, job_of, limit, is_made, refusal_of=refusal_of)
        keeper.take_file(entries)
        steering = Steering(keeper, state, policy_of(program), request.effective.values)
        steering = replace(steering, server_pids=pids_of(servers))
        fleet.start()
        stack.callback(_end, fleet, stop)
        api = stack.enter_context(ApiServer(steering, token, program.daemon))
        state.set_phase("running")
        listener.say("daemon_ready", f"API and page: {api.url} (token: {request.directory}/token)")
        service.tell("READY=1", f"STATUS={_count(entries)} in {request.config}")
        _keep_running(request, keeper, fleet, stop, reload, listener, service)
        state.set_phase("stopping")
        service.tell("STOPPING=1")
    if stop.error is not None:
        raise stop.error


def _keep_running(
    request: DaemonRequest,
    keeper: Keeper,
    fleet: Fleet,
    stop: Stop,
    reload: threading.Event,
    listener: Listener,
    service: ServiceNotifier,
) -> None:
    while not stop.is_asked and not fleet.has_ended:
        if reload.is_set():
            reload.clear()
            service.reloading()
            reload_streams(request, keeper, listener)
            service.tell("READY=1")
        keeper.tick()
        service.alive()


def reload_streams(request: DaemonRequest, keeper: Keeper, listener: Listener) -> None:
    """Takes the file of streams in again.

    A file with mistakes, or one that cannot be remembered, changes nothing: what runs goes on.

    Args:
        request: Names the file.
        keeper: Gets what is in it.
        listener: Hears what came of it.
    """
    try:
        entries = _entries(request)
        keeper.take_file(entries)
    except (ConfigError, NotSavedError) as error:
        listener.say("reload_failed", f"{error}\nnothing was changed", logging.ERROR)
        return
    listener.say("reloaded", f"{request.config}: read again, {_count(entries)}")


def _count(entries: list[StreamEntry]) -> str:
    return "1 stream" if len(entries) == 1 else f"{len(entries)} streams"


def _end(fleet: Fleet, stop: Stop) -> None:
    stop.ask()
    fleet.join(_END_S)


def _entries(request: DaemonRequest) -> list[StreamEntry]:
    return read_streams(request.config, request.effective.values, may_be_empty=True)


def policy_of(program: ProgramSettings) -> Policy:
    """What requests may open, by the settings."""
    daemon = program.daemon
    return Policy(
        program.stream.input.schemes,
        program.stream.output.schemes,
        daemon.input_directory,
        daemon.output_directory,
    )


def _job_maker(effective: Effective, settings: StreamSettings) -> Callable[[DesiredStream], Job]:
    def job_of(stream: DesiredStream) -> Job:
        entry = stream_entry(
            stream.name, stream.input, stream.outputs, stream.settings, effective.values
        )
        (job,) = jobs_of_streams([entry], settings)
        if job.problem:
            raise UsageError(job.problem)
        check_live([job], settings)
        check_photos(settings, [job])
        return job

    return job_of
