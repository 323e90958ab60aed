"""Several worker processes on one server or more: hands out jobs, restarts workers that die.

A worker that dies takes its streams with it. They are started again, each alone in a worker, to
find out which one kills its worker. A stream under which three workers died is put aside, and its
report says how they died. Restarts of a worker wait, longer each time. What a dead worker left in
shared memory and registered with the server is cleaned up.

With several places (a server and its workers on each GPU), streams go where most is free. A place
that fails is left out, and its streams are started again at the others.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dualface_client.backoff import Backoff
from dualface_client.errors import DualfaceError, UsageError, relayed
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.observe.run_state import RunState, SlotFigures, WorkerState
from dualface_client.stream.finished import identity, take_finished, take_published
from dualface_client.stream.job import Job, ending, new_statuses
from dualface_client.stream.stop import Stop
from dualface_client.triton.access import OPEN_ACCESS
from dualface_client.triton.connection import Connection
from dualface_client.triton.reaper import reap_server, reap_shared_memory
from dualface_client.video.outfile import partial_path_of
from dualface_client.workers.link import Heard, WorkerLink, start_worker
from dualface_client.workers.messages import (
    Closed,
    Figures,
    LogLine,
    News,
    Progress,
    Ready,
    Refused,
    Reply,
    ServerAwaited,
    Shown,
    Steered,
    ToSupervisor,
)
from dualface_client.workers.patience import Patience, SilenceMonitor
from dualface_client.workers.place import Choosing, Losses, Place, may_be_the_places_fault

#: A stream is put aside after this many workers died under it.
STRIKES = 3
_POLL_S = 0.1
_QUEUE_LIMIT = 256


@dataclass(slots=True)
class Worker:
    """A worker across its restarts."""

    number: int
    backoff: Backoff
    place: Place
    link: WorkerLink | None = None
    restarts: int = 0
    start_at_s: float = 0.0


class Supervisor:
    """Runs jobs in worker processes until all have ended or a stop was asked for.

    Args:
        places: Servers with their workers; at least one.
        state: Told what the workers do, None for nothing.
        patience: Waiting times.
        losses: Says which places fail meanwhile, None for none.
    """

    def __init__(
        self,
        places: Sequence[Place],
        state: RunState | None = None,
        patience: Patience | None = None,
        losses: Losses | None = None,
    ) -> None:
        self._places = tuple(places)
        self._choosing = Choosing(self._places)
        self._losses = losses or queue.SimpleQueue()
        self._settings = places[0].setup.settings
        self._tries_elsewhere = True
        self._state = state
        self._patience = patience or Patience()
        self._silence = SilenceMonitor(self._patience)
        self._workers: list[Worker] = []
        # In turns, so that those that are started first are spread.
        for turn in range(max(place.workers for place in places)):
            for place in places:
                if turn < place.workers:
                    self._add_worker(place)
        self._heard: queue.Queue[Heard] = queue.Queue(_QUEUE_LIMIT)
        self._closing = threading.Event()
        self._waiting: deque[Job] = deque()
        self._strikes: Counter[str] = Counter()
        self._statuses: dict[str, StreamStatus] = {}
        self._outputs_before: dict[str, dict[str, Any]] = {}
        self._regions: dict[str, PoolReport] = {}
        self._died = False
        self._stop_at_s = 0.0
        self._stop_error: DualfaceError | None = None

    def run(
        self, jobs: Sequence[Job], statuses: Sequence[StreamStatus], stop: Stop
    ) -> dict[str, PoolReport]:
        """Runs every job that may be tried; a stream's failure ends up in its status.

        Args:
            jobs: From `jobs_of_inputs`.
            statuses: From `new_statuses`, kept up to date.
            stop: Asked from outside to end early: streams leave playable partial files.

        Returns:
            Figures of each worker's region, by worker.

        Raises:
            DualfaceError: No worker could open its session, or a photo does not fit: an error of
                the kind that the worker told. Or the last place is lost.
        """
        for job, status in zip(jobs, statuses, strict=True):
            if status.snapshot().state not in FINAL_STATES:
                self.add(job, status)
        try:
            while not self._is_over():
                if stop.is_asked:
                    self._ask_to_stop(stop.error)
                self._take_losses()
                self._before_round()
                self._start_due()
                self._hand_out()
                self._listen()
                self._silence.kill_silent(worker.link for worker in self._workers if worker.link)
        finally:
            self._close()
        return self._regions

    def add(self, job: Job, status: StreamStatus) -> None:
        """Puts a job into the queue."""
        self._waiting.append(job)
        self._statuses[job.name] = status
        self._outputs_before[job.name] = identity(job.output) if job.output else {}

    def _add_worker(self, place: Place) -> None:
        backoff = Backoff(self._patience.backoff_s, self._patience.backoff_limit_s)
        self._workers.append(Worker(len(self._workers) + 1, backoff, place))

    def _before_round(self) -> None:
        """For who gives out work of another kind."""

    def _has_ended(self) -> bool:
        return all(s.snapshot().state in FINAL_STATES for s in self._statuses.values())

    def _is_over(self) -> bool:
        if not self._has_ended():
            return False
        for worker in self._workers:
            if worker.link is not None:
                worker.link.end()
        if not self._stop_at_s:
            self._stop_at_s = time.monotonic() + self._patience.stop_s
        return all(worker.link is None for worker in self._workers) or self._is_late()

    def _is_late(self) -> bool:
        return bool(self._stop_at_s) and time.monotonic() > self._stop_at_s

    def _ask_to_stop(self, error: DualfaceError | None) -> None:
        if not self._stop_at_s:
            self._stop_error = error
            self._stop_at_s = time.monotonic() + self._patience.stop_s
            for worker in self._workers:
                if worker.link is not None:
                    worker.link.stop(error)
        while self._waiting:
            self._statuses[self._waiting.popleft().name].update(**ending(error))
        if self._is_late():
            for status in self._statuses.values():
                if status.snapshot().state not in FINAL_STATES:
                    status.update(**ending(error))
                    status.warn("its worker did not stop in time and was killed")

    def _start_due(self) -> None:
        for worker in self._workers:
            may = worker.link is None and not self._stop_at_s and not worker.place.lost
            if may and time.monotonic() >= worker.start_at_s and self._wants(worker):
                worker.link = start_worker(
                    worker.number,
                    worker.place.setup,
                    self._heard,
                    self._closing,
                    worker.place.location,
                )
                self._tell(worker)

    def _wants(self, worker: Worker) -> bool:
        """Whether one more process is to be started for the streams that wait."""
        return any(self._may_run(job, worker.place) for job in self._waiting)

    def _hand_out(self) -> None:
        """Gives jobs to those who may take one, where most is free."""
        while self._waiting:
            for worker in sorted(self._workers, key=lambda worker: self._load(worker.place)):
                job = self._next_for(worker)
                if worker.link is not None and job is not None:
                    self._give(worker.link, worker.place, job)
                    self._tell(worker)
                    break
            else:
                return

    def _load(self, place: Place) -> float:
        """Streams at a place, as a share of those for which it has room."""
        links = (worker.link for worker in self._workers if worker.place is place)
        running = sum(len(link.running) for link in links if link is not None)
        return running / (place.workers * place.setup.streams)

    def _give(self, link: WorkerLink, place: Place, job: Job) -> None:
        self._waiting.remove(job)
        if place.name:
            self._statuses[job.name].update(place=place.name)
        link.give(job)

    def _next_for(self, worker: Worker) -> Job | None:
        """The next job that this worker may take: one that has killed a worker runs alone."""
        link = worker.link
        if link is None or not link.ready or not self._is_open(worker):
            return None
        fit = (
            job
            for job in self._waiting
            if self._may_join(job, link) and self._may_run(job, worker.place)
        )
        return next(fit, None)

    def _is_open(self, worker: Worker) -> bool:
        """Whether it has room for one more stream, now or when it is ready."""
        link, place = worker.link, worker.place
        if link is None or link.told_to_end or place.lost:
            return False
        if any(self._strikes[name] for name in link.running):
            return False
        return len(link.running) < place.setup.streams

    def _may_join(self, job: Job, link: WorkerLink) -> bool:
        return not link.running or not self._strikes[job.name]

    def _may_run(self, job: Job, place: Place) -> bool:
        return self._choosing.may_run(job, place)

    def _listen(self) -> None:
        wait_s = _POLL_S
        for _ in range(_QUEUE_LIMIT):  # take all that is there, before silence is judged
            try:
                heard = self._heard.get(timeout=wait_s)
            except queue.Empty:  # nothing more for now
                return
            wait_s = 0.0
            worker = self._workers[heard.link.number - 1]
            if heard.message is None:
                self._on_end(worker, heard.link)
            else:
                self._on_message(worker, heard.link, heard.message)

    def _on_message(self, worker: Worker, link: WorkerLink, message: ToSupervisor) -> None:
        match message:
            case Ready():
                link.ready = worker.place.ever_ready = True
                worker.place.refusals = 0
            case Refused(error, exit_code):
                link.refused = relayed(error, exit_code)
            case ServerAwaited() | Figures():
                self._pass_on(worker, message)
            case Progress(report) if report.state in FINAL_STATES:
                self._on_final(worker, link, report)
            case Progress(report):
                self._take(report)
            case Steered() | Shown():
                self._on_reply(message)
            case Closed(region):
                self._regions[f"worker {link.number}"] = region
            case LogLine():
                log_event(
                    message.event,
                    message.text,
                    stream=message.stream,
                    level=message.level,
                    worker=link.number,
                    **({"trace": message.trace} if message.trace else {}),
                )

    def _on_final(self, worker: Worker, link: WorkerLink, report: StreamReport) -> None:
        job = link.running.pop(report.name, None)
        worker.backoff.reset()
        if job is None or not self._is_moved(job, worker.place, report):
            self._take(report)
            self._on_stream_end(report.name)
        self._tell(worker)
        if job is not None and report.state in ("done", "incomplete"):
            for place in self._choosing.note_success(job, worker.place):
                text = f"{place.failures} streams failed there and were made elsewhere"
                self._lose(place, DualfaceError(text))

    def _is_moved(self, job: Job, place: Place, report: StreamReport) -> bool:
        """Whether a stream that failed is started again at another place."""
        if self._stop_at_s or not self._tries_elsewhere or not may_be_the_places_fault(report):
            return False
        if not self._choosing.note_failure(job, place):
            return False
        self._begin_again(job, f"{place.name}: {report.error}; started again at another place")
        return True

    def _on_stream_end(self, name: str) -> None:
        """For who has to know at once."""

    def _on_reply(self, reply: Reply) -> None:
        """For who steers streams and looks at them."""

    def _take(self, report: StreamReport) -> None:
        status = self._statuses[report.name]
        before = status.snapshot()
        notes = tuple(dict.fromkeys((*before.warnings, *report.warnings)))
        status.take(replace(report, warnings=notes, attempts=before.attempts, place=before.place))

    def _on_end(self, worker: Worker, link: WorkerLink) -> None:
        worker.link = None
        link.close()
        self._tell(worker)
        orderly = link.told_to_end and not link.process.returncode
        if not (orderly or link.ready):
            self._on_refusal(worker, link)
        elif not orderly:
            self._on_death(worker, link)
        self._tell(worker)

    def _on_refusal(self, worker: Worker, link: WorkerLink) -> None:
        """It never reached a stream: the server or the machine is at fault."""
        place = worker.place
        if link.told_to_end or self._stop_at_s or place.lost:
            return  # it is no longer needed
        place.refusals += 1
        error = link.refused or relayed(
            f"{link.how_it_ended()} before it was ready: {' | '.join(link.tail)}", 1
        )
        # Workers that are working continue, and take the waiting streams too.
        others_work = any(
            other.link is not None and other.link.ready
            for other in self._workers
            if other.place is place
        )
        limit = STRIKES * sum(other.place is place for other in self._workers)
        if not place.ever_ready or (place.refusals >= limit and not others_work):
            self._lose(place, error)
            return
        self._schedule(worker, f"worker {link.number} has no session: {error}")

    def _on_death(self, worker: Worker, link: WorkerLink) -> None:
        how = link.how_it_ended()
        victims = list(link.running.values())
        names = ", ".join(job.name for job in victims) or "no stream"
        self._died = True
        self._reap()
        if self._stop_at_s:
            log_event(
                "worker_died",
                f"worker {link.number} died while stopping ({how})",
                level=logging.ERROR,
            )
            for job in victims:
                self._statuses[job.name].update(**ending(self._stop_error))
            return
        if worker.place.lost:
            for job in reversed(victims):
                self._leave_lost(job, worker.place)
            return
        for job in reversed(victims):
            if self._tries_elsewhere:
                self._choosing.note_failure(job, worker.place)
            self._strike(job, how, link)
        self._schedule(worker, f"worker {link.number} died ({how}) under {names}")

    def _schedule(self, worker: Worker, text: str) -> None:
        worker.backoff.fail()
        wait_s = worker.backoff.pause_s
        worker.restarts += 1
        worker.start_at_s = time.monotonic() + wait_s
        log_event(
            "worker_died",
            f"{text}; it is restarted in {wait_s:g} s" if self._waiting else text,
            level=logging.WARNING,
            worker=worker.number,
        )

    def _was_finished(self, job: Job, how: str) -> bool:
        """Whether the output was complete before its worker could say so."""
        status, settings = self._statuses[job.name], self._settings
        if job.output_url:
            may_be_old = (job.settings or settings).output.overwrite
            finished = not may_be_old and take_published(job, status)
        elif job.output is None:
            return False
        else:
            found = identity(job.output)
            if not found or found == self._outputs_before[job.name]:  # none, or one to be replaced
                return False
            finished = take_finished(job, status, settings)
        if finished:
            status.warn(f"its worker died ({how}) after the output was complete; it was verified")
        return finished

    def _strike(self, job: Job, how: str, link: WorkerLink) -> None:
        status = self._statuses[job.name]
        if self._was_finished(job, how):
            return
        self._strikes[job.name] += 1
        if self._strikes[job.name] >= STRIKES:
            last = f"; its last words: {' | '.join(link.tail)}" if link.tail else ""
            status.update(
                state="failed",
                exit_code=1,
                error=f"{job.shown_input}: put aside: {STRIKES} workers died under it "
                f"({how}){last}",
                partial_output=_left_by(job),
            )
            return
        self._begin_again(job, f"its worker died ({how}); started again from the beginning")

    def _begin_again(self, job: Job, note: str) -> None:
        """Puts a stream back into the queue, as the first one."""
        status = self._statuses[job.name]
        (fresh,) = new_statuses([job])
        before = status.snapshot()
        status.take(
            replace(
                fresh.snapshot(),
                warnings=tuple(dict.fromkeys((*before.warnings, note))),
                attempts=before.attempts + 1,
            )
        )
        self._waiting.appendleft(job)

    # -- places that fail -------------------------------------------------------------------------

    def _take_losses(self) -> None:
        """Leaves out what was said, on other threads, to have failed."""
        while True:
            try:
                name, error = self._losses.get_nowait()
            except queue.Empty:  # all of it is known
                return
            for place in self._places:
                if place.name == name and not self._stop_at_s:
                    self._lose(place, error)

    def _lose(self, place: Place, error: DualfaceError) -> None:
        """Runs nothing more at a place; its streams go to the others.

        Raises:
            DualfaceError: The error, if there are no others or the user has to mend something.
        """
        if place.lost:
            return
        place.lost = str(error)
        others = ", ".join(other.name for other in self._choosing.living())
        if not others or isinstance(error, UsageError):
            self._end_all(error)
            raise error
        text = f"{place.name} is left out: {error}; its streams go to {others}"
        log_event("place_lost", text, level=logging.ERROR, place=place.name)
        if self._state is not None:
            self._state.lose_place(place.name, str(error))
        for worker in self._workers:
            if worker.place is place and worker.link is not None:
                worker.link.kill()
        for job in [job for job in self._waiting if not self._choosing.fitting(job)]:
            self._waiting.remove(job)
            self._fail_homeless(job)

    def _leave_lost(self, job: Job, place: Place) -> None:
        """A stream's place failed under it, which is no fault of its own."""
        if self._was_finished(job, f"{place.name} failed"):
            return
        if self._choosing.fitting(job):
            self._begin_again(job, f"{place.name} failed; started again at another place")
        else:
            self._fail_homeless(job)

    def _fail_homeless(self, job: Job) -> None:
        text = f"{job.shown_input}: fits only in memory of a GPU that is left out"
        self._statuses[job.name].update(
            state="failed", error=text, exit_code=1, partial_output=_left_by(job)
        )

    def _end_all(self, error: DualfaceError) -> None:
        for status in self._statuses.values():
            if status.snapshot().state not in FINAL_STATES:
                status.update(**ending(error))

    def _reap(self) -> None:
        """Removes a dead worker's files, and what the servers still hold of them."""
        for setup in (place.setup for place in self._choosing.living()):
            access = OPEN_ACCESS if setup.open_access else None
            # Perhaps the server died.
            with suppress(DualfaceError), Connection(setup.address, access) as server:
                reap_server(server)
        reap_shared_memory()

    def _tell(self, worker: Worker) -> None:
        if self._state is None:
            return
        link = worker.link
        self._state.set_worker(
            WorkerState(
                worker.number,
                link.process.pid if link else 0,
                worker.restarts,
                tuple(link.running) if link else (),
                place=worker.place.name,
            )
        )

    def _pass_on(self, worker: Worker, news: News) -> None:
        if self._state is None:
            return
        match news:
            case ServerAwaited():
                self._state.await_server(self._settings.server_wait_s)
            case Figures(region, requests):
                self._state.set_figures(worker.number, _slots_of(region), requests)

    def _close(self) -> None:
        self._closing.set()
        for worker in self._workers:
            if worker.link is not None:
                worker.link.close()
                worker.link = None
                self._tell(worker)
                self._died = True
        if self._died:
            self._reap()  # again: before, the server was still at a dead worker's last request


def _left_by(job: Job) -> str:
    """The unfinished output of a dead worker, empty if there is none."""
    partial = partial_path_of(job.output) if job.output is not None else None
    return str(partial) if partial is not None and partial.exists() else ""


def _slots_of(region: PoolReport) -> dict[str, SlotFigures]:
    return {
        model: SlotFigures(counts.capacity, counts.leased, counts.quarantined, counts.wait_s)
        for model, counts in region.classes.items()
    }
