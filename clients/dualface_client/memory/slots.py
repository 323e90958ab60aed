"""Fixed-size slots of one region, leased and given back; no allocation in the steady state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np

from dualface_client.errors import LeaseTimeoutError, MemoryRegionError
from dualface_client.fibers import give_way, notify, task_name
from dualface_client.memory.figures import Leak, PoolReport, SlotCounts, caller_place, debug_leases
from dualface_client.memory.region import Region

T = TypeVar("T")

#: A page: separates slots for copy engines and caches, and aligns any element type.
ALIGNMENT = 4096
#: How often a caller that waits for a slot tries to get one back.
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Slots of one size.

    Attributes:
        byte_size: Usable bytes of each slot.
        count: How many there are.
    """

    byte_size: int
    count: int

    def __post_init__(self) -> None:
        if self.byte_size <= 0 or self.count <= 0:
            raise ValueError(f"{self}: expected a positive size and count")

    @property
    def stride(self) -> int:
        """Bytes from one slot to the next."""
        return -(-self.byte_size // ALIGNMENT) * ALIGNMENT


class _Shelf:
    """Free slots and figures of one class; guarded by the pool's lock."""

    def __init__(self, first_offset: int, size: SizeClass) -> None:
        self.first_offset = first_offset
        self.size = size
        # Last in, first out: the pages of the slot used last are still in the cache.
        self.free = [first_offset + size.stride * n for n in reversed(range(size.count))]
        self.used: set[int] = set()
        self.out: dict[int, Lease] = {}
        self.quarantined: set[int] = set()
        self.peak = self.grants = self.reuses = self.waits = 0
        self.wait_s = 0.0

    def counts(self) -> SlotCounts:
        return SlotCounts(
            self.size.count,
            self.size.count - len(self.free),
            len(self.quarantined),
            self.peak,
            self.grants,
            self.reuses,
            self.waits,
            self.wait_s,
        )


class Lease:
    """One slot, which belongs to the caller until `release`; a context manager.

    A request in flight holds the slot too (`hold`): it comes free only when the caller has
    released it and every hold has ended, so a timed-out request never meets a reused slot.
    """

    def __init__(self, pool: SlotPool, size_class: str, offset: int, label: str) -> None:
        """Made by `SlotPool.lease` only."""
        self._pool = pool
        self._owned = True
        self._holds = 0
        self.size_class = size_class
        self.offset = offset
        self.byte_size = pool.size_of(size_class).byte_size
        self.number = pool.number_of(size_class, offset)
        task = task_name()
        self.label = f"{label} of {task}" if label else task
        self.since_s = time.monotonic()
        self.place = caller_place() if pool.debug else ""

    @property
    def region_name(self) -> str:
        """Name of the region the slot lies in."""
        return self._pool.region.name

    def array(self, shape: tuple[int, ...], dtype: np.dtype[np.generic], at_byte: int = 0) -> Any:
        """An array over the slot, without a copy.

        Args:
            shape: Shape of the array.
            dtype: Element type.
            at_byte: Where in the slot it begins.

        Raises:
            MemoryRegionError: The lease was released.
            ValueError: The array does not fit into the slot.
        """
        if not self._owned:
            raise MemoryRegionError(f"slot {self.offset} of {self.label!r} was released")
        return self._part(shape, dtype, at_byte)

    def _part(self, shape: tuple[int, ...], dtype: np.dtype[np.generic], at_byte: int) -> Any:
        size = prod(shape) * dtype.itemsize
        if at_byte < 0 or at_byte + size > self.byte_size:
            raise ValueError(
                f"array of {size} bytes at {at_byte}: slot class {self.size_class!r} "
                f"has {self.byte_size} bytes"
            )
        return self._pool.region.view(self.offset + at_byte, shape, dtype)

    def hold(self) -> Hold:
        """Keeps the slot from being leased again while a request reads or writes it."""
        return self._pool._hold(self)

    def release(self) -> None:
        """Gives the slot back, now or when the last hold ends; safe to call twice."""
        self._pool._release(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Hold:
    """A request's claim on a leased slot. End it once, with `release` or `quarantine`."""

    def __init__(self, pool: SlotPool, lease: Lease) -> None:
        """Made by `Lease.hold` only."""
        self._pool = pool
        self._lease = lease
        self._ended = False

    def array(self, shape: tuple[int, ...], dtype: np.dtype[np.generic], at_byte: int) -> Any:
        """Like `Lease.array`, even after the caller has released the lease."""
        if self._ended:
            raise MemoryRegionError(f"the hold on slot {self._lease.offset} has ended")
        return self._lease._part(shape, dtype, at_byte)

    def release(self) -> None:
        """The server has answered: it no longer touches the slot. Safe to call twice."""
        self._pool._end_hold(self, quarantine=False)

    def quarantine(self) -> None:
        """No answer came, so the server may still touch the slot. Keeps it out of use."""
        self._pool._end_hold(self, quarantine=True)


class SlotPool:
    """Cuts a region into slots and leases them; thread-safe, with back-pressure.

    The region is the caller's: the pool never closes it.
    """

    def __init__(
        self, region: Region, classes: Mapping[str, SizeClass], *, debug: bool | None = None
    ) -> None:
        """Lays the classes out one after another.

        Args:
            region: Memory of at least `bytes_needed(classes)`.
            classes: Slot sizes by name.
            debug: Whether leases remember the code that took them; None asks the environment.

        Raises:
            ValueError: The region is too small.
        """
        needed = bytes_needed(classes)
        if region.byte_size < needed:
            raise ValueError(
                f"region {region.name} has {region.byte_size} bytes; the slots need {needed}"
            )
        self.region = region
        self.debug = debug_leases() if debug is None else debug
        self._free = threading.Condition()
        self._shelves: dict[str, _Shelf] = {}
        offset = 0
        for name, size in classes.items():
            self._shelves[name] = _Shelf(offset, size)
            offset += size.stride * size.count

    def size_of(self, size_class: str) -> SizeClass:
        """Size and count of a class."""
        return self._shelves[size_class].size

    def number_of(self, size_class: str, offset: int) -> int:
        """Which of its class a slot is, counted from 0."""
        shelf = self._shelves[size_class]
        return (offset - shelf.first_offset) // shelf.size.stride

    def lease(
        self,
        size_class: str,
        timeout_s: float,
        label: str = "",
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Lease:
        """Takes a slot, waiting for one if necessary.

        Args:
            size_class: Name of the class.
            timeout_s: Longest wait, seconds.
            label: What for; the leak report adds the thread's name.
            meanwhile: Called twice a second while waiting; may bring slots back, or raise to give
                up.

        Raises:
            KeyError: There is no such class.
            LeaseTimeoutError: No slot came free; the message says who holds them.
        """
        shelf = self._shelves[size_class]
        with self._free:
            if not shelf.free:
                self._wait(size_class, shelf, timeout_s, meanwhile)
            offset = shelf.free.pop()
            lease = Lease(self, size_class, offset, label)
            shelf.out[offset] = lease
            shelf.grants += 1
            shelf.reuses += offset in shelf.used
            shelf.used.add(offset)
            shelf.peak = max(shelf.peak, shelf.size.count - len(shelf.free))
            return lease

    def _wait(
        self, size_class: str, shelf: _Shelf, timeout_s: float, meanwhile: Callable[[], object]
    ) -> None:
        begin_s = time.monotonic()
        shelf.waits += 1
        try:
            while not shelf.free and (left_s := begin_s + timeout_s - time.monotonic()) > 0:
                if not self._one_comes_free(shelf, min(left_s, _LOOK_S)):
                    self._without_lock(meanwhile)
        finally:
            shelf.wait_s += time.monotonic() - begin_s
        if not shelf.free:
            raise LeaseTimeoutError(
                f"no {size_class!r} slot came free in {timeout_s:g} s; all {shelf.size.count} "
                f"are held: {_who(shelf)}. Remedy: more slots, or find out why they are held"
            )

    def _one_comes_free(self, shelf: _Shelf, limit_s: float) -> bool:
        def is_free() -> bool:
            return bool(shelf.free)

        # Another fiber of this thread may have to go on until it gives its slot back.
        found = self._without_lock(lambda: give_way(is_free, limit_s))
        return self._free.wait_for(is_free, limit_s) if found is None else found

    def _without_lock(self, action: Callable[[], T]) -> T:
        self._free.release()
        try:
            return action()
        finally:
            self._free.acquire()

    def is_worn(self, size_class: str) -> bool:
        """Whether half of a class's slots, and at least one, are in quarantine."""
        shelf = self._shelves[size_class]
        with self._free:
            return len(shelf.quarantined) >= max(1, shelf.size.count // 2)

    def counts(self) -> dict[str, SlotCounts]:
        """Figures of every class."""
        with self._free:
            return {name: shelf.counts() for name, shelf in self._shelves.items()}

    def leaks(self, older_than_s: float) -> tuple[Leak, ...]:
        """Leases that are out for longer than a limit, oldest first.

        Args:
            older_than_s: The limit, seconds.
        """
        now_s = time.monotonic()
        with self._free:
            found = [
                _leak(shelf, lease, now_s)
                for shelf in self._shelves.values()
                for lease in shelf.out.values()
                if now_s - lease.since_s > older_than_s
            ]
        return tuple(sorted(found, key=lambda leak: -leak.age_s))

    def report(self, older_than_s: float = 0.0) -> PoolReport:
        """Everything above, for a summary.

        Args:
            older_than_s: Leases out for longer count as leaks; 0 if nobody should hold any.
        """
        leaks = self.leaks(older_than_s)
        return PoolReport(self.region.name, self.region.byte_size, self.counts(), leaks)

    def reclaim_quarantined(self) -> int:
        """Puts quarantined slots back into use.

        Call it only when the server can no longer touch the region: it is gone, or it has
        confirmed the unregistration.

        Returns:
            How many came back.
        """
        with self._free:
            count = 0
            for shelf in self._shelves.values():
                for offset in sorted(shelf.quarantined):
                    shelf.quarantined.discard(offset)
                    count += 1
                    self._return_if_done(shelf, shelf.out[offset])
            return count

    def _hold(self, lease: Lease) -> Hold:
        with self._free:
            if not lease._owned:
                raise MemoryRegionError(f"slot {lease.offset} of {lease.label!r} was released")
            lease._holds += 1
        return Hold(self, lease)

    def _release(self, lease: Lease) -> None:
        with self._free:
            if lease._owned:
                lease._owned = False
                self._return_if_done(self._shelves[lease.size_class], lease)

    def _end_hold(self, hold: Hold, *, quarantine: bool) -> None:
        with self._free:
            if hold._ended:
                return
            hold._ended = True
            lease = hold._lease
            lease._holds -= 1
            shelf = self._shelves[lease.size_class]
            if quarantine:
                shelf.quarantined.add(lease.offset)
            self._return_if_done(shelf, lease)

    def _return_if_done(self, shelf: _Shelf, lease: Lease) -> None:
        if lease._owned or lease._holds or lease.offset in shelf.quarantined:
            return
        del shelf.out[lease.offset]
        shelf.free.append(lease.offset)
        # All, not one: a waiter for another class could swallow a single wake-up.
        self._free.notify_all()
        notify()


def bytes_needed(classes: Mapping[str, SizeClass]) -> int:
    """Bytes of a region that holds these classes."""
    return sum(size.stride * size.count for size in classes.values())


def _leak(shelf: _Shelf, lease: Lease, now_s: float) -> Leak:
    return Leak(
        lease.size_class,
        lease.label,
        now_s - lease.since_s,
        lease.offset,
        lease.offset in shelf.quarantined,
        lease.place,
        under_way=lease._holds > 0 and not lease._owned,
    )


def _who(shelf: _Shelf) -> str:
    now_s = time.monotonic()
    return ", ".join(
        f"{leak.label} for {leak.age_s:.1f} s"
        + (" (quarantined)" if leak.quarantined else "")
        + (f" (taken at {leak.place})" if leak.place else "")
        for leak in (_leak(shelf, lease, now_s) for _, lease in sorted(shelf.out.items()))
    )
