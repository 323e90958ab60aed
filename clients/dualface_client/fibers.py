"""Functions that run side by side on one thread, each until it has to wait for something.

As threads, the streams of a process would mostly wait for Python's lock: handing it on costs more
than what they do with it (docs/performance.md). A function is written as usual and becomes a fiber
by running in a `Fibers`; before whatever may take long it calls `give_way`, which does nothing on
any other thread.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

#: How often a thread whose fibers all wait looks again, even if nobody woke it.
_LOOK_S = 0.1
#: The same where one waits for something that wakes nobody, such as a GPU.
_POLLED_S = 0.001

_here = threading.local()


class _Awake:
    """The threads of fibers of this process, which whoever makes something ready wakes."""

    def __init__(self) -> None:
        self.all: tuple[Fibers, ...] = ()
        self._lock = threading.Lock()

    def add(self, fibers: Fibers) -> None:
        with self._lock:
            self.all = (*self.all, fibers)

    def remove(self, fibers: Fibers) -> None:
        with self._lock:
            self.all = tuple(each for each in self.all if each is not fibers)


_awake = _Awake()


def give_way(
    ready: Callable[[], bool],
    limit_s: float = float("inf"),
    *,
    polled: bool = False,
) -> bool | None:
    """Lets the other fibers of this thread run until something is ready, or for a while.

    They do not run if it is ready already. A fiber must hold no lock that another one could need.

    Args:
        ready: Asked on this thread, often. What it raises is raised here.
        limit_s: Longest wait, seconds.
        polled: Whether nobody calls `notify` when it is ready.

    Returns:
        Whether it is ready; None if this is no fiber, and nothing happened.
    """
    fiber: _Fiber | None = getattr(_here, "fiber", None)
    if fiber is None:
        return None
    return ready() or fiber.wait(ready, limit_s, polled=polled)


def give_way_until_readable(fd: int, limit_s: float = float("inf")) -> bool | None:
    """The same until there is something to read, or the other end is gone."""
    fiber: _Fiber | None = getattr(_here, "fiber", None)
    return None if fiber is None else fiber.wait_readable(fd, limit_s)


def spawn(function: Callable[[], None], name: str) -> None:
    """Starts a fiber beside this one, on a fiber only; nobody waits for it."""
    fiber: _Fiber = _here.fiber
    fiber.fibers.start(_Fiber(function, name))


def is_fiber() -> bool:
    """Whether the caller runs as a fiber."""
    return getattr(_here, "fiber", None) is not None


def notify() -> None:
    """Something may be ready that a fiber waits for."""
    for fibers in _awake.all:
        fibers.wake()


def task_name() -> str:
    """Of this fiber, or else of this thread."""
    fiber: _Fiber | None = getattr(_here, "fiber", None)
    return threading.current_thread().name if fiber is None else fiber.name


def cpu_time_s() -> float:
    """Processor seconds of this fiber, or else of this thread."""
    fiber: _Fiber | None = getattr(_here, "fiber", None)
    return time.thread_time() - (0.0 if fiber is None else fiber.away_cpu_s)


class Fibers:
    """One thread for any number of functions; it ends when none is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[_Fiber] = deque()
        self._thread: threading.Thread | None = None
        self._waiting: list[_Fiber] = []
        self._sleeps = False
        self._wake_fd = -1

    def run(self, function: Callable[[], T], name: str) -> T:
        """Runs a function as a fiber, and waits for it.

        Args:
            function: Gives way where it waits.
            name: See `task_name`.

        Raises:
            BaseException: What the function raised.
            OSError: There is no descriptor left for the thread.
        """
        fiber = _Fiber(function, name)
        self.start(fiber)
        try:
            found: T = fiber.outcome.result()
            return found
        finally:
            del fiber  # an error's traceback would hold all that it has

    def start(self, fiber: _Fiber) -> None:
        """Puts one more fiber on the thread."""
        with self._lock:
            if self._wake_fd < 0:  # for as long as this exists: whoever wakes may be late
                self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                weakref.finalize(self, os.close, self._wake_fd)
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="fibers", daemon=True)
                thread.start()
                self._thread = thread
                _awake.add(self)
            self._new.append(fiber)
        self.wake()

    def wake(self) -> None:
        """Something may be ready."""
        if self._sleeps:
            self._sleeps = False
            os.eventfd_write(self._wake_fd, 1)

    def _serve(self) -> None:
        try:
            while self._take_new():
                self._run_ready()
        except BaseException as error:  # of this module; nobody must wait for ever
            with self._lock:
                left = self._waiting + list(self._new)
                self._new.clear()
                self._waiting = []
                self._end()
            for fiber in left:
                fiber.fail(error)

    def _take_new(self) -> bool:
        """Starts new fibers; returns whether there is any left."""
        with self._lock:
            started = list(self._new)
            self._new.clear()
            if not started and not self._waiting:
                self._end()
                return False
        for fiber in started:
            try:
                fiber.begin(self)
            except BaseException as error:  # greenlet is missing, for example
                fiber.fail(error)
            else:
                self._go_on(fiber)
        return True

    def _end(self) -> None:
        """The thread ends, under the lock; the next fiber gets another one."""
        self._thread = None
        _awake.remove(self)

    def _go_on(self, fiber: _Fiber) -> None:
        if fiber.go_on():
            self._waiting.append(fiber)

    def _run_ready(self) -> None:
        ready = self._ready()
        if not ready:
            self._sleep()
            ready = self._ready()
        elif any(fiber.fd is not None for fiber in self._waiting):
            self._look_at_files(0.0)
        for fiber in ready:
            self._waiting.remove(fiber)
            self._go_on(fiber)

    def _ready(self) -> list[_Fiber]:
        now_s = time.monotonic()
        return [fiber for fiber in self._waiting if fiber.is_ready(now_s)]

    def _sleep(self) -> None:
        self._sleeps = True
        # Whoever came before that woke nobody.
        if self._new or self._ready():
            self._sleeps = False
            return
        polled = any(fiber.polled for fiber in self._waiting)
        until_s = min((fiber.until_s for fiber in self._waiting), default=0.0)
        left_s = max(_POLLED_S, until_s - time.monotonic())
        self._look_at_files(min(left_s, _POLLED_S if polled else _LOOK_S))
        self._sleeps = False

    def _look_at_files(self, limit_s: float) -> None:
        poll, readers = select.poll(), dict[int, _Fiber]()
        poll.register(self._wake_fd, select.POLLIN)
        for fiber in self._waiting:
            if fiber.fd is not None:
                readers[fiber.fd] = fiber
                poll.register(fiber.fd, select.POLLIN)
        for fd, _ in poll.poll(limit_s * 1e3):
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            else:
                readers[fd].is_readable = True


