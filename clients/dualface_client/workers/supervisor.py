"""Several worker processes on one server: hands out jobs and restarts workers that die.

A worker that dies takes its streams with it. They are started again, each alone in a worker, to
find out which one kills its worker. A stream under which three workers died is put aside, and its
report says how they died. Restarts of a worker wait, longer each time. What a dead worker left in
shared memory and registered with the server is cleaned up.
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
from dualface_client.errors import DualfaceError, relayed
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.observe.run_state import RunState, SlotFigures, WorkerState
from dualface_client.stream.finished import identity, take_finished, take_published
from dualface_client.stream.job import Job, ending, new_statuses
from dualface_client.stream.setup import WorkerSetup
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

#: A stream is put aside after this many workers died under it.
STRIKES = 3
_POLL_S = 0.1
_QUEUE_LIMIT = 256


@dataclass(slots=True)
class Worker:
    """A worker across its restarts."""

    number: int
    backoff: Backoff
    link: WorkerLink | None = None
    restarts: int = 0
    start_at_s: float = 0.0


class Supervisor:
    """Runs jobs in worker processes until all have ended or a stop was asked for.

    Args:
        setup: What each worker is told.
        workers: How many processes.
        state: Told what the workers do, None for nothing.
        patience: Waiting times.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        workers: int,
        state: RunState | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._setup = setup
        self._state = state
        self._patience = patience or Patience()
        self._silence = SilenceMonitor(self._patience)
        self._workers = [
            Worker(number, Backoff(self._patience.backoff_s, self._patience.backoff_limit_s))
            for number in range(1, workers + 1)
        ]
        self._heard: queue.Queue[Heard] = queue.Queue(_QUEUE_LIMIT)
        self._closing = threading.Event()
        self._waiting: deque[Job] = deque()
        self._strikes: Counter[str] = Counter()
        self._statuses: dict[str, StreamStatus] = {}
        self._outputs_before: dict[str, dict[str, Any]] = {}
        self._regions: dict[str, PoolReport] = {}
        self._refusals = 0
        self._ever_ready = False
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
                the kind that the worker told.
        """
        for job, status in zip(jobs, statuses, strict=True):
            if status.snapshot().state not in FINAL_STATES:
                self.add(job, status)
        try:
            while not self._is_over():
                if stop.is_asked:
                    self._ask_to_stop(stop.error)
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
            wanted = worker.link is None and not self._stop_at_s and self._wants_worker()
            if wanted and time.monotonic() >= worker.start_at_s:
                worker.link = start_worker(worker.number, self._setup, self._heard, self._closing)
                self._tell(worker)

    def _wants_worker(self) -> bool:
        """Whether one more process is to be started for the streams that wait."""
        return bool(self._waiting)

    def _hand_out(self) -> None:
        for worker in self._workers:
            link = worker.link
            while link is not None and link.ready and not link.told_to_end:
                job = self._next_for(link)
                if job is None:
                    break
                self._waiting.remove(job)
                link.give(job)
                self._tell(worker)

    def _next_for(self, link: WorkerLink) -> Job | None:
        """The next job that this worker may take: one that has killed a worker runs alone."""
        if any(self._strikes[name] for name in link.running):
            return None
        if len(link.running) >= self._setup.streams:
            return None
        fit = (job for job in self._waiting if not link.running or not self._strikes[job.name])
        return next(fit, None)

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
                link.ready = self._ever_ready = True
                self._refusals = 0
            case Refused(error, exit_code):
                link.refused = relayed(error, exit_code)
            case ServerAwaited() | Figures():
                self._pass_on(worker, message)
            case Progress(report):
                self._take(report)
                if report.state in FINAL_STATES:
                    link.running.pop(report.name, None)
                    worker.backoff.reset()
                    self._tell(worker)
                    self._on_stream_end(report.name)
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

    def _on_stream_end(self, name: str) -> None:
        """For who has to know at once."""

    def _on_reply(self, reply: Reply) -> None:
        """For who steers streams and looks at them."""

    def _take(self, report: StreamReport) -> None:
        status = self._statuses[report.name]
        before = status.snapshot()
        notes = tuple(dict.fromkeys((*before.warnings, *report.warnings)))
        status.take(replace(report, warnings=notes, attempts=before.attempts))

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
        if link.told_to_end or self._stop_at_s:
            return  # it is no longer needed
        self._refusals += 1
        error = link.refused or relayed(
            f"{link.how_it_ended()} before it was ready: {' | '.join(link.tail)}", 1
        )
        # Workers that are working continue, and take the waiting streams too.
        others_work = any(other.link is not None and other.link.ready for other in self._workers)
        if not self._ever_ready or (
            self._refusals >= STRIKES * len(self._workers) and not others_work
        ):
            raise error
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
        for job in reversed(victims):
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
        status, settings = self._statuses[job.name], self._setup.settings
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
        (fresh,) = new_statuses([job])
        before = status.snapshot()
        note = f"its worker died ({how}); started again from the beginning"
        status.take(
            replace(
                fresh.snapshot(),
                warnings=tuple(dict.fromkeys((*before.warnings, note))),
                attempts=before.attempts + 1,
            )
        )
        self._waiting.appendleft(job)

    def _reap(self) -> None:
        """Removes a dead worker's files, and what the server still holds of them."""
        access = OPEN_ACCESS if self._setup.open_access else None
        # Perhaps the server died.
        with suppress(DualfaceError), Connection(self._setup.address, access) as server:
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
            )
        )

    def _pass_on(self, worker: Worker, news: News) -> None:
        if self._state is None:
            return
        match news:
            case ServerAwaited():
                self._state.await_server(self._setup.settings.server_wait_s)
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
