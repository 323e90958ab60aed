"""Keeps running what should run: compares the desired streams with the fleet's, again and again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from dualface_client.backoff import Backoff
from dualface_client.batch.live_jobs import place_of
from dualface_client.batch.outputs import new_directories
from dualface_client.config.streams_file import StreamEntry
from dualface_client.daemon.desired import DesiredStream, DesiredStreams, NotSavedError
from dualface_client.errors import DualfaceError
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.observe.run_state import RunState
from dualface_client.settings.addresses import scheme_of, shown
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.preview import Preview
from dualface_client.workers.messages import SteerStream

_TICK_S = 0.2
#: A stream that failed is started again after this long, doubling up to the limit.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
#: A stream that ran for this long was not broken from the start.
_CALM_S = 30.0
#: How long a request waits for what it asked for.
END_WAIT_S = 10.0
#: Exit code of what the inference server did, which is no fault of the input.
_SERVER_FAILED = 3

#: What a wish means for the settings of a stream.
Change = Callable[[DesiredStream], DesiredStream]


@dataclass(slots=True)
class _Carried:
    """A stream that the fleet has.

    Attributes:
        desired: As it was when it was given to the fleet, with what was changed while it ran.
        job: What the fleet was given.
        status: How it is doing.
        ends: Whether it was withdrawn from the fleet.
        again: Whether it is to be started again, although nothing about it has changed.
    """

    desired: DesiredStream
    job: Job
    status: StreamStatus
    since_s: float
    ends: bool = False
    again: bool = False


@dataclass(slots=True)
class _Past:
    """What outlives a start of a stream."""

    backoff: Backoff = field(default_factory=lambda: Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S))
    restarts: int = 0
    next_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream as requests see it.

    Attributes:
        desired: What should run.
        from_file: Whether the file of streams has it.
        report: How it is doing; None until the fleet has it.
        restarts: How often it was started again.
    """

    desired: DesiredStream
    from_file: bool
    report: StreamReport | None
    restarts: int


class NoSuchStreamError(DualfaceError):
    """No stream has this name."""


class ConflictError(DualfaceError):
    """The request is understood, but cannot be carried out as things stand."""


class Carrier(Protocol):
    """Who runs the streams: `workers.fleet.Fleet`, whose methods these are."""

    def give(self, job: Job, status: StreamStatus) -> None:
        """Adds a stream."""

    def withdraw(self, name: str) -> None:
        """Ends a stream, whose status says when it has ended."""

    def steer(self, wish: SteerStream) -> Future[str]:
        """Changes a running stream; the result says why not, empty for done."""

    def watch(self, name: str, seconds: float) -> None:
        """Has a stream send its pictures for this long."""

    def preview(self, name: str) -> Preview | None:
        """What a stream showed last, None if that was too long ago; a new one is a new object."""


