"""The supervisor's end of one worker process."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import IO

from dualface_client.errors import DualfaceError
from dualface_client.location import HERE, Location
from dualface_client.observe.run_log import log_event
from dualface_client.stream.job import Job
from dualface_client.stream.setup import WorkerSetup
from dualface_client.triton.mps_shares import share_of_client
from dualface_client.workers.messages import (
    LINE_LIMIT_BYTES,
    Begin,
    End,
    Message,
    ProtocolError,
    StopJobs,
    StopStream,
    TakeJob,
    ToSupervisor,
    encode,
    heard_by_supervisor,
)

_TAIL_LINES = 20
_TAIL_LINE_BYTES = 1000
_PUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Heard:
    """A message from a worker.

    Attributes:
        link: Which worker; a restarted one has another link.
        message: What it said; None when the process has ended.
    """

    link: WorkerLink
    message: ToSupervisor | None


@dataclass(slots=True, eq=False)
class WorkerLink:
    """One process, from its start to its end.

    Attributes:
        number: 1-based, constant over restarts.
        process: The process.
        running: Jobs that it works on, by name.
        ready: Whether it has its session.
        told_to_end: Whether it was asked to end.
        heard_s: Monotonic time of its last message.
        refused: Why it could not open its session, None until it says so.
        tail: Its last lines on standard error.
    """

    number: int
    process: subprocess.Popen[bytes]
    heard_s: float
    running: dict[str, Job] = field(default_factory=dict)
    ready: bool = False
    told_to_end: bool = False
    refused: DualfaceError | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def send(self, message: Message) -> None:
        """Sends a message; if the worker has gone, its end will show that."""
        assert self.process.stdin is not None  # noqa: S101 - a pipe, see `start_worker`
        with contextlib.suppress(OSError, ValueError):  # the pipe is broken, or closed here
            self.process.stdin.write(encode(message))
            self.process.stdin.flush()

    def give(self, job: Job) -> None:
        """Hands a job over."""
        self.running[job.name] = job
        self.send(TakeJob(job))

    def stop(self, error: DualfaceError | None) -> None:
        """Asks it to end its jobs early.

        Args:
            error: Why; None if somebody wants to stop.
        """
        text, exit_code = ("", 0) if error is None else (str(error), error.exit_code)
        self.send(StopJobs(text, exit_code))

    def stop_stream(self, name: str) -> None:
        """Asks it to end one of its streams early."""
        self.send(StopStream(name))

    def end(self) -> None:
        """Asks it to end when its jobs have."""
        if not self.told_to_end:
            self.told_to_end = True
            self.send(End())

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()

    def how_it_ended(self) -> str:
        """How it died, in words: a signal's name or an exit status."""
        code = self.process.returncode
        if code is None:
            return "still running"
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, -code)}" if code < 0 else f"exit status {code}"

    def close(self) -> None:
        """Kills it if it still runs and closes the pipes; one that hangs in a driver stays."""
        if self.process.poll() is None:
            self.process.kill()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:  # nor would its pipes close while they are being read
            log_event(
                "worker_unending",
                f"worker {self.number} (process {self.process.pid}) does not end by SIGKILL: it "
                "hangs in the kernel, as in a GPU's driver (`nvidia-smi`, `dmesg`)",
                level=logging.ERROR,
                worker=self.number,
            )
            return
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what could no longer be written
                    pipe.close()


def start_worker(
    number: int,
    setup: WorkerSetup,
    heard: queue.Queue[Heard],
    closing: threading.Event,
    location: Location = HERE,
) -> WorkerLink:
    """Starts a fresh interpreter, which has none of this process's threads and locks.

    Args:
        number: Of the worker.
        setup: What it is told first.
        heard: Gets its messages, and its end.
        closing: Set when nobody reads `heard` any longer.
        location: With which GPU, and on which cores.
    """
    environment = location.environment()
    with location.near():
        process = subprocess.Popen(
            [sys.executable, "-m", "dualface_client.workers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **share_of_client(environment), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C in the terminal is only for the supervisor
        )
    link = WorkerLink(number, process, time.monotonic())
    assert process.stdout is not None  # noqa: S101 - pipes, see above
    assert process.stderr is not None  # noqa: S101 - as above
    threading.Thread(
        target=_read_messages,
        args=(link, process.stdout, heard, closing),
        daemon=True,
        name=f"worker {number}",
    ).start()
    threading.Thread(
        target=_read_tail, args=(link, process.stderr), daemon=True, name=f"worker {number} err"
    ).start()
    link.send(Begin(setup))
    return link


def _read_messages(
    link: WorkerLink, pipe: IO[bytes], heard: queue.Queue[Heard], closing: threading.Event
) -> None:
    try:
        while line := pipe.readline(LINE_LIMIT_BYTES):
            link.heard_s = time.monotonic()  # noted here, however slowly it is read
            _put(heard, Heard(link, heard_by_supervisor(line)), closing)
    except (ProtocolError, OSError, ValueError):
        link.kill()  # cut off in the middle of a line, or not from our worker at all
    link.process.wait()
    _put(heard, Heard(link, None), closing)


def _put(heard: queue.Queue[Heard], what: Heard, closing: threading.Event) -> None:
    while not closing.is_set():
        try:
            heard.put(what, timeout=_PUT_S)
        except queue.Full:  # the supervisor is busy, but still checks `closing`
            continue
        return


def _read_tail(link: WorkerLink, pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed meanwhile
        while line := pipe.readline(_TAIL_LINE_BYTES):
            link.tail.append(line.decode(errors="replace").rstrip())
