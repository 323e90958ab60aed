"""A slot that does not come back is said, once, while the worker runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest

from dualface_client.memory.region import SystemRegion
from dualface_client.memory.slots import SizeClass, SlotPool, bytes_needed
from dualface_client.observe.run_log import ROOT
from dualface_client.stream.leaks import LeakMonitor


@pytest.fixture
def pool() -> Iterator[SlotPool]:
    sizes = {"a": SizeClass(64, 2)}
    with SystemRegion(bytes_needed(sizes)) as region:
        yield SlotPool(region, sizes, debug=True)


def wait_until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_a_leak_is_said_once_with_its_place(
    pool: SlotPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, ROOT)
    forgotten = pool.lease("a", 0.0, "forgotten")
    with pool.lease("a", 0.0, "late") as lease:
        lease.hold().quarantine()
    with LeakMonitor(pool, 0.02, look_s=0.01):
        wait_until(lambda: caplog.records)
        time.sleep(0.05)
        assert [record.getMessage().count("forgotten of") for record in caplog.records] == [1]
        assert "test_stream_leaks.py" in caplog.records[0].getMessage()
        forgotten.release()
        time.sleep(0.05)
        again = pool.lease("a", 0.0, "forgotten")  # the same slot
        wait_until(lambda: len(caplog.records) == 2)
        again.release()


def test_leases_in_time_are_not(pool: SlotPool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, ROOT)
    with LeakMonitor(pool, 30.0, look_s=0.01), pool.lease("a", 0.0):
        time.sleep(0.05)
    assert not caplog.records
