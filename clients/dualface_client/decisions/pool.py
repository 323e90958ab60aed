"""The deciding processes of a worker, and a stream's end of one.

Tracking, framing and the look at the picture are Python. Side by side in one process the streams
would wait for one interpreter lock; a process without a GPU context costs little.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from dualface_client.closing import ClosesAtExit
from dualface_client.decisions.commands import Command
from dualface_client.decisions.decider import (
    Account,
    Brief,
    CloserLook,
    Deciding,
    Decision,
    Inline,
    Seen,
)
from dualface_client.decisions.messages import (
    MEMORY_BYTES,
    PLACES,
    Accounts,
    Failed,
    Final,
    Finish,
    LookCloser,
    Obey,
    PackedFaces,
    Places,
    Take,
    Tell,
)
from dualface_client.errors import DeciderLostError, PlatformError
from dualface_client.fibers import give_way, give_way_until_readable
from dualface_client.observe.stage_clock import StageClock
from dualface_client.types import IntArray

#: How often a wait checks whether the user wants to stop, and from when on.
_LOOK_S, _PATIENCE_S = 0.25, 1.0
_END_S = 5.0
#: How long a process has to say what it knows of a stream that has ended.
_TELL_S = 5.0


class Deciders(ClosesAtExit):
    """Opens streams' decisions: in the process that has the fewest, or right here.

    Args:
        count: Most processes; 0 decides on the stream's own thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = threading.Lock()
        self._processes: list[_Process] = []

    def expect(self, streams: int) -> None:
        """Starts the processes that so many streams will want, as far as there may be so many.

        They take up to a second to answer, during which a stream opens its video.
        """
        # Without descriptors for them, the stream that gets none says so.
        with self._lock, contextlib.suppress(OSError):
            while len(self._processes) < min(self.count, streams):
                self._processes.append(_Process())

    def open(
        self, brief: Brief, clock: StageClock, check: Callable[[], None] = lambda: None
    ) -> Deciding:
        """A stream's decisions.

        Args:
            brief: What they start from.
            clock: Gets their stages.
            check: Called now and then while an answer takes long; raises to end the wait.
        """
        if not self.count:
            return Inline(brief, clock)
        with self._lock:
            try:
                found = self._connected()
            except OSError:  # the process has just died, or no descriptors are left here
                found = self._connected_or_refused()
        return _Elsewhere(brief, clock, *found, check, self._left)

    def close(self) -> None:
        """Ends the processes, which hold nothing that would have to be kept."""
        with self._lock:
            for process in self._processes:
                process.close()
            self._processes.clear()

    def _connected(self) -> tuple[_Process, Connection, Places]:
        process = self._least_busy()
        return process, *process.connect()

    def _connected_or_refused(self) -> tuple[_Process, Connection, Places]:
        try:
            return self._connected()
        except OSError as error:
            raise PlatformError(
                f"a stream cannot be connected to a deciding process ({error}); fewer --streams "
                "need fewer open files (`ulimit -n`), --deciders 0 none"
            ) from error

    def _left(self, process: _Process) -> None:
        with self._lock:
            process.streams -= 1

    def _least_busy(self) -> _Process:
        for process in [process for process in self._processes if not process.is_alive]:
            process.close()
            self._processes.remove(process)
        free = min(self._processes, key=lambda process: process.streams, default=None)
        if free is None or (free.streams and len(self._processes) < self.count):
            free = _Process()
            self._processes.append(free)
        return free


class _Process:
    """One deciding process."""

    def __init__(self) -> None:
        with ExitStack() as failed:
            ours, theirs = map(failed.enter_context, socket.socketpair())
            command = [sys.executable, "-m", "dualface_client.decisions.process"]
            self._popen = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # signals for a terminal's whole group are the parent's
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
            theirs.close()
            failed.pop_all()
        self._socket = ours
        self.streams = 0

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def connect(self) -> tuple[Connection, Places]:
        """A further stream's connection and memory."""
        with ExitStack() as opened:
            ours, theirs = map(opened.enter_context, socket.socketpair())
            memory = os.memfd_create("dualface-decisions", os.MFD_CLOEXEC)
            opened.callback(os.close, memory)
            os.ftruncate(memory, MEMORY_BYTES)
            socket.send_fds(self._socket, [b"s"], [theirs.fileno(), memory])
            places = Places(memory)
            self.streams += 1
            return Connection(ours.detach()), places

    def kill(self) -> None:
        """Ends it at once: it does not answer."""
        self._popen.kill()

    def how_it_ended(self) -> str:
        """For a message."""
        give_way(lambda: not self.is_alive, _END_S, polled=True)
        try:
            return f"exit status {self._popen.wait(_END_S)}"
        except subprocess.TimeoutExpired:  # it runs, and does not hear this stream any more
            return "it closed its connection"

    def close(self) -> None:
        self._socket.close()
        try:
            self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:  # frozen; it holds nothing that would be lost
            self._popen.kill()
            self._popen.wait()