def _at_once() -> bool:
    return True


class _Fiber:
    """One function, and what it waits for."""

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        self.name = name
        self.outcome: Future[Any] = Future()
        self.fd: int | None = None
        self.is_readable = self.polled = False
        self.away_cpu_s = 0.0
        self.until_s = 0.0
        self._function = function
        self._ready: Callable[[], bool] = _at_once

    def begin(self, fibers: Fibers) -> None:
        """Makes it one of this thread."""
        from greenlet import getcurrent, greenlet

        self.fibers = fibers
        self._hub = getcurrent()
        self._greenlet = greenlet(self._run)
        self.away_cpu_s = time.thread_time()

    def _run(self) -> None:
        try:
            self.outcome.set_result(self._function())
        except BaseException as error:  # raised again where it was asked to run
            self.fail(error)
            del self  # the error's traceback would hold the function and all that it has

    def fail(self, error: BaseException) -> None:
        """Ends the wait for it with an error."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def go_on(self) -> bool:
        """Runs it until it gives way; returns whether it did."""
        _here.fiber = self
        try:
            self._greenlet.switch()
        finally:
            _here.fiber = None
        return not self._greenlet.dead

    def is_ready(self, now_s: float) -> bool:
        """Whether there is nothing left to wait for."""
        try:
            is_due = self._ready() if self.fd is None else self.is_readable
        except Exception:  # raised again on the fiber itself, which asks once more
            return True
        return is_due or now_s >= self.until_s

    def wait(self, ready: Callable[[], bool], limit_s: float, *, polled: bool) -> bool:
        """Gives way, on the fiber itself; returns whether it is ready."""
        self._ready, self.polled = ready, polled
        self._leave(limit_s)
        self._ready, self.polled = _at_once, False
        return ready()

    def wait_readable(self, fd: int, limit_s: float) -> bool:
        """Gives way until a file can be read, on the fiber itself; returns whether it can."""
        self.fd, self.is_readable = fd, False
        self._leave(limit_s)
        self.fd = None
        return self.is_readable

    def _leave(self, limit_s: float) -> None:
        self.until_s = time.monotonic() + limit_s
        left_s = time.thread_time()
        self._hub.switch()
        self.away_cpu_s += time.thread_time() - left_s
