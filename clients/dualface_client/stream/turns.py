"""One thread that reads for several streams in turn.

A picture that NVDEC decodes needs Python's lock several times, and little else of its thread. The
threads of many streams mostly wait for that lock, so one thread in turn reads more than one each
(docs/performance.md).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from dualface_client.stream.threads import POLL_S, Channel

T = TypeVar("T")

#: A read that takes longer, of a disk that hangs for example, keeps its thread for itself.
_STALLED_S = 0.25


class Turns:
    """Reads ahead for any number of streams, one item of each in turn.

    A stream whose read takes long holds up nobody: the streams that wait for their next item then
    get another thread. Threads end when nobody reads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Turn[Any]] = deque()  # all but the one that is read
        self._thread: threading.Thread | None = None
        self._since_s = 0.0  # when the thread began what it does

    def read(
        self, items: Iterable[T], *, ahead: int, is_short: Callable[[], bool] = lambda: True
    ) -> Turn[T]:
        """Reads a further stream.

        Args:
            items: Iterated once, by one thread at a time, but not always by the same one.
            ahead: Most items read ahead.
            is_short: Whether reads are short enough for others to wait for. Once they are not, the
                rest is read by a thread of its own.
        """
        turn = Turn(self, items, ahead, is_short)
        with self._changed:
            self._waiting.append(turn)
            if self._thread is None:
                self._start()
            self._changed.notify_all()
        return turn

    def _start(self) -> None:
        self._since_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Somebody has room for more items."""
        with self._changed:
            self._changed.notify_all()

    def relieve(self) -> None:
        """Somebody has waited for an item for a while: replaces the thread if one read lasts."""
        with self._changed:
            is_stuck = time.monotonic() - self._since_s > _STALLED_S
            if self._thread is not None and self._waiting and is_stuck:
                self._start()

    def leave(self, turn: Turn[Any]) -> None:
        """Reads this stream no more; it may be the one that is read just now."""
        with self._changed:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _run(self) -> None:
        me = threading.current_thread()
        while (turn := self._next(me)) is not None:
            goes_on = turn.step()
            with self._changed:
                if goes_on:
                    self._waiting.append(turn)
                    self._thread = self._thread or me  # the one that replaced this one has ended

    def _next(self, me: threading.Thread) -> Turn[Any] | None:
        """The stream to read next; None if this thread is not needed any more."""
        with self._changed:
            while self._thread is me:
                self._since_s = time.monotonic()
                for _ in range(len(self._waiting)):
                    turn = self._waiting.popleft()
                    if turn.has_room:
                        return turn
                    self._waiting.append(turn)
                if not self._waiting:
                    self._thread = None
                    return None
                self._changed.wait(POLL_S)
        return None


class Turn(Generic[T]):
    """One stream of a `Turns`; used like a `Reader`."""

    def __init__(
        self, turns: Turns, items: Iterable[T], ahead: int, is_short: Callable[[], bool]
    ) -> None:
        """Made by `Turns.read` only."""
        self._turns = turns
        self._items = iter(items)
        self._is_short = is_short
        self._channel: Channel[T] = Channel(ahead, taken=turns.wake, waiting=turns.relieve)
        self._stepping = threading.Lock()
        self._alone: threading.Thread | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more item can be put without waiting."""
        return self._channel.has_room

    def step(self) -> bool:
        """Reads one item; returns whether there may be more of them to be read here."""
        with self._stepping:
            if self._channel.is_cancelled:
                return False
            try:
                items = list(islice(self._items, 1))
            except BaseException as error:  # carried to the receiving thread, whatever it is
                self._channel.finish(error)
                return False
            if not items:
                self._channel.finish()
            if not items or not self._channel.put(items[0]):
                return False
            if self._is_short():
                return True
            self._alone = threading.Thread(
                target=self._channel.fill, args=(self._items,), name="decode", daemon=True
            )
            self._alone.start()
            return False

    def __iter__(self) -> Iterator[T]:
        """Items in order; an exception of the source is raised here."""
        return iter(self._channel)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stops reading and waits for the item that is being read."""
        self._channel.cancel()
        self._turns.leave(self)
        if self._stepping.acquire(timeout=timeout_s):
            self._stepping.release()
        if self._alone is not None:
            self._alone.join(timeout_s)
