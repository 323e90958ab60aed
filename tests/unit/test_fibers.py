from __future__ import annotations

import gc
import os
import resource
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat

import numpy as np
import pytest

from dualface_client.cuda.stream import Recorded
from dualface_client.errors import LeaseTimeoutError
from dualface_client.fibers import (
    Fibers,
    cpu_time_s,
    give_way,
    give_way_until_readable,
    is_fiber,
    notify,
    spawn,
    task_name,
)
from dualface_client.memory.region import SystemRegion
from dualface_client.memory.slots import SizeClass, SlotPool
from dualface_client.stream.threads import Spawned
from dualface_client.triton.pending import PendingInference
from tests.processes import wait_until


def side_by_side(*functions: Callable[[], object]) -> list[object]:
    """Runs functions as fibers of one thread, from threads that wait for them."""
    fibers = Fibers()
    with ThreadPoolExecutor(len(functions)) as pool:
        asked = [pool.submit(fibers.run, function, f"f{n}") for n, function in enumerate(functions)]
        return [each.result(30) for each in asked]


def fiber_threads() -> int:
    return sum(thread.name == "fibers" for thread in threading.enumerate())


def test_elsewhere_nothing_gives_way() -> None:
    assert give_way(lambda: False) is None
    assert give_way_until_readable(0) is None
    assert not is_fiber()
    assert task_name() == threading.current_thread().name


def test_one_thread_runs_them_all_each_while_the_others_wait() -> None:
    turn, seen = [0], list[tuple[int, int]]()

    def counting(me: int) -> str:
        for _ in range(3):
            assert give_way(lambda: turn[0] % 3 == me)
            seen.append((me, threading.get_ident()))
            turn[0] += 1
        return task_name()

    names = side_by_side(lambda: counting(0), lambda: counting(1), lambda: counting(2))
    assert [me for me, _ in seen] == 3 * [0, 1, 2]
    assert len({thread for _, thread in seen}) == 1
    assert names == ["f0", "f1", "f2"]
    wait_until(lambda: fiber_threads() == 0)


def test_what_a_function_raises_comes_out_of_run_and_leaves_the_others() -> None:
    fibers, go = Fibers(), threading.Event()

    def failing() -> None:
        raise KeyError("mine")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(fibers.run, lambda: give_way(go.is_set), "other")
        with pytest.raises(KeyError, match="mine"):
            fibers.run(failing, "failing")
        go.set()
        notify()
        assert other.result(30) is True


def test_what_a_predicate_raises_is_raised_on_its_fiber_alone() -> None:
    asked, ended = [0], threading.Event()

    def broken() -> bool:
        asked[0] += 1
        if asked[0] > 1:
            raise ZeroDivisionError("asked too often")
        return False

    def failing() -> None:
        try:
            with pytest.raises(ZeroDivisionError):
                give_way(broken)
        finally:
            ended.set()

    assert side_by_side(failing, lambda: give_way(ended.is_set)) == [None, True]


def test_another_thread_wakes_who_waits_for_it() -> None:
    """Sooner than by looking again, which a second thousand times would take minutes."""
    asked, answered = threading.Semaphore(0), [0]

    def answering() -> None:
        for _ in range(2000):
            asked.acquire()
            answered[0] += 1
            notify()

    def asking() -> int:
        for count in range(2000):
            asked.release()
            give_way(partial(is_answered, count))
        return answered[0]

    def is_answered(count: int) -> bool:
        return answered[0] > count

    thread = threading.Thread(target=answering)
    thread.start()
    assert side_by_side(asking) == [2000]
    thread.join()


def test_a_wait_ends_at_its_limit() -> None:
    assert side_by_side(lambda: give_way(lambda: False, 0.0)) == [False]
    reader, writer = os.pipe()
    assert side_by_side(lambda: give_way_until_readable(reader, 0.0)) == [False]
    os.close(writer)
    os.close(reader)


def test_a_file_wakes_who_waits_for_it_also_by_its_end() -> None:
    reader, writer = os.pipe()

    def reading() -> bytes:
        assert give_way_until_readable(reader)
        first = os.read(reader, 1)
        assert give_way_until_readable(reader)
        return first + os.read(reader, 1)

    def writing() -> None:
        os.write(writer, b"x")
        os.close(writer)

    assert side_by_side(reading, writing) == [b"x", None]
    os.close(reader)


def test_a_file_is_read_while_others_never_wait_for_long() -> None:
    reader, writer = os.pipe()
    done: list[bytes] = []

    def busy() -> None:
        while not done:
            give_way(lambda: False, 0.0)

    def reading() -> None:
        assert give_way_until_readable(reader)
        done.append(os.read(reader, 1))

    side_by_side(busy, reading, lambda: os.write(writer, b"x"))
    assert done == [b"x"]
    os.close(reader)
    os.close(writer)


def test_what_wakes_nobody_is_looked_at_often() -> None:
    """A thousand times; ten times a second, it would take longer than a test may."""
    asked = [0]

    def is_ready() -> bool:  # as a GPU that works meanwhile
        asked[0] += 1
        return asked[0] > 1000

    assert side_by_side(lambda: give_way(is_ready, polled=True)) == [True]


