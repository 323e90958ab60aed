"""A slot that does not come back is said, once, while the worker runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from dualface_client.memory.figures import Leak
from dualface_client.memory.region import SystemRegion
from dualface_client.memory.slots import SizeClass, SlotPool, bytes_needed
from dualface_client.observe.run_log import ROOT
from dualface_client.settings.stream import DetectionSettings, StreamSettings
from dualface_client.stream.leaks import LeakMonitor, longest_lease_s
from tests.processes import wait_until


class WatchedPool(SlotPool):
    """Counts who looks for leaks."""

    looks = 0

    def leaks(self, older_than_s: float) -> tuple[Leak, ...]:
        found = super().leaks(older_than_s)
        self.looks += 1
        return found

    def await_looks(self, count: int = 2) -> None:
        """Waits until so many looks have begun and ended from here on."""
        seen = self.looks
        wait_until(lambda: self.looks > seen + count)  # one may be under way


@pytest.fixture
def pool() -> Iterator[WatchedPool]:
    sizes = {"a": SizeClass(64, 2)}
    with SystemRegion(bytes_needed(sizes)) as region:
        yield WatchedPool(region, sizes, debug=True)


def test_a_leak_is_said_once_with_its_place(
    pool: WatchedPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, ROOT)
    forgotten = pool.lease("a", 0.0, "forgotten")
    with pool.lease("a", 0.0, "late") as lease:
        lease.hold().quarantine()
    with LeakMonitor(pool, 0.02, look_s=0.01):
        wait_until(lambda: caplog.records)
        pool.await_looks()
        assert [record.getMessage().count("forgotten of") for record in caplog.records] == [1]
        assert "test_stream_leaks.py" in caplog.records[0].getMessage()
        forgotten.release()
        pool.await_looks()
        again = pool.lease("a", 0.0, "forgotten")  # the same slot
        wait_until(lambda: len(caplog.records) == 2)
        again.release()


def test_leases_in_time_are_not(pool: WatchedPool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, ROOT)
    with LeakMonitor(pool, 30.0, look_s=0.01), pool.lease("a", 0.0):
        pool.await_looks()
    assert not caplog.records


@pytest.mark.parametrize(
    ("detection_s", "reid_s", "longest_s"), [(30.0, 10.0, 65.0), (30.0, 3600.0, 7205.0)]
)
def test_a_lease_may_last_as_long_as_the_model_that_is_waited_for_longer(
    detection_s: float, reid_s: float, longest_s: float
) -> None:
    settings = StreamSettings(
        detection=DetectionSettings(timeout_s=detection_s),
        reid_timeout_s=reid_s,
        server_wait_s=5.0,
    )
    assert longest_lease_s(settings) == longest_s
