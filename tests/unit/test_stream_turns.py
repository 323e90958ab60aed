from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dualface_client.stream.turns import Turns
from tests.processes import wait_until


def numbers(limit: int, readers: set[str] | None = None) -> Iterator[int]:
    for number in range(limit):
        if readers is not None:
            readers.add(str(threading.get_ident()))
        yield number


def decoding_threads() -> int:
    return sum(thread.name == "decode" for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_few_threads_read_every_stream_in_order(threads: int) -> None:
    turns, readers = Turns(threads), set[str]()
    streams = [turns.read(numbers(50, readers), ahead=3) for _ in range(4)]
    for stream in streams:
        assert list(stream) == list(range(50))
    assert 1 <= len(readers) <= threads


def test_a_stream_is_read_only_so_far_ahead() -> None:
    turns, seen = Turns(), list[int]()

    def counted() -> Iterator[int]:
        for number in range(20):
            seen.append(number)
            yield number

    full, other = turns.read(counted(), ahead=3), turns.read(numbers(200), ahead=3)
    assert list(other) == list(range(200))  # goes on while the first one is full
    assert seen == [0, 1, 2]
    assert list(full) == list(range(20))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_whose_read_hangs_holds_up_nobody(threads: int) -> None:
    turns, may_go_on, hangs = Turns(threads), threading.Event(), threading.Event()

    def hanging() -> Iterator[int]:
        yield 0
        hangs.set()
        may_go_on.wait(60)
        yield 1

    slow = turns.read(hanging(), ahead=3)
    assert hangs.wait(10)
    other = turns.read(numbers(100), ahead=3)
    assert list(other) == list(range(100))
    may_go_on.set()
    assert list(slow) == [0, 1]
    wait_until(lambda: decoding_threads() == 0)


def test_the_error_of_one_stream_comes_after_its_items_and_leaves_the_others() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("disk on fire")

    turns = Turns()
    bad, good = turns.read(failing(), ahead=2), turns.read(numbers(9), ahead=2)
    got: list[int] = []
    with pytest.raises(OSError, match="disk on fire"):
        got.extend(bad)
    assert got == [1]
    assert list(good) == list(range(9))


def test_a_stream_that_is_long_to_read_gets_a_thread_of_its_own() -> None:
    turns, is_short = Turns(), threading.Event()
    is_short.set()
    readers = set[str]()

    def turning() -> Iterator[int]:
        for number in range(20):
            if number == 5:
                is_short.clear()
            readers.add(str(threading.get_ident()))
            yield number

    stream = turns.read(turning(), ahead=2, is_short=is_short.is_set)
    assert list(stream) == list(range(20))
    assert len(readers) == 2
    stream.close()


def test_closing_ends_reading_and_the_last_one_the_thread() -> None:
    turns = Turns(1)
    endless = [turns.read(numbers(10**9), ahead=2) for _ in range(2)]
    assert next(iter(endless[0])) == 0
    endless[0].close()
    assert decoding_threads() == 1
    assert next(iter(endless[1])) == 0
    endless[1].close()
    wait_until(lambda: decoding_threads() == 0)
    assert list(turns.read(numbers(3), ahead=1)) == [0, 1, 2]  # begins anew