def test_a_place_in_a_stream_that_failed_is_waited_for_no_longer() -> None:
    class Event:
        ptr = 7

        def synchronize(self) -> None:
            raise RuntimeError("cudaErrorIllegalAddress")

    answers = chain((600, 600), repeat(700))  # not ready twice, then failed

    def waiting() -> None:
        with pytest.raises(RuntimeError, match="IllegalAddress"):
            Recorded(Event(), lambda ptr: next(answers) if ptr == 7 else 0).wait()

    side_by_side(waiting)


def test_a_failure_keeps_nothing_of_its_function_alive() -> None:
    class Frames:
        pass

    def failing() -> None:
        frames = Frames()
        seen.append(weakref.ref(frames))
        raise KeyError("torn")

    seen: list[weakref.ref[Frames]] = []
    gc.disable()
    try:
        with pytest.raises(KeyError):
            Fibers().run(failing, "failing")
        wait_until(lambda: fiber_threads() == 0)
        assert seen[0]() is None
    finally:
        gc.enable()


def test_a_thread_that_ends_leaves_the_next_one_its_waker() -> None:
    """Over and over, so that a start falls into an end; a wait that nobody ends takes 0.1 s."""
    fibers, asked, go_on = Fibers(), threading.Semaphore(0), [0]

    def answering() -> None:
        for _ in range(1000):
            asked.acquire()
            go_on[0] += 1
            notify()

    def asking_anew() -> None:
        for count in range(1000):
            fibers.run(partial(asking, count), "asking")

    def asking(count: int) -> None:
        asked.release()
        give_way(lambda: go_on[0] > count)

    with ThreadPoolExecutor(2) as pool:
        answers = pool.submit(answering)
        pool.submit(asking_anew).result(30)
        answers.result(30)


def test_without_descriptors_a_function_is_refused_and_later_ones_are_not() -> None:
    fibers = Fibers()
    lowest_free = os.dup(0)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            fibers.run(lambda: 1, "refused")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert fibers.run(lambda: 2, "later") == 2


def test_the_time_of_others_is_not_ones_own() -> None:
    spent: list[int] = []

    def patient() -> float:
        before_s = cpu_time_s()
        give_way(lambda: bool(spent))
        return cpu_time_s() - before_s

    def busy() -> float:
        before_s = cpu_time_s()
        while cpu_time_s() < before_s + 0.2:
            pass
        spent.append(1)
        return cpu_time_s() - before_s

    quiet_s, busy_s = side_by_side(patient, busy)
    assert isinstance(quiet_s, float)
    assert isinstance(busy_s, float)
    assert quiet_s < 0.1 < busy_s


def test_it_begins_anew_after_its_end() -> None:
    fibers = Fibers()
    for number in range(50):
        assert fibers.run(partial(int, number), "again") == number
    wait_until(lambda: fiber_threads() == 0)


def test_a_spawned_source_is_one_item_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    def taking() -> list[tuple[int, int]]:
        source = Spawned(items(), "items")
        found = []
        for number in source:
            give_way(lambda: False, 0.0)  # the source has its turn
            found.append((number, len(made)))
        source.close()
        return found

    assert side_by_side(taking) == [[(0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]]


def test_a_spawned_source_that_is_closed_early_ends() -> None:
    ended: list[bool] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    def taking() -> None:
        source = Spawned(endless(), "endless")
        assert next(iter(source)) == 1
        source.close()

    side_by_side(taking)
    assert ended == [True]


def test_a_spawned_sources_error_comes_after_its_items() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("torn")

    def taking() -> list[int]:
        got: list[int] = []
        with pytest.raises(OSError, match="torn"):
            got.extend(Spawned(failing(), "failing"))
        return got

    assert side_by_side(taking) == [[1]]


def test_spawning_is_for_fibers() -> None:
    seen: list[str] = []

    def parent() -> None:
        spawn(lambda: seen.append(task_name()), "child")
        give_way(lambda: bool(seen))

    side_by_side(parent)
    assert seen == ["child"]


def test_who_has_a_slot_goes_on_while_another_one_waits_for_it() -> None:
    with SystemRegion(4096) as region:
        pool = SlotPool(region, {"a": SizeClass(16, 1)})
        is_waited_for: list[int] = []

        def has_it() -> None:
            with pool.lease("a", 1.0):
                give_way(lambda: bool(is_waited_for))
                give_way(lambda: False, 0.0)

        def waits() -> str:
            is_waited_for.append(1)
            with pool.lease("a", 30.0, "mine") as lease:
                return lease.label

        assert side_by_side(has_it, waits) == [None, "mine of f1"]

        def in_vain() -> None:
            with pool.lease("a", 1.0), pytest.raises(LeaseTimeoutError, match="held"):
                pool.lease("a", 0.01)

        side_by_side(in_vain)


def test_an_answer_wakes_who_waits_for_it() -> None:
    pending = PendingInference("request", 30.0, 0)

    def waiting() -> bool:
        return pending.wait(30.0)

    assert side_by_side(waiting, lambda: pending.finish(np.zeros(1))) == [True, None]
    assert side_by_side(lambda: PendingInference("none", 30.0, 0).wait(0.0)) == [False]
