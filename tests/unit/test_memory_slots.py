"""Slots: no overlap, no loss, back-pressure, holds, quarantine and leaks."""

from __future__ import annotations

import re
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dualface_client.errors import LeaseTimeoutError, MemoryRegionError
from dualface_client.memory.region import SystemRegion
from dualface_client.memory.slots import ALIGNMENT, Hold, Lease, SizeClass, SlotPool, bytes_needed
from tests.processes import wait_until

U8 = np.dtype(np.uint8)


class HostRegion:
    """Plain memory with a region's shape."""

    name = "host"

    def __init__(self, byte_size: int) -> None:
        self.byte_size = byte_size
        self._bytes = np.zeros(byte_size, np.uint8)

    def view(
        self, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        size = int(np.prod(shape)) * dtype.itemsize
        return self._bytes[offset : offset + size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Nothing to give back."""


def pool_of(**classes: tuple[int, int]) -> SlotPool:
    sizes = {name: SizeClass(*parts) for name, parts in classes.items()}
    return SlotPool(HostRegion(bytes_needed(sizes)), sizes)


CLASSES = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(SizeClass, st.integers(1, 3 * ALIGNMENT), st.integers(1, 5)),
    min_size=1,
)


@given(CLASSES)
def test_slots_are_aligned_disjoint_and_inside(classes: dict[str, SizeClass]) -> None:
    region = HostRegion(bytes_needed(classes))
    pool = SlotPool(region, classes)
    leases = [pool.lease(name, 0.0) for name, size in classes.items() for _ in range(size.count)]
    parts = sorted((lease.offset, lease.offset + lease.byte_size) for lease in leases)
    assert all(begin % ALIGNMENT == 0 for begin, _ in parts)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(parts))
    assert parts[-1][1] <= region.byte_size
    for number, lease in enumerate(leases):
        lease.array((lease.byte_size,), U8)[:] = number
    for number, lease in enumerate(leases):
        assert (lease.array((lease.byte_size,), U8) == number).all()


class SlotMachine(RuleBasedStateMachine):
    """Any order of leases, holds and their ends loses no slot and gives none out twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool_of(a=(100, 3), b=(ALIGNMENT, 1))
        other = self.pool.lease("b", 0.0)  # its neighbour in the region
        other.array((ALIGNMENT,), U8)[:] = 255
        self.other = other
        self.leases: list[Lease] = []
        self.holds: list[tuple[Lease, Hold]] = []
        self.released: set[int] = set()
        self.quarantined: set[int] = set()

    def busy(self) -> set[int]:
        owned = {lease.offset for lease in self.leases if id(lease) not in self.released}
        return owned | {lease.offset for lease, _ in self.holds} | self.quarantined

    @rule()
    def lease(self) -> None:
        busy = self.busy()
        if len(busy) == 3:
            with pytest.raises(LeaseTimeoutError):
                self.pool.lease("a", 0.0)
        else:
            lease = self.pool.lease("a", 0.0)
            self.leases.append(lease)
            assert lease.offset not in busy
            lease.array((100,), U8)[:] = len(self.leases) % 251

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        lease.release()  # also a second time
        self.released.add(id(lease))

    @precondition(lambda self: any(id(x) not in self.released for x in self.leases))
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        owned = [lease for lease in self.leases if id(lease) not in self.released]
        lease = data.draw(st.sampled_from(owned))
        self.holds.append((lease, lease.hold()))

    @precondition(lambda self: self.holds)
    @rule(quarantine=st.booleans(), data=st.data())
    def end_hold(self, quarantine: bool, data: st.DataObject) -> None:
        pair = data.draw(st.sampled_from(self.holds))
        self.holds.remove(pair)
        if quarantine:
            pair[1].quarantine()
            self.quarantined.add(pair[0].offset)
        pair[1].release()

    @rule()
    def reclaim(self) -> None:
        assert self.pool.reclaim_quarantined() == len(self.quarantined)
        self.quarantined.clear()

    @invariant()
    def figures_agree(self) -> None:
        counts = self.pool.counts()["a"]
        assert (counts.leased, counts.quarantined) == (len(self.busy()), len(self.quarantined))
        assert counts.peak >= counts.leased
        assert counts.grants == len(self.leases)

    @invariant()
    def contents_stay(self) -> None:
        for number, lease in enumerate(self.leases, 1):
            if id(lease) not in self.released:
                assert (lease.array((100,), U8) == number % 251).all()
        assert (self.other.array((ALIGNMENT,), U8) == 255).all()


TestSlotMachine = SlotMachine.TestCase
TestSlotMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_waiting_lessee_gets_the_slot_that_comes_free() -> None:
    pool = pool_of(a=(64, 1), b=(64, 1))
    first, other = pool.lease("a", 0.0), pool.lease("b", 0.0)
    got: list[Lease] = []
    threads = [
        threading.Thread(target=lambda name=name: got.append(pool.lease(name, 5.0)))
        for name in "ab"
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    assert not got
    first.release()
    wait_until(lambda: len(got) == 1)
    assert got[0].size_class == "a"
    other.release()
    for thread in threads:
        thread.join(5.0)
    counts = pool.counts()["a"]
    assert (counts.grants, counts.reuses, counts.waits, counts.peak) == (2, 1, 1, 1)
    assert counts.wait_s > 0.01


def test_who_waits_may_bring_slots_back_or_give_up() -> None:
    pool = pool_of(a=(64, 1))
    with pool.lease("a", 0.0) as late:
        late.hold().quarantine()
    pool.lease("a", 5.0, meanwhile=pool.reclaim_quarantined).release()

    def give_up() -> None:
        raise ZeroDivisionError

    with pool.lease("a", 0.0), pytest.raises(ZeroDivisionError):
        pool.lease("a", 5.0, meanwhile=give_up)
    assert pool.lease("a", 0.0).number == 0  # the lock was left as it should be


def test_many_threads_never_share_a_slot() -> None:
    pool = pool_of(a=(8, 3))
    inside: set[int] = set()
    faults: list[int] = []

    def work() -> None:
        for _ in range(100):
            with pool.lease("a", 5.0) as lease:
                faults.extend({lease.offset} & inside)
                inside.add(lease.offset)
                inside.discard(lease.offset)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    counts = pool.counts()["a"]
    assert not faults
    assert (counts.grants, counts.leased) == (600, 0)


def test_an_empty_pool_says_who_holds_what() -> None:
    pool = pool_of(frames=(64, 2))
    leases = [pool.lease("frames", 0.0, label) for label in ("a.mp4 frame 7", "b.mp4 frame 3")]
    with pytest.raises(
        LeaseTimeoutError, match=r"'frames' .* 0.01 s.* a.mp4 frame 7 .*for .*b.mp4"
    ):
        pool.lease("frames", 0.01)
    assert len(leases) == 2


def test_old_leases_are_leaks() -> None:
    pool = pool_of(a=(64, 2))
    old = pool.lease("a", 0.0, "old")
    time.sleep(0.2)
    pool.lease("a", 0.0, "new")
    age_s = max(leak.age_s for leak in pool.leaks(older_than_s=0.0))
    (leak,) = pool.leaks(older_than_s=age_s)
    assert (leak.label, leak.offset, leak.size_class) == ("old of MainThread", old.offset, "a")
    assert leak.age_s >= 0.2
    assert (leak.quarantined, leak.place) == (False, "")
    report = pool.report()
    assert [entry.label for entry in report.leaks] == ["old of MainThread", "new of MainThread"]
    assert report.classes["a"].capacity == 2


def test_a_quarantined_slot_is_told_from_a_forgotten_one() -> None:
    pool = pool_of(a=(64, 1))
    with pool.lease("a", 0.0) as lease:
        lease.hold().quarantine()
    (leak,) = pool.leaks(0.0)
    assert leak.quarantined
    assert pool.reclaim_quarantined() == 1
    assert pool.report().leaks == ()


def test_debug_mode_says_where_a_lease_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"a": SizeClass(64, 1)}

    def forgetful(pool: SlotPool) -> None:
        pool.lease("a", 0.0)

    monkeypatch.setenv("DUALFACE_DEBUG_LEASES", "1")
    pool = SlotPool(HostRegion(bytes_needed(sizes)), sizes)
    forgetful(pool)
    (leak,) = pool.leaks(0.0)
    assert re.match(r"unit/test_memory_slots.py:\d+ forgetful < ", leak.place)
    with pytest.raises(LeaseTimeoutError, match=r"taken at unit/test_memory_slots\.py"):
        pool.lease("a", 0.0)
    for off in ("", "0", "false"):
        monkeypatch.setenv("DUALFACE_DEBUG_LEASES", off)
        assert not SlotPool(HostRegion(bytes_needed(sizes)), sizes).debug


def test_arrays_stay_in_their_slot_and_end_with_the_lease() -> None:
    lease = pool_of(a=(100, 2)).lease("a", 0.0)
    assert lease.array((25,), np.dtype(np.float32)).shape == (25,)
    for at_byte, count in ((0, 101), (100, 1), (-1, 1)):
        with pytest.raises(ValueError, match="has 100 bytes"):
            lease.array((count,), U8, at_byte)
    hold = lease.hold()
    lease.release()
    with pytest.raises(MemoryRegionError, match="was released"):
        lease.array((1,), U8)
    with pytest.raises(MemoryRegionError, match="was released"):
        lease.hold()
    assert hold.array((1,), U8, 99).shape == (1,)
    hold.release()
    with pytest.raises(MemoryRegionError, match="has ended"):
        hold.array((1,), U8, 0)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="expected a positive size and count"):
        SizeClass(0, 1)
    with pytest.raises(ValueError, match="the slots need 8192"):
        SlotPool(HostRegion(8191), {"a": SizeClass(4096, 2)})


def test_a_slot_that_only_a_request_holds_is_no_lessees_leak() -> None:
    """What a stop leaves behind; a lease that nobody released is another matter."""
    with SystemRegion(8192) as region:
        pool = SlotPool(region, {"a": SizeClass(1024, 2)})
        sent, forgotten = pool.lease("a", 1.0, "sent"), pool.lease("a", 1.0, "forgotten")
        hold = sent.hold()
        sent.release()
        leaks = {leak.label.partition(" ")[0]: leak.under_way for leak in pool.report().leaks}
        assert leaks == {"sent": True, "forgotten": False}
        hold.release()
        forgotten.release()
        assert pool.report().leaks == ()
