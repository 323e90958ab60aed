"""One thread that reads for several streams in turn.

A picture that NVDEC decodes needs Python's lock several times, and little else of its thread. The
threads of many streams mostly wait for that lock, and so do two (docs/performance.md).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from dualface_client.fibers import give_way
from dualface_client.stream.threads import POLL_S, Channel

T = TypeVar("T")

#: A read that takes longer, of a disk that hangs for example, keeps its thread for itself.
_STALLED_S = 0.25


class Turns:
    """Reads ahead for any number of streams, one item of each in turn.

    A stream whose read takes long holds up nobody: the streams that wait for their next item then
    get another thread. Threads end when nobody reads.

    Args:
        threads: Most of them that read at a time.
    """

    def __init__(self, threads: int = 1) -> None:
        self._most = threads
        self._changed = threading.Condition()
        self._waiting: deque[Turn[Any]] = deque()  # all but those that are read
        self._since_s: dict[threading.Thread, float] = {}  # when each began what it does

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
            if len(self._since_s) < self._most:
                self._start()
            self._changed.notify_all()
        return turn

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._since_s[thread] = time.monotonic()
        thread.start()

    def wake(self) -> None:
        """Somebody has room for more items."""
        with self._changed:
            self._changed.notify_all()

    def relieve(self) -> None:
        """Somebody has waited for an item for a while: replaces threads whose reads last."""
        now_s = time.monotonic()
        with self._changed:
            stuck = [each for each, at_s in self._since_s.items() if now_s - at_s > _STALLED_S]
            if not self._waiting:
                return
            for thread in stuck:
                del self._since_s[thread]
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
                    if len(self._since_s) < self._most:  # those that replaced this one have ended
                        self._since_s[me] = time.monotonic()

    def _next(self, me: threading.Thread) -> Turn[Any] | None:
        """The stream to read next; None if this thread is not needed any more."""
        with self._changed:
            while me in self._since_s:
                self._since_s[me] = time.monotonic()
                for _ in range(len(self._waiting)):
                    turn = self._waiting.popleft()
                    if turn.has_room:
                        return turn
                    self._waiting.append(turn)
                if not self._waiting:
                    del self._since_s[me]
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
        is_free = give_way(lambda: not self._stepping.locked(), timeout_s, polled=True)
        if self._stepping.acquire(timeout=timeout_s if is_free is None else 0.0):
            self._stepping.release()
        if (alone := self._alone) is not None:
            has_ended = give_way(lambda: not alone.is_alive(), timeout_s, polled=True)
            alone.join(timeout_s if has_ended is None else 0.0)
