"""Bounded hand-over between the stream loop and its reading and writing threads.

Every queue has a limit, every wait a stop event, and an exception on one side surfaces on the
other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from dualface_client.fibers import give_way, notify, spawn

T = TypeVar("T")

#: How long a blocked side sleeps before it checks again that the other side still exists.
POLL_S = 0.1


class Channel(Generic[T]):
    """A bounded queue that either side can close.

    A side that waits is woken once half of the capacity is there for it, not for every item: with
    many streams in a process each turn of a thread is a wait for the interpreter lock. Items that
    are dropped where they are late are handed over one by one.

    Args:
        capacity: Most items held, at least 1.
        dropped: Gets the oldest item where one more comes than there is room for; None makes `put`
            wait for room instead.
        is_stale: Whether an item has waited too long; `dropped` gets it where a newer one waits.
        taken: Called where half of the capacity is free again.
        waiting: Called now and then while the receiver waits for an item.
    """

    def __init__(
        self,
        capacity: int,
        dropped: Callable[[T], None] | None = None,
        *,
        is_stale: Callable[[T], bool] = lambda item: False,
        taken: Callable[[], None] = lambda: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"channel capacity {capacity}: expected at least 1")
        self._capacity = capacity
        self._half = max(1, capacity // 2) if dropped is None else 1
        self._dropped, self._is_stale = dropped, is_stale
        self._taken, self._waiting = taken, waiting
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False
        self._error: BaseException | None = None

    @property
    def has_room(self) -> bool:
        """Whether `put` would not wait; also where the receiver has gone."""
        return len(self._items) < self._capacity or self._cancelled

    @property
    def is_cancelled(self) -> bool:
        """Whether the receiver has gone."""
        return self._cancelled

    def put(self, item: T) -> bool:
        """Adds an item, waiting for room or making it.

        Returns:
            False if the receiver has gone; the item was not taken.
        """
        if self._dropped is None:
            give_way(lambda: self.has_room)
        with self._changed:
            while len(self._items) >= self._capacity and not self._cancelled:
                if self._dropped is not None:
                    self._dropped(self._items.popleft())
                else:
                    self._changed.wait(POLL_S)
            if self._cancelled:
                return False
            self._items.append(item)
            if len(self._items) >= self._half:
                self._changed.notify_all()
            if len(self._items) == self._half:  # with more, a fiber does not begin to wait
                notify()
            return True

    def finish(self, error: BaseException | None = None) -> None:
        """The sender is done, normally or by `error`, which the receiver gets after the items."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()
            notify()

    def fill(self, items: Iterable[T]) -> None:
        """Puts every item, and how they end."""
        try:
            for item in items:
                if not self.put(item):
                    break
        except BaseException as error:  # carried to the receiving thread, whatever it is
            self.finish(error)
        else:
            self.finish()

    def cancel(self) -> None:
        """The receiver is gone: items are dropped and every `put` returns False."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()
            notify()

    def __iter__(self) -> Iterator[T]:
        """Items in order until the sender finishes.

        Raises:
            BaseException: What the sender passed to `finish`.
        """
        while True:
            while give_way(self._is_worth_waking, POLL_S) is False and not self._is_due:
                self._waiting()
            with self._changed:
                while not (self._items or self._finished or self._cancelled):
                    if not self._changed.wait(POLL_S):
                        self._waiting()
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                while self._dropped is not None and self._items and self._is_stale(item):
                    self._dropped(item)
                    item = self._items.popleft()
                if len(self._items) <= self._capacity - self._half:
                    self._changed.notify_all()
                is_half_free = len(self._items) == self._capacity - self._half
            if is_half_free:
                notify()
                self._taken()
            yield item

    @property
    def _is_due(self) -> bool:
        return bool(self._items) or self._finished or self._cancelled

    def _is_worth_waking(self) -> bool:
        return len(self._items) >= self._half or self._finished or self._cancelled


class Reader(Generic[T]):
    """Iterates a source on a thread of its own, a bounded number of items ahead.

    Args:
        items: Iterated on the thread, once.
        ahead: Most items read ahead.
        name: Thread name, for debuggers.
        dropped: Gets items that are not taken before newer ones come; None makes the source wait.
        is_stale: See `Channel`.
    """

    def __init__(
        self,
        items: Iterable[T],
        *,
        ahead: int,
        name: str,
        dropped: Callable[[T], None] | None = None,
        is_stale: Callable[[T], bool] = lambda item: False,
    ) -> None:
        self._channel: Channel[T] = Channel(ahead, dropped, is_stale=is_stale)
        self._thread = threading.Thread(
            target=self._channel.fill, args=(items,), name=name, daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        """Items in order; an exception of the source is raised here."""
        return iter(self._channel)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stops reading and waits for the thread."""
        self._channel.cancel()
        self._thread.join(timeout_s)


class Writer(Generic[T]):
    """Calls a function with each item on a thread of its own, a bounded number of items behind.

    Args:
        write: Called on the thread, in order.
        behind: Most items waiting.
        name: Thread name, for debuggers.
    """

    def __init__(self, write: Callable[[T], None], *, behind: int, name: str) -> None:
        self._channel: Channel[T] = Channel(behind)
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._drain, args=(write,), name=name, daemon=True)
        self._thread.start()

    def _drain(self, write: Callable[[T], None]) -> None:
        try:
            for item in self._channel:
                write(item)
        except BaseException as error:  # raised again in put() or finish()
            self._error = error
            self._channel.cancel()
        finally:
            self._ended = True
            notify()

    def put(self, item: T) -> None:
        """Hands an item over, waiting for room.

        Raises:
            BaseException: What an earlier write raised.
        """
        if not self._channel.put(item) and self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Waits until every item is written.

        Raises:
            BaseException: What a write raised.
        """
        self._channel.finish()
        give_way(lambda: self._ended)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self, timeout_s: float = 30.0) -> None:
        """Drops waiting items, waits for the one being written; never raises."""
        self._channel.cancel()
        give_way(lambda: self._ended, timeout_s)
        self._thread.join(timeout_s)


class AtOnce(Generic[T]):
    """Calls a function with each item where it is put; used like a `Writer`.

    Args:
        write: Called on the same thread; what it raises comes out of `put`.
    """

    def __init__(self, write: Callable[[T], None]) -> None:
        self.put = write

    def finish(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing waits."""


class Spawned(Generic[T]):
    """Iterates a source on a fiber beside the caller's, one item ahead; only on a fiber.

    Args:
        items: Iterated once.
        name: Of the fiber.
    """

    def __init__(self, items: Iterable[T], name: str) -> None:
        self._items = items
        self._channel: Channel[T] = Channel(1)
        self._ended = False
        spawn(self._fill, name)

    def _fill(self) -> None:
        self._channel.fill(self._one_by_one())
        self._ended = True
        notify()

    def _one_by_one(self) -> Iterator[T]:
        """The next item is made once the last one was taken: each holds frames."""
        for item in self._items:
            yield item
            give_way(lambda: self._channel.has_room)
            if self._channel.is_cancelled:
                return

    def __iter__(self) -> Iterator[T]:
        """Items in order; an exception of the source is raised here."""
        return iter(self._channel)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stops reading and waits for the item that is under way, but not for ever."""
        self._channel.cancel()
        give_way(lambda: self._ended, timeout_s)
