"""One node: an embedded server and a fleet of workers for the videos that a driver gives it.

A node is one GPU or one machine's share of cores. It does what a run on one machine does, with the
same server, fleet and workers; only the list of videos comes bit by bit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dualface_client import __version__
from dualface_client.batch.execute import STREAMS_PER_WORKER, deciding_processes
from dualface_client.batch.listener import Listener
from dualface_client.batch.prepare import choice_at, settings_of
from dualface_client.batch.resume import skip_finished
from dualface_client.batch.server import transport_of
from dualface_client.batch.servers import servers_for
from dualface_client.batch.shared_memory import check_shared_memory, shared_memory_of
from dualface_client.cluster.messages import News, NodePlan, Note, Order, Task
from dualface_client.errors import DualfaceError, PlatformError
from dualface_client.location import HERE
from dualface_client.memory.vram import Card, StreamShape, VramLimit, stream_terms
from dualface_client.objects.store import ObjectStore
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import ROOT, event_of
from dualface_client.observe.run_state import RunState
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.finished import identity, take_published
from dualface_client.stream.job import new_statuses
from dualface_client.stream.load import frames_held, load_of
from dualface_client.stream.pacing import card_of
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.reaper import reap_shared_memory
from dualface_client.video.outfile import is_being_written
from dualface_client.workers.fleet import Fleet
from dualface_client.workers.place import Losses, Place

#: More than any node runs at a time.
_MANY = 1 << 16
_LOOK_S = 0.02
_NOTES_LIMIT = 100
#: Workers have 8 s to finish their files, then they are killed.
_END_S = 30.0
#: Workers of a node that was lost end within 8 s; one that is only cut off may take longer.
_LOST_S = 120.0


class Node:
    """Works on the videos of one driver; its methods are called by one thread.

    The server starts at once, on a thread of its own.

    Args:
        plan: From the driver.
        cpus: Cores that are this node's.
    """

    def __init__(self, plan: NodePlan, cpus: int) -> None:
        self._plan = plan
        self._cpus = cpus
        self._stop = Stop()
        self._statuses: dict[str, StreamStatus] = {}
        self._sent: dict[str, StreamReport] = {}
        self._notes = _Notes()
        self._fleet: Fleet | None = None
        self._settings = plan.program.stream
        self._capacity = 0
        self._refused: DualfaceError | None = None
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)
        self._thread.start()

    def talk(self, order: Order) -> News:
        """Takes videos, and tells what has happened since the last call.

        Returns when a video has ended, and otherwise after `order.wait_s`.

        Args:
            order: What to do; videos only after the node has said its capacity.
        """
        for task in order.tasks:
            self._take(task)
        if order.stop:
            self._stop.ask()
        until_s = time.monotonic() + order.wait_s
        said = self._capacity, self._refused
        while time.monotonic() < until_s and said == (self._capacity, self._refused):
            if any(s.snapshot().state in FINAL_STATES for s in self._statuses.values()):
                break
            time.sleep(_LOOK_S)
        refused = self._refused
        return News(
            self._capacity,
            self._changed(),
            self._notes.taken(),
            str(refused) if refused else "",
            refused.exit_code if refused else 0,
        )

    def close(self) -> None:
        """Ends server and workers; videos that still run leave playable partial files."""
        self._stop.ask()
        self._thread.join(2 * _END_S)
        self._verifier.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        logger = logging.getLogger(ROOT)
        logger.addHandler(self._notes)
        try:
            with ExitStack() as stack:
                fleet = self._start(stack)
                while not self._stop.is_asked and not fleet.has_ended:
                    self._stop.event.wait(_LOOK_S * 10)
                fleet.join(0)
            if self._stop.error is not None:
                self._refused = self._stop.error
        except DualfaceError as error:
            self._refused = error
        finally:
            logger.removeHandler(self._notes)

    def _start(self, stack: ExitStack) -> Fleet:
        if self._plan.version != __version__:
            raise PlatformError(
                f"dualface-client {__version__} is installed here, the driver has "
                f"{self._plan.version}; install one version everywhere"
            )
        program = program_for(self._plan.program, self._cpus)
        choice = replace(choice_at(program, (HERE,)), has_live=False)
        device = choice.device
        streams, self._settings = settings_of(program, device, _MANY)
        workers = max(program.run.workers or 1, -(-streams // STREAMS_PER_WORKER))
        per_worker = -(-streams // workers)
        check_shared_memory(shared_memory_of(self._settings, choice, per_worker, workers))
        reap_shared_memory()
        state, losses = RunState(__version__, []), Losses()
        # What the listener is told is logged, and so becomes notes.
        (server,) = stack.enter_context(
            servers_for(choice, (HERE,), self._stop, Listener(), state, losses)
        )
        setup = worker_setup(self._plan, server.address, device, self._settings, streams, workers)
        if device == "cuda":
            card = card_of(program.run.vram_limit, server.location)
            setup = replace(setup, vram=memory_limit(card, self._settings))
        place = Place(setup, workers, server.location)
        fleet = Fleet([place], self._stop, state, losses=losses)
        fleet.start()
        stack.callback(fleet.join, _END_S)
        stack.callback(self._stop.ask)
        self._fleet = fleet
        self._capacity = workers * per_worker
        return fleet

    def _take(self, task: Task) -> None:
        (status,) = new_statuses([task.job])
        status.update(attempts=task.attempt)
        self._statuses[task.job.name] = status
        if task.may_be_finished:
            self._verifier.submit(self._verify, task, status)
        else:
            self._give(task, status)

    def _give(self, task: Task, status: StreamStatus) -> None:
        fleet = self._fleet
        if fleet is None:
            raise RuntimeError("a video came before the node said its capacity")
        fleet.give(task.job, status)

    def _verify(self, task: Task, status: StreamStatus) -> None:
        """Takes an output that is already there, once nobody writes it any more."""
        try:
            if task.attempt > 1 and task.job.output is not None:
                await_writer(task.job.output, self._stop.event, _LOST_S)
            if not is_replaced(task):
                take_existing(task, status, self._settings)
        except DualfaceError as error:
            status.update(state="failed", error=str(error), exit_code=error.exit_code)
        except Exception as error:  # shown as the video's, whose node goes on
            status.update(state="failed", error=f"unexpected {error!r}", exit_code=1)
        if status.snapshot().state not in FINAL_STATES:
            self._give(task, status)

    def _changed(self) -> tuple[StreamReport, ...]:
        found = {name: status.snapshot() for name, status in self._statuses.items()}
        changed = [found[name] for name in found if self._sent.get(name) is not found[name]]
        for report in changed:
            self._sent[report.name] = report
            if report.state in FINAL_STATES:
                del self._statuses[report.name], self._sent[report.name]
                if self._fleet is not None:
                    self._fleet.withdraw(report.name)
        return tuple(changed)


def program_for(program: ProgramSettings, cpus: int) -> ProgramSettings:
    """The settings on a node, whose share of the machine Ray knows and the machine does not say.

    Args:
        program: The driver's.
        cpus: Cores of the node.
    """
    run = program.run
    streams = run.streams or max(1, cpus // STREAMS_PER_WORKER)
    threads = program.server.model_threads or max(1, cpus)
    return replace(
        program,
        run=replace(run, streams=streams),
        server=replace(program.server, model_threads=threads),
    )


def memory_limit(card: Card | None, settings: StreamSettings) -> VramLimit | None:
    """How far workers of a node fill its GPU, whose videos are not known beforehand.

    Args:
        card: The GPU before the first stream; None if nothing says how full it is.
        settings: Of videos without settings of their own.

    Returns:
        With the need of a stream of 1080p; None without a card.
    """
    if card is None:
        return None
    load = load_of(settings, frames_held(settings))
    need = stream_terms(StreamShape("usual", 1920, 1080), load)
    return VramLimit(card.limit_bytes, sum(need.values()))


def worker_setup(
    plan: NodePlan, address: str, device: str, settings: StreamSettings, streams: int, workers: int
) -> WorkerSetup:
    """What the workers of a node are told.

    Args:
        plan: From the driver.
        address: Of the node's server.
        device: `cpu` or `cuda`.
        settings: Of videos without settings of their own.
        streams: How many run at a time in all workers.
        workers: Worker processes.
    """
    program = plan.program
    return WorkerSetup(
        address,
        device,
        settings,
        -(-streams // workers),
        plan.tracks,
        plan.overlay,
        program.monitor,
        open_access=True,
        deciders=deciding_processes(program.run, device, streams, workers),
        trace=program.trace,
        transport=transport_of(program),
    )


def is_replaced(task: Task) -> bool:
    """Whether what is there is the output that this run is asked to replace."""
    output, before = task.job.output, task.output_before
    return bool(before) and output is not None and identity(output) == before


def await_writer(output: Path, stop: threading.Event, limit_s: float) -> None:
    """Waits while another process writes an output, as one of a node that was lost may do.

    Args:
        output: The finished file's name.
        stop: Ends the wait.
        limit_s: So long at most; then the stream itself says what is wrong.
    """
    until_s = time.monotonic() + limit_s
    while is_being_written(output) and time.monotonic() < until_s:
        if stop.wait(_LOOK_S * 10):
            return


def take_existing(
    task: Task, status: StreamStatus, settings: StreamSettings, store: ObjectStore | None = None
) -> None:
    """Sets a stream to `done` whose output is there already, as in `skip_finished`.

    Args:
        task: One whose output may be finished.
        status: Its own.
        settings: How it is processed, if the job has no settings of its own.
        store: Where to look for an object, None for the usual one.
    """
    job, recorded = task.job, {"streams": [task.recorded]} if task.recorded else {}
    skip_finished([job], [status], recorded, settings)
    may_be_old = (job.settings or settings).output.overwrite
    if job.output_url and not may_be_old:
        take_published(job, status, store)
    if task.attempt > 1 and status.snapshot().state == "done":
        # Not an earlier run's, but this one's.
        status.update(resumed=False)
        status.warn("its node was lost after the output was complete; it was verified")


class _Notes(logging.Handler):
    """Keeps warnings for the driver, a limited number of them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[Note] = deque(maxlen=_NOTES_LIMIT)

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        if not event.stream:  # a stream's are in its report
            self.add(event.event, event.text, record.levelno)

    def add(self, event: str, text: str, level: int) -> None:
        self._kept.append(Note(event, text, level))

    def taken(self) -> tuple[Note, ...]:
        found = []
        while self._kept:
            found.append(self._kept.popleft())
        return tuple(found)
