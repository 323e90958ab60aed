from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dualface_client.stream.threads import Channel, Reader, Writer
from tests.processes import wait_until


def counting(limit: int, seen: list[int]) -> Iterator[int]:
    for number in range(limit):
        seen.append(number)
        yield number


def put_all(writer: Writer[int], limit: int) -> None:
    for number in range(limit):
        writer.put(number)


def test_reader_keeps_order_and_reads_only_so_far_ahead() -> None:
    seen: list[int] = []
    reader = Reader(counting(100, seen), ahead=3, name="test")
    items = iter(reader)
    assert next(items) == 0
    wait_until(lambda: len(seen) >= 5)  # one taken, three waiting, one being offered
    time.sleep(0.1)
    assert len(seen) == 5
    assert list(items) == list(range(1, 100))
    reader.close()


def test_reader_passes_the_sources_error_after_its_items() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("disk on fire")

    reader = Reader(failing(), ahead=2, name="test")
    got: list[int] = []
    with pytest.raises(OSError, match="disk on fire"):
        got.extend(reader)
    reader.close()


def test_closing_a_reader_frees_its_thread_at_once() -> None:
    reader = Reader(counting(10**9, []), ahead=1, name="endless-reader")
    next(iter(reader))
    reader.close()
    assert "endless-reader" not in {thread.name for thread in threading.enumerate()}


def test_writer_writes_everything_in_order_before_finish_returns() -> None:
    out: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.005)
        out.append(item)

    writer = Writer(slow, behind=2, name="test")
    for number in range(20):
        writer.put(number)
    writer.finish()
    assert out == list(range(20))


def test_writer_blocks_the_sender_instead_of_growing() -> None:
    gate = threading.Event()

    def gated(item: int) -> None:
        del item
        gate.wait(60)

    writer = Writer(gated, behind=2, name="test")
    put = threading.Thread(target=put_all, args=(writer, 10), daemon=True)
    put.start()
    put.join(0.3)
    assert put.is_alive()
    gate.set()
    put.join(20)
    assert not put.is_alive()
    writer.finish()


def test_a_failed_write_reaches_the_sender_and_nobody_hangs() -> None:
    def broken(item: int) -> None:
        raise ValueError(f"cannot write {item}")

    writer = Writer(broken, behind=1, name="test")
    with pytest.raises(ValueError, match="cannot write 0"):
        put_all(writer, 1000)
    with pytest.raises(ValueError, match="cannot write 0"):
        writer.finish()


def test_closing_a_writer_drops_what_waits() -> None:
    out: list[int] = []
    gate = threading.Event()

    def gated(item: int) -> None:
        gate.wait(60)
        out.append(item)

    writer = Writer(gated, behind=5, name="test")
    put = threading.Thread(target=put_all, args=(writer, 100))
    close = threading.Thread(target=writer.close)
    put.start()
    close.start()
    put.join(20)  # it waits for room until nothing is taken any more
    assert not put.is_alive()
    gate.set()
    close.join(20)
    assert len(out) <= 1


def test_a_channel_needs_room() -> None:
    with pytest.raises(ValueError, match="capacity 0"):
        Channel[int](0)


def test_a_reader_that_drops_keeps_the_newest_and_never_waits() -> None:
    dropped: list[int] = []
    ended = threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(100)
        ended.set()

    reader = Reader(numbers(), ahead=1, name="test", dropped=dropped.append)
    assert ended.wait(10)
    assert list(reader) == [99]
    assert dropped == list(range(99))
    reader.close()


def test_of_several_that_wait_the_oldest_is_dropped() -> None:
    dropped: list[int] = []
    channel: Channel[int] = Channel(2, dropped.append)
    for number in range(5):
        assert channel.put(number)
    channel.finish()
    assert (list(channel), dropped) == ([3, 4], [0, 1, 2])


def test_one_that_has_waited_too_long_is_dropped_where_a_newer_one_waits() -> None:
    dropped: list[int] = []
    stale = {0, 1, 3}
    channel: Channel[int] = Channel(3, dropped.append, is_stale=stale.__contains__)
    for number in range(3):
        channel.put(number)
    items = iter(channel)
    assert next(items) == 2
    assert dropped == [0, 1]
    channel.put(3)
    channel.finish()
    assert list(items) == [3]  # nothing newer
    assert dropped == [0, 1]


def test_one_that_is_dropped_when_late_waits_for_no_other() -> None:
    """Where half of the capacity were gathered first, each one would be found by a poll only."""
    polls: list[int] = []
    channel: Channel[int] = Channel(6, lambda item: None, waiting=lambda: polls.append(1))
    taken = threading.Semaphore(0)
    rounds = 20

    def send() -> None:
        for number in range(rounds):
            channel.put(number)
            taken.acquire()
        channel.finish()

    sender = threading.Thread(target=send)
    sender.start()
    for _ in channel:
        taken.release()
    sender.join()
    assert len(polls) < rounds // 2
