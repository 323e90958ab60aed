"""Carries out a planned run: the server, the monitors, and the streams here or in workers."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack

from dualface_client.batch.admission import admit_streams, needs_of
from dualface_client.batch.listener import Listener
from dualface_client.batch.pool_faults import ending_at_pool_fault
from dualface_client.batch.run import Run
from dualface_client.batch.server import server_for
from dualface_client.batch.shared_memory import check_shared_memory, shared_memory_of
from dualface_client.errors import DualfaceError, StoppedError
from dualface_client.memory.figures import PoolReport
from dualface_client.memory.vram import NVDEC_CONTEXT_BYTES, WORKER_BYTES, VramLimit
from dualface_client.observe.alerts import Alert
from dualface_client.observe.hardware import HardwareMonitor
from dualface_client.observe.memory_peak import MemoryPeak
from dualface_client.observe.report import FINAL_STATES
from dualface_client.observe.run_log import ROOT
from dualface_client.settings.program import RunSettings
from dualface_client.stream.device_choice import make_device
from dualface_client.stream.job import fail_unstarted
from dualface_client.stream.load import load_of
from dualface_client.stream.pacing import card_of, within_memory
from dualface_client.stream.session import run_worker
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.reaper import reap_shared_memory
from dualface_client.workers.supervisor import Supervisor

#: Measured on an H200: with more streams, Python's lock slows a process down.
STREAMS_PER_WORKER = 4


def _say_from_watch(listener: Listener, event: str, text: str, level: int) -> None:
    """On a thread whose watch must go on, whatever the listener does."""
    try:
        listener.say(event, text, level)
    except Exception:  # the log gets it
        logging.getLogger(ROOT).exception("%s: the listener failed at: %s", event, text)


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

    def on_alert(alert: Alert) -> None:
        level = logging.INFO if alert.is_over else logging.WARNING
        _say_from_watch(listener, "hardware_alert", str(alert), level)

    with ExitStack() as stack:
        embedded, address = _serve(run, stop, listener, stack)
        peak = stack.enter_context(MemoryPeak(run.processes))
        stack.enter_context(
            ending_at_pool_fault(
                embedded,
                stop,
                lambda text: _say_from_watch(listener, "server_pool", text, logging.WARNING),
                run.state,
                gpu=on_gpu,
            )
        )
        monitor = stack.enter_context(
            HardwareMonitor(run.request.program.monitor, on_alert, on_gpu=on_gpu)
        )
        if on_gpu:
            _admit(run)
        with listener.display(run.statuses):
            run.regions = {} if run.has_ended else _work(address, run, stop, monitor)
        peak.close()
        monitor.close()
        run.peaks_bytes, run.hardware = peak.peaks_bytes, monitor.summary()
        _warn_of_leaks(run, listener, stopped=stop.is_asked)


def _check_shared_memory(run: Run) -> None:
    """Refuses a run that /dev/shm is too small for; streams that have ended need none of it."""
    waiting = sum(status.snapshot().state not in FINAL_STATES for status in run.statuses)
    streams = min(run.streams, waiting)
    work, mps = run.request.program.run, run.choice.uses_mps
    workers = worker_processes(work, streams, waiting, mps=mps)
    runs = run.request.held is not None
    needed = shared_memory_of(run.settings, run.choice, streams, workers, server_runs=runs)
    check_shared_memory(needed)


def _serve(
    run: Run, stop: Stop, listener: Listener, stack: ExitStack
) -> tuple[EmbeddedServer | None, str]:
    """Takes or starts the server; the stack ends one that was started here."""
    held = run.request.held
    if held is None and not run.choice.address:
        listener.say("server_starting", "starting the embedded Triton server ...")
    address, embedded = stack.enter_context(
        server_for(
            run.choice,
            stop.event,
            held,
            lambda text: listener.say("setup", text),
            listener.download,
        )
    )
    if embedded is not None:
        run.server_pid = lambda: embedded.pid
    run.state.set_server(f"{address} (embedded)" if embedded else address)
    run.state.set_phase("running")
    return embedded, address


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


def _work(address: str, run: Run, stop: Stop, monitor: HardwareMonitor) -> dict[str, PoolReport]:
    """Runs the streams here or in worker processes; returns figures of each region."""
    work, device = run.request.program.run, run.choice.device
    workers = worker_processes(work, run.streams, len(run.jobs), mps=run.choice.uses_mps)
    setup = WorkerSetup(
        address,
        device,
        run.settings,
        -(-run.streams // max(1, workers)),
        run.request.tracks,
        run.request.overlay,
        run.request.program.monitor,
        open_access=run.choice.address is None,
        deciders=deciding_processes(work, device, run.streams, workers),
        vram=run.vram,
    )
    if workers:
        return Supervisor(setup, workers, run.state).run(run.jobs, run.statuses, stop)
    region = run_worker(
        setup,
        make_device(setup.device, setup.settings),
        run.jobs,
        run.statuses,
        stop,
        within_memory(run.vram, monitor),
        lambda: run.state.await_server(run.settings.server_wait_s),
    )
    return {"client": region}


def _admit(run: Run) -> None:
    """Fails streams that do not fit in the GPU's memory, or runs fewer at a time."""
    from dualface_client.stream.load import frames_held

    work = run.request.program.run
    card = card_of(work.vram_limit)
    if card is None:
        return
    load = load_of(run.settings, frames_held(run.settings))
    needs = needs_of(run.jobs, run.statuses, load, run.settings)
    if not needs:
        return

    def processes_bytes(streams: int) -> int:
        # This process already has its context, which the card shows as used.
        workers = worker_processes(work, streams, len(run.jobs))
        return workers * WORKER_BYTES or NVDEC_CONTEXT_BYTES

    found = admit_streams(
        run.jobs,
        run.statuses,
        needs,
        card,
        run.streams,
        processes_bytes,
        queue=work.on_oom == "queue",
    )
    run.streams = max(1, found.at_a_time)
    sizes = [sum(terms.values()) for name, terms in needs if name not in found.refused]
    run.vram = VramLimit(card.limit_bytes, max(sizes, default=0))


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
