"""Carries out a planned run: the server, the monitors, and the streams here or in workers."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack

from dualface_client.batch.admission import Room, needs_of, refuse_unfit, room_on
from dualface_client.batch.listener import Listener
from dualface_client.batch.locations import visible_of
from dualface_client.batch.run import Run
from dualface_client.batch.server import transport_of
from dualface_client.batch.servers import RunServer, pids_of, say_from_watch, servers_for
from dualface_client.batch.shared_memory import check_shared_memory, shared_memory_of
from dualface_client.cuda.context import has_context
from dualface_client.errors import DualfaceError, StoppedError
from dualface_client.location import Location
from dualface_client.memory.figures import PoolReport
from dualface_client.memory.vram import WORKER_BYTES
from dualface_client.observe.alerts import Alert
from dualface_client.observe.hardware import HardwareMonitor
from dualface_client.observe.memory_peak import MemoryPeak
from dualface_client.observe.report import FINAL_STATES
from dualface_client.settings.program import RunSettings
from dualface_client.stream.device_choice import make_device
from dualface_client.stream.job import fail_unstarted
from dualface_client.stream.load import frames_held, load_of
from dualface_client.stream.pacing import card_of, within_memory
from dualface_client.stream.session import run_worker
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.reaper import reap_shared_memory
from dualface_client.workers.place import Losses, Place
from dualface_client.workers.supervisor import Supervisor

#: Measured on an H200: with more streams, Python's lock slows a process down.
STREAMS_PER_WORKER = 4


def carry_out(run: Run, stop: Stop, listener: Listener) -> None:
    """Runs every stream that may be tried; a stream's failure ends up in its status.

    Args:
        run: From `prepare_run`; afterwards it knows how everything ended.
        stop: Asked from outside to end early: streams leave playable partial files.
        listener: Hears what happens.

    Raises:
        DualfaceError: The streams could not even be started; their statuses say so too.
    """
    try:
        _run_streams(run, stop, listener)
    except StoppedError as error:
        fail_unstarted(run.statuses, stop.error or error)
    except DualfaceError as error:
        fail_unstarted(run.statuses, error)
        raise


def _run_streams(run: Run, stop: Stop, listener: Listener) -> None:
    reap_shared_memory()
    if run.has_ended:
        with listener.display(run.statuses):
            return
    on_gpu = run.choice.device == "cuda"
    _check_shared_memory(run)
    losses = Losses()

    def on_alert(alert: Alert) -> None:
        level = logging.INFO if alert.is_over else logging.WARNING
        say_from_watch(listener, "hardware_alert", str(alert), level)

    with ExitStack() as stack:
        request = run.request
        servers = stack.enter_context(
            servers_for(run.choice, run.locations, stop, listener, run.state, losses, request.held)
        )
        run.server_pids = pids_of(servers)
        run.state.set_phase("running")
        peak = stack.enter_context(MemoryPeak(run.processes))
        uuids = visible_of(run.locations)
        monitor = stack.enter_context(
            HardwareMonitor(request.program.monitor, on_alert, on_gpu=on_gpu, uuids=uuids)
        )
        places = _places(run, servers)
        with listener.display(run.statuses):
            run.regions = {} if run.has_ended else _work(run, places, stop, monitor, losses)
        peak.close()
        monitor.close()
        run.peaks_bytes, run.hardware = peak.peaks_bytes, monitor.summary()
        _warn_of_leaks(run, listener, stopped=stop.is_asked)


def _check_shared_memory(run: Run) -> None:
    """Refuses a run that /dev/shm is too small for; streams that have ended need none of it."""
    waiting = sum(status.snapshot().state not in FINAL_STATES for status in run.statuses)
    count = len(run.locations)
    streams = -(-min(run.streams, waiting) // count)
    workers = _workers_of_each(run, min(run.streams, waiting), waiting)
    runs = run.request.held is not None
    needed = shared_memory_of(run.settings, run.choice, streams, workers, server_runs=runs)
    check_shared_memory(count * needed)


def worker_processes(work: RunSettings, streams: int, videos: int, *, mps: bool = False) -> int:
    """Worker processes of a run, 0 if its streams run in this process.

    Args:
        work: What was asked for; without a number of workers there are about four streams in each.
        streams: How many run at a time.
        videos: How many there are.
        mps: Whether they share a GPU by MPS, which this process, being older, does not use.
    """
    wanted = work.workers or max(1, -(-min(streams, videos) // STREAMS_PER_WORKER))
    workers = max(1, min(wanted, videos))
    if mps:
        return workers
    return 0 if work.workers == 1 or (work.workers is None and workers == 1) else workers


def deciding_processes(work: RunSettings, device: str, streams: int, workers: int) -> int:
    """Processes of each worker that track and frame, 0 where its own threads do.

    Args:
        work: What was asked for.
        device: `cpu` or `cuda`.
        streams: How many run at a time, in all workers.
        workers: Worker processes, 0 if the streams run in this one.
    """
    wanted, workers = work.deciders, max(1, workers)
    if wanted is None and device == "cpu":
        return 0  # detection takes all cores anyway
    if wanted is None:
        wanted = min(streams, max(1, len(os.sched_getaffinity(0)) // 2))
    return -(-wanted // workers)


def contexts_needed(workers: int, *, has_own: bool) -> int:
    """Processes whose contexts on a GPU are still to come.

    Args:
        workers: Worker processes, 0 if the streams run in this one.
        has_own: Whether this process has a context, from an earlier run or by somebody else.
    """
    return workers or (0 if has_own else 1)


def _workers_of_each(run: Run, streams: int, videos: int) -> int:
    """Worker processes at each location, 0 if the streams run in this process."""
    mps = run.choice.uses_mps
    workers = worker_processes(run.request.program.run, streams, videos, mps=mps)
    if len(run.locations) == 1 and run.locations[0].is_everywhere:
        return workers
    return max(1, -(-workers // len(run.locations)))


def _places(run: Run, servers: Sequence[RunServer]) -> list[Place]:
    """What runs the streams: each server with its workers, none for this process alone.

    Streams that fit in no GPU's memory fail.
    """
    needs: list[tuple[str, dict[str, int]]] = []
    if run.choice.device == "cuda":
        load = load_of(run.settings, frames_held(run.settings))
        needs = needs_of(run.jobs, run.statuses, load, run.settings)
    rooms = [_room_at(run, server.location, needs) for server in servers]
    refuse_unfit(run.jobs, run.statuses, rooms)
    return [_place(run, server, room) for server, room in zip(servers, rooms, strict=True)]


def _place(run: Run, server: RunServer, room: Room) -> Place:
    work, device, count = run.request.program.run, run.choice.device, len(run.locations)
    workers = _workers_of_each(run, count * room.streams, len(run.jobs))
    setup = WorkerSetup(
        server.address,
        device,
        run.settings,
        -(-room.streams // max(1, workers)),
        run.request.tracks,
        run.request.overlay,
        run.request.program.monitor,
        open_access=run.choice.address is None,
        deciders=deciding_processes(work, device, count * room.streams, count * workers),
        vram=room.vram,
        trace=run.request.program.trace,
        transport=transport_of(run.request.program),
    )
    return Place(setup, workers, server.location, frozenset(room.refused))


def _room_at(run: Run, location: Location, needs: Sequence[tuple[str, dict[str, int]]]) -> Room:
    """How many streams run at a time at one location."""
    work, count = run.request.program.run, len(run.locations)
    asked = run.streams if count == 1 else -(-min(run.streams, len(run.jobs)) // count)
    card = card_of(work.vram_limit, location) if needs else None
    if card is None:
        return Room(asked)

    has_own = has_context(0)

    def processes_bytes(streams: int) -> int:
        workers = _workers_of_each(run, count * streams, len(run.jobs))
        return contexts_needed(workers, has_own=has_own) * WORKER_BYTES

    return room_on(card, needs, asked, processes_bytes, queue=work.on_oom == "queue")


def _work(
    run: Run, places: Sequence[Place], stop: Stop, monitor: HardwareMonitor, losses: Losses
) -> dict[str, PoolReport]:
    """Runs the streams here or in worker processes; returns figures of each region."""
    if places[0].workers:
        return Supervisor(places, run.state, losses=losses).run(run.jobs, run.statuses, stop)
    setup = places[0].setup
    region = run_worker(
        setup,
        make_device(setup.device, setup.settings),
        run.jobs,
        run.statuses,
        stop,
        within_memory(setup.vram, monitor),
        lambda: run.state.await_server(run.settings.server_wait_s),
    )
    return {"client": region}


def _warn_of_leaks(run: Run, listener: Listener, *, stopped: bool) -> None:
    """A line for each slot that is still held; a stop leaves requests under way behind."""
    for leak in (leak for region in run.regions.values() for leak in region.leaks):
        if leak.under_way and stopped:
            continue
        why = "never released: a bug"
        if leak.quarantined or leak.under_way:
            why = "no answer came to its request"
        where = f"; taken at {leak.place}" if leak.place else ""
        listener.say(
            "slot_leaked",
            f"warning: a {leak.size_class} slot is still held by {leak.label} after "
            f"{leak.age_s:.0f} s ({why}{where})",
            logging.WARNING,
        )