class _Elsewhere:
    """A stream's end of its decisions in another process."""

    def __init__(
        self,
        brief: Brief,
        clock: StageClock,
        process: _Process,
        connection: Connection,
        places: Places,
        check: Callable[[], None],
        left: Callable[[_Process], None],
    ) -> None:
        self._clock, self._process = clock, process
        self._connection, self._places = connection, places
        self._check, self._left = check, left
        self._is_open, self._owes_answer = True, False
        self._limit_s = brief.settings.detection.timeout_s
        try:
            self._send(brief)
        except DeciderLostError:
            self.close()
            raise

    def decide(
        self, seen: Sequence[Seen], look: Callable[[int, IntArray], CloserLook]
    ) -> Iterator[Decision]:
        """See `Deciding`."""
        for first in range(0, len(seen), PLACES):
            part = seen[first : first + PLACES]
            yield from self._decided(part, partial(_look_from, first, look))

    def obey(self, command: Command) -> str:
        """See `Deciding`."""
        self._send(Obey(command))
        return self._answer(_no_look).problem

    def finish(self) -> Sequence[Decision]:
        """See `Deciding`."""
        self._send(Finish())
        return self._answer(_no_look).decisions.unpacked()

    def account(self) -> Account:
        """See `Deciding`."""
        if self._owes_answer or not self._is_open:
            return Account()
        try:
            self._send(Tell())
            told = self._receive() if self._is_there(_TELL_S) else None
        except DeciderLostError:  # it has taken what it knew with it
            return Account()
        if isinstance(told, Failed):
            raise told.as_error("while telling what was decided")
        if not isinstance(told, Accounts):
            return Account()
        for name, spent in told.stages:
            self._clock.add(name, spent)
        return told.account

    def close(self) -> None:
        """Takes the stream out of the process."""
        if self._is_open:
            self._is_open = False
            self._check = _no_check  # it is the loop's, which would stay until it is collected
            self._connection.close()
            self._left(self._process)

    def _decided(
        self, seen: Sequence[Seen], look: Callable[[int, IntArray], CloserLook]
    ) -> list[Decision]:
        previews = [each.preview() for each in seen]
        shapes = seen[0].thumbnail.shape, previews[0].shape
        for index, (each, preview) in enumerate(zip(seen, previews, strict=True)):
            self._places.put(index, each.thumbnail, preview)
        times_s = tuple(each.time_s for each in seen)
        self._send(Take(times_s, PackedFaces.of([each.faces for each in seen]), *shapes))
        return self._answer(look).decisions.unpacked()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._lost() from error

    def _answer(self, look: Callable[[int, IntArray], CloserLook]) -> Final:
        with self._clock.stage("decide"):
            message = self._receive()
        while isinstance(message, LookCloser):
            self._send(look(message.index, message.rows))
            with self._clock.stage("decide"):
                message = self._receive()
        if isinstance(message, Failed):
            raise message.as_error("while deciding")
        final: Final = message
        return final

    def _receive(self) -> Any:
        self._owes_answer = True
        try:
            since_s = time.monotonic()
            while not self._is_there(_LOOK_S):
                waited_s = time.monotonic() - since_s
                if waited_s > _PATIENCE_S:  # one that is only busy still gets its frames done
                    self._check()
                if waited_s > self._limit_s:
                    self._process.kill()
            found = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        self._owes_answer = False
        return found

    def _is_there(self, limit_s: float) -> bool:
        """Waits for a while for an answer, or for its process to end."""
        is_there = give_way_until_readable(self._connection.fileno(), limit_s)
        return self._connection.poll(limit_s) if is_there is None else is_there

    def _lost(self) -> DeciderLostError:
        return DeciderLostError(
            f"the process that decides for this stream is gone ({self._process.how_it_ended()})"
        )


def _look_from(
    first: int, look: Callable[[int, IntArray], CloserLook], index: int, rows: IntArray
) -> CloserLook:
    return look(first + index, rows)


def _no_check() -> None:
    """Nobody waits any more."""


def _no_look(index: int, rows: IntArray) -> CloserLook:
    raise AssertionError("nothing is looked at after the last frame")
