"""Workers whose streams come and go: the supervisor without an end of its own.

A run has a fixed list of videos and ends with the last one. A fleet stays: streams are added,
steered and removed on any thread while the others go on. Workers are started when they are needed,
the first one for the first stream.

Where a worker died under several live streams, it is not known which of them killed it. In a run
each is tried alone, one after the other; here that would keep all but one from running at all.
So each gets a worker of its own, beyond the usual number if need be, and is no longer suspected
once it has run for `Patience.forgive_s`.

Whoever gives a stream starts it again after a failure, as a new one. So where it failed is
remembered beyond its end, for `Patience.avoid_s`: a place that is broken is the emptiest of all,
and would get it again and again.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from msgspec import structs

from dualface_client.errors import DualfaceError
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_state import RunState
from dualface_client.stream.job import Job, ending
from dualface_client.stream.preview import Preview
from dualface_client.stream.stop import Stop
from dualface_client.workers.link import WorkerLink
from dualface_client.workers.messages import Reply, Shown, Steered, SteerStream, WatchStream
from dualface_client.workers.patience import Patience
from dualface_client.workers.place import Losses, Place, may_be_the_places_fault
from dualface_client.workers.supervisor import Supervisor, Worker

#: A picture that is older than this is no live picture any more.
_STALE_S = 15.0
#: Streams whose failures are remembered; names come from requests, without end.
_REMEMBERED = 256


class Fleet(Supervisor):
    """Runs streams until a stop is asked for; its thread is started by `start`.

    Args:
        places: Servers with their workers, those for suspected streams apart.
        stop: Asked to end everything: streams leave playable files.
        state: Told what the workers do.
        patience: Waiting times.
    """

    def __init__(
        self,
        places: Sequence[Place],
        stop: Stop,
        state: RunState | None = None,
        patience: Patience | None = None,
        losses: Losses | None = None,
    ) -> None:
        # Who runs the fleet starts a stream that failed again, after a while.
        super().__init__(places, state, patience, losses)
        self._tries_elsewhere = False
        self._usual_workers = len(self._workers)
        self._stop = stop
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._unwanted: set[str] = set()
        self._given_s: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[WorkerLink, Future[str]]] = {}
        self._previews: dict[str, tuple[float, Preview]] = {}
        self._error: DualfaceError | None = None
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        """Begins; the first worker is started with the first stream."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the end of everything, after a stop.

        Returns:
            Whether it has ended.

        Raises:
            DualfaceError: What ended it without a stop: no worker gets a session.
        """
        self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, by a stop or by an error, which `join` raises."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def give(self, job: Job, status: StreamStatus) -> None:
        """Adds a stream.

        Args:
            job: Its name is no other stream's.
            status: From `new_statuses`, kept up to date.
        """
        self._requests.put(partial(self.add, job, status))

    def withdraw(self, name: str) -> None:
        """Ends a stream, whose status says when it has ended; then its name is free again."""
        self._requests.put(partial(self._withdraw, name))

    def steer(self, wish: SteerStream) -> Future[str]:
        """Changes a running stream.

        Args:
            wish: What; its number is given here.

        Returns:
            Why it could not be done, empty for done.
        """
        answer: Future[str] = Future()
        self._requests.put(partial(self._steer, wish, answer))
        return answer

    def watch(self, name: str, seconds: float) -> None:
        """Has a stream send its pictures for this long; nobody looking costs nothing."""
        self._requests.put(partial(self._watch, name, seconds))

    def preview(self, name: str) -> Preview | None:
        """What a stream showed last, None if that was too long ago; a new one is a new object."""
        shown_s, preview = self._previews.get(name, (0.0, None))
        return preview if time.monotonic() - shown_s < _STALE_S else None

    def _run(self) -> None:
        try:
            super().run([], [], self._stop)
        except DualfaceError as error:
            self._error = error
        finally:
            for _, answer in self._answers.values():
                answer.set_result("the program is stopping")
            for status in self._statuses.values():
                if status.snapshot().state not in FINAL_STATES:
                    status.update(**ending(self._error))

    def _before_round(self) -> None:
        while True:
            try:
                self._requests.get_nowait()()
            except queue.Empty:  # all of them are done
                break
        self._forgive()
        self._choosing.forget_older(time.monotonic() - self._patience.avoid_s, _REMEMBERED)
        self._retire()

    def _has_ended(self) -> bool:
        return bool(self._stop_at_s) and super()._has_ended()

    # -- requests, on the fleet's thread ----------------------------------------------------------

    def _withdraw(self, name: str) -> None:
        status = self._statuses.get(name)
        if status is None:
            return
        for job in self._waiting:
            if job.name == name:
                self._waiting.remove(job)
                status.update(**ending(None))
                break
        if (link := self._link_of(name)) is not None:
            self._unwanted.add(name)
            link.stop_stream(name)
        else:
            self._forget(name)

    def _steer(self, wish: SteerStream, answer: Future[str]) -> None:
        link = self._link_of(wish.stream)
        if link is None:
            answer.set_result("the stream is not running")
            return
        number = next(self._numbers)
        self._answers[number] = link, answer
        link.send(structs.replace(wish, number=number))

    def _watch(self, name: str, seconds: float) -> None:
        if (link := self._link_of(name)) is not None:
            link.send(WatchStream(name, seconds))

    def _link_of(self, name: str) -> WorkerLink | None:
        links = (worker.link for worker in self._workers)
        return next((link for link in links if link is not None and name in link.running), None)

    def _forget(self, name: str) -> None:
        self._unwanted.discard(name)
        self._given_s.pop(name, None)
        self._previews.pop(name, None)
        for by_name in (self._statuses, self._outputs_before, self._strikes):
            by_name.pop(name, None)

    # -- what workers say -------------------------------------------------------------------------

    def _on_end(self, worker: Worker, link: WorkerLink) -> None:
        for number in [number for number, (asked, _) in self._answers.items() if asked is link]:
            self._answers.pop(number)[1].set_result("its worker ended before it could be done")
        super()._on_end(worker, link)

    def _is_moved(self, job: Job, place: Place, report: StreamReport) -> bool:
        """Not by the fleet; whoever gave the stream starts it again, then at a better place."""
        if not self._stop_at_s and may_be_the_places_fault(report):
            self._choosing.note_failure(job, place)
        return False

    def _on_stream_end(self, name: str) -> None:
        if name in self._unwanted:
            self._forget(name)

    def _on_reply(self, reply: Reply) -> None:
        match reply:
            case Steered(number, problem):
                if number in self._answers:
                    self._answers.pop(number)[1].set_result(problem)
            case Shown(name, preview):
                if name in self._statuses and name not in self._unwanted:
                    self._previews[name] = time.monotonic(), preview

    def _strike(self, job: Job, how: str, link: WorkerLink) -> None:
        if job.name in self._unwanted:
            self._end_unwanted(job.name)
        else:
            super()._strike(job, how, link)

    def _leave_lost(self, job: Job, place: Place) -> None:
        if job.name in self._unwanted:
            self._end_unwanted(job.name)
        else:
            self._given_s.pop(job.name, None)
            super()._leave_lost(job, place)

    def _end_unwanted(self, name: str) -> None:
        """Its worker died while it was ending: nobody wants it started again."""
        self._statuses[name].update(**ending(None))
        self._forget(name)

    # -- how many workers -------------------------------------------------------------------------

    def _may_run(self, job: Job, place: Place) -> bool:
        """Where it is best started; a stream that is to run for ever waits for no room there."""
        if place in (preferred := self._choosing.preferred(job)):
            return True
        return place in self._choosing.fitting(job) and not self._have_room(preferred, job)

    def _have_room(self, places: Sequence[Place], job: Job) -> bool:
        return any(
            worker.place in places and self._is_open(worker) and self._may_join(job, worker.link)
            for worker in self._workers
            if worker.link is not None
        )

    def _wants(self, worker: Worker) -> bool:
        return self._needs_more(worker.place) or self._is_missed(worker.place)

    def _is_missed(self, place: Place) -> bool:
        """Whether a stream had better be started there, but finds no room."""
        for job in self._waiting:
            preferred = self._choosing.preferred(job)
            is_choosy = len(preferred) < len(self._choosing.fitting(job))
            if is_choosy and place in preferred and not self._have_room(preferred, job):
                return True
        return False

    def _needs_more(self, place: Place) -> bool:
        """Whether there are too few processes; each of several places has one at once."""
        here = [worker.link for worker in self._workers if worker.place is place]
        if len(self._places) > 1 and self._waiting and not any(here):
            return True
        streams = place.setup.streams
        links = [other.link for other in self._workers if other.link is not None]
        links = [link for link in links if not link.told_to_end]
        alone = sum(bool(self._strikes[job.name]) for job in self._waiting)
        empty = sum(not link.running for link in links)
        open_links = [link for link in links if not self._is_reserved(link)]
        room = sum(streams - len(link.running) for link in open_links)
        room -= streams * min(alone, empty)
        return alone > empty or len(self._waiting) - alone > room

    def _is_reserved(self, link: WorkerLink) -> bool:
        return any(self._strikes[name] for name in link.running)

    def _start_due(self) -> None:
        all_run = all(w.link is not None for w in self._workers if not w.place.lost)
        alone = any(self._strikes[job.name] for job in self._waiting)
        place = min(self._choosing.living(), key=self._load)
        if all_run and alone and self._needs_more(place) and not self._stop_at_s:
            self._add_worker(place)
        super()._start_due()

    def _hand_out(self) -> None:
        super()._hand_out()
        now_s = time.monotonic()
        for worker in self._workers:
            for name in worker.link.running if worker.link is not None else ():
                self._given_s.setdefault(name, now_s)

    def _forgive(self) -> None:
        """Suspects no longer who has run well for a while, nor its place."""
        since_s = time.monotonic() - self._patience.forgive_s
        for worker in self._workers:
            for name in worker.link.running if worker.link is not None else ():
                if self._given_s.get(name, since_s + 1) <= since_s:
                    self._choosing.forgive(name, worker.place)
        for name in [name for name, strikes in self._strikes.items() if strikes]:
            link = self._link_of(name)
            if link is None:
                self._given_s.pop(name, None)
            elif self._given_s.get(name, since_s + 1) <= since_s:
                del self._strikes[name]

    def _retire(self) -> None:
        """Ends workers that have nothing left to do, as long as there are more than usual."""
        links = [worker.link for worker in self._workers if worker.link is not None]
        links = [link for link in links if not link.told_to_end]
        idle = [link for link in links if link.ready and not link.running]
        too_many = max(0, len(links) - self._usual_workers)
        for link in idle[:too_many] if not self._waiting else ():
            link.end()
