"""A /dev/shm that is too small is said before anything starts, with the figure that is needed."""

from __future__ import annotations

import pytest

from dualface_client.batch.server import ServerChoice
from dualface_client.batch.shared_memory import check_shared_memory, shared_memory_of
from dualface_client.errors import PlatformError
from dualface_client.settings.stream import StreamSettings

MIB = 1 << 20
SETTINGS = StreamSettings()


def test_one_stream_needs_what_was_measured() -> None:
    """10.1 MiB were in use at most: a region of 4.1 (now 3.8), pools of 5 and 1 of the server."""
    assert 10.1 * MIB < shared_memory_of(SETTINGS, ServerChoice(), 1, 0) < 12 * MIB


def test_two_streams_need_what_was_measured() -> None:
    """10.5 MiB were in use at most, and each process has a spare slot (1.2 MiB)."""
    shared = shared_memory_of(SETTINGS, ServerChoice(), 2, 0)
    assert 10.5 * MIB < shared < 16 * MIB
    assert shared < shared_memory_of(SETTINGS, ServerChoice(), 2, 2) < shared + 2 * MIB


def test_a_server_that_runs_already_has_its_pools() -> None:
    region = pytest.approx(3.82 * MIB, rel=0.02)
    assert shared_memory_of(SETTINGS, ServerChoice("127.0.0.1:8001"), 1, 0) == region
    assert shared_memory_of(SETTINGS, ServerChoice(), 1, 0, server_runs=True) == region


def test_what_is_certainly_on_this_machine() -> None:
    """Pixels in GPU memory go to such a server only."""
    assert all(ServerChoice(at).is_local for at in (None, "unix:/tmp/g:1", "127.0.0.1:8001"))
    assert not any(ServerChoice(at).is_local for at in ("gpu1:8001", "unixhost:8001"))


def test_pixels_in_gpu_memory_need_little_here() -> None:
    assert shared_memory_of(SETTINGS, ServerChoice(device="cuda"), 1, 0) < 5 * MIB


def test_too_little_names_the_figure_and_the_remedy() -> None:
    check_shared_memory(10 * MIB, 10 * MIB)
    says = r"has 8\.0 MiB free, and 12 MiB are needed; .*--shm-size.*size=.*reap"
    with pytest.raises(PlatformError, match=says):
        check_shared_memory(12 * MIB - 5, 8 * MIB)