class Keeper:
    """The desired streams and the fleet that carries them; thread-safe.

    Args:
        desired: What should run; not used by anybody else from now on.
        carrier: Started; carries the streams.
        state: Told which streams there are.
        job_of: Makes the job of a stream; raises `DualfaceError` if it cannot be processed.
        limit: Most streams at a time.
        is_made: Whether the output of a job is there and stays.
        steer_wait_s: How long a request waits for a frame with which it is done.
        refusal_of: Why the machine has no room for a job that is to be added, empty if it has.

    Attributes:
        carrier: As above.
    """

    def __init__(
        self,
        desired: DesiredStreams,
        carrier: Carrier,
        state: RunState,
        job_of: Callable[[DesiredStream], Job],
        limit: int,
        is_made: Callable[[Job], bool] = lambda job: False,
        steer_wait_s: float = 5.0,
        refusal_of: Callable[[Job], str] = lambda job: "",
    ) -> None:
        self._desired = desired
        self.carrier = carrier
        self._state = state
        self._job_of = job_of
        self._limit = limit
        self._is_made = is_made
        self._steer_wait_s = steer_wait_s
        self._refusal_of = refusal_of
        self._changed = threading.Condition(threading.RLock())
        self._carried: dict[str, _Carried] = {}
        self._past: dict[str, _Past] = {}

    # -- what there is ----------------------------------------------------------------------------

    def streams(self) -> list[StreamState]:
        """All streams, in the order in which they came."""
        with self._changed:
            return [self._state_of(stream) for stream in self._desired.streams.values()]

    def stream(self, name: str) -> StreamState:
        """One stream.

        Raises:
            NoSuchStreamError: There is none of this name.
        """
        with self._changed:
            return self._state_of(self._wanted(name))

    def _state_of(self, stream: DesiredStream) -> StreamState:
        carried, past = self._carried.get(stream.name), self._past.get(stream.name)
        return StreamState(
            stream,
            self._desired.is_from_file(stream.name),
            carried.status.snapshot() if carried else None,
            past.restarts if past else 0,
        )

    def _wanted(self, name: str) -> DesiredStream:
        found = self._desired.streams.get(name)
        if found is None:
            raise NoSuchStreamError(f"{name}: no stream has this name")
        return found

    # -- what requests change ---------------------------------------------------------------------

    def take_file(self, entries: list[StreamEntry]) -> None:
        """Takes the file of streams in: what is new starts, what has gone ends.

        Raises:
            NotSavedError: The state file cannot be written; nothing was changed.
        """
        with self._changed:
            self._desired.take_file(entries)
            self._changed.notify_all()

    def add(self, stream: DesiredStream) -> None:
        """Adds a stream.

        Raises:
            ConflictError: Its name or its output is taken, there are too many streams, or the
                machine has no room for it.
            NotSavedError: The state file cannot be written; it was not added.
            DualfaceError: It cannot be processed.
        """
        with self._changed:
            streams = self._desired.streams
            if stream.name in streams or stream.name in self._carried:
                raise ConflictError(
                    f"{stream.name}: there is a stream of this name; choose another"
                )
            if len(streams) >= self._limit:
                raise ConflictError(
                    f"{len(streams)} streams run, as many as may; remove one, or raise --streams"
                )
            places = set(filter(None, map(place_of, stream.outputs)))
            same = [each.name for each in streams.values() if places & set(each.outputs)]
            if same:
                raise ConflictError(f"output: stream {same[0]} writes there; choose another")
            if why := self._refusal_of(self._job_of(stream)):
                raise ConflictError(f"{stream.name}: {why}")
            self._desired.add(stream)
            self._changed.notify_all()

    def remove(self, name: str, wait_s: float = END_WAIT_S) -> bool:
        """Removes a stream, whose files stay playable.

        Args:
            name: Which.
            wait_s: How long to wait for its end, seconds.

        Returns:
            Whether it has ended; if not yet, it will.

        Raises:
            NoSuchStreamError: There is none of this name.
            NotSavedError: The state file cannot be written; it goes on.
        """
        with self._changed:
            self._wanted(name)
            self._desired.remove(name)
            self._past.pop(name, None)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: name not in self._carried, wait_s)

    def restart(self, name: str, wait_s: float = END_WAIT_S) -> bool:
        """Ends a stream and starts it anew, without a pause after earlier failures.

        Returns:
            Whether it has ended and is being started.

        Raises:
            NoSuchStreamError: There is none of this name.
        """
        with self._changed:
            self._wanted(name)
            past = self._past.setdefault(name, _Past())
            past.backoff.reset()
            past.next_s = 0.0
            carried = self._carried.get(name)
            if carried is None:
                return True
            carried.again = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._carried.get(name) is not carried, wait_s)

    def steer(self, wish: SteerStream, change: Change | None) -> bool:
        """Changes a running stream, and remembers it for its next start.

        Args:
            wish: What.
            change: Gives a stream the settings that say the same; tried before anything is done,
                and called again, under a lock, with what is to be remembered once it is done. None
                for what does not outlive a start.

        Returns:
            Whether it is done; if no frame came yet, it is done with the next one.

        Raises:
            NoSuchStreamError: There is none of this name.
            ConflictError: It is not running, or refuses.
            NotSavedError: It is done, but the state file cannot be written.
            DualfaceError: `change` says that it cannot be.
        """
        stream = self.stream(wish.stream).desired
        if change is not None:
            change(stream)  # what cannot be remembered is not begun
        answer = self.carrier.steer(wish)
        try:
            problem = answer.result(self._steer_wait_s)
        except FutureTimeoutError:  # done with a later frame, or refused then, which nobody hears
            answer.add_done_callback(partial(self._remember_late, wish.stream, change))
            return False
        if problem:
            raise ConflictError(f"{wish.stream}: {problem}")
        try:
            self._remember(wish.stream, change)
        except NotSavedError as error:
            text = f"{wish.stream}: it is done, but may be forgotten at the daemon's next start"
            raise NotSavedError(f"{text}: {error}", is_full=error.is_full) from error
        return True

    def _remember(self, name: str, change: Change | None) -> None:
        with self._changed:
            stream, carried = self._desired.streams.get(name), self._carried.get(name)
            if change is None or stream is None:
                return
            changed = change(stream)  # as it is by now: another request may have changed it
            if carried is not None:  # it is so already: no reason to start it again
                carried.desired = change(carried.desired)
            self._desired.change(changed)

    def _remember_late(self, name: str, change: Change | None, answer: Future[str]) -> None:
        try:
            if not answer.result():
                self._remember(name, change)
        except DualfaceError as error:  # whoever asked has his answer already
            text = f"{name}: was changed, but not for its next start: {error}"
            log_event("stream_not_remembered", text, stream=name, level=logging.ERROR)

    # -- the loop ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Brings the fleet closer to what is desired; returns after a moment or a change."""
        with self._changed:
            for name in [*self._carried, *self._desired.streams]:
                self._compare(name)
            self._state.set_streams([each.status for each in self._carried.values()])
            self._changed.wait(_TICK_S)

    def _compare(self, name: str) -> None:
        carried, stream = self._carried.get(name), self._desired.streams.get(name)
        if carried is None:
            if stream is not None and time.monotonic() >= self._past_of(name).next_s:
                self._start(stream)
            return
        has_ended = carried.status.snapshot().state in FINAL_STATES
        if stream != carried.desired or carried.again:
            self._end(carried, has_ended=has_ended)
        elif has_ended and self._fails_in_passing(carried):
            self._end(carried, has_ended=True)
            self._pause(carried)

    def _past_of(self, name: str) -> _Past:
        return self._past.setdefault(name, _Past())

    def _start(self, stream: DesiredStream) -> None:
        try:
            job = self._job_of(stream)
            with new_directories([job]):
                pass  # the directory stays
        except DualfaceError as error:
            job = Job(stream.name, Path(shown(stream.input)), None, str(error))
            log_event("stream_refused", str(error), stream=stream.name, level=logging.ERROR)
        (status,) = new_statuses([job])
        self._carried[stream.name] = _Carried(stream, job, status, time.monotonic())
        if job.problem:
            return
        if self._is_made(job):
            status.update(state="done")
            status.warn(f"{job.output}: exists, and is not made again without --overwrite")
        else:
            log_event("stream_started", f"{stream.name}: started", stream=stream.name)
            self.carrier.give(job, status)

    def _end(self, carried: _Carried, *, has_ended: bool) -> None:
        name = carried.desired.name
        if not carried.ends:
            carried.ends = True
            self.carrier.withdraw(name)
        if has_ended:
            report = carried.status.snapshot()
            log_event(f"stream_{report.state}", f"{name}: {report.state}", stream=name)
            if report.failure:
                self._state.add_error(report.failure)
            del self._carried[name]
            if name in self._desired.streams:
                self._past_of(name).restarts += 1
            self._changed.notify_all()

    def _fails_in_passing(self, carried: _Carried) -> bool:
        """Whether a failure may be over at the next attempt."""
        report = carried.status.snapshot()
        if report.state != "failed" or carried.job.problem:  # or a mistake, which stays one
            return False
        is_live = report.live or bool(scheme_of(carried.desired.input))
        return is_live or report.exit_code == _SERVER_FAILED

    def _pause(self, carried: _Carried) -> None:
        past = self._past_of(carried.desired.name)
        if time.monotonic() - carried.since_s > _CALM_S:
            past.backoff.reset()
        past.backoff.fail()
        report = carried.status.snapshot()
        past.next_s = time.monotonic() + past.backoff.pause_s
        log_event(
            "stream_restarting",
            f"{report.error}; started again in {past.backoff.pause_s:g} s",
            stream=carried.desired.name,
            level=logging.WARNING,
            **({"trace": report.trace} if report.trace else {}),
        )
