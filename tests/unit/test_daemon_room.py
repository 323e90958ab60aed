"""Streams of a daemon and the GPU's memory, without a GPU."""

from __future__ import annotations

from pathlib import Path

from dualface_client.batch.admission import needs_of
from dualface_client.daemon.room import GpuRoom, refusal_of_all
from dualface_client.memory.vram import MIB, WORKER_BYTES, Card
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.load import frames_held, load_of
from tests.media import Clip, make

CAMERA = Job("door", Path("door"), None, address="rtsp://camera/door")
SETTINGS = StreamSettings()


def need_of(job: Job) -> int:
    """What `run` expects."""
    load = load_of(SETTINGS, frames_held(SETTINGS))
    ((_, terms),) = needs_of([job], new_statuses([job]), load, SETTINGS)
    return sum(terms.values())


def room(free_bytes: int) -> GpuRoom:
    return GpuRoom(lambda: Card(10_000 * MIB, 10_000 * MIB - free_bytes, 1.0), SETTINGS)


def test_a_stream_is_refused_when_its_estimate_and_a_worker_do_not_fit() -> None:
    needed = need_of(CAMERA) + WORKER_BYTES
    assert room(needed).refusal(CAMERA) == ""
    why = room(needed - 1).refusal(CAMERA)
    assert why.startswith(f"needs {need_of(CAMERA) / MIB:,.0f} MiB of GPU memory (decoder ")
    assert "--on-oom queue" in why


def test_a_file_needs_what_its_size_needs_and_one_that_cannot_be_read_nothing(
    tmp_path: Path,
) -> None:
    small = Job("small", make(tmp_path / "a.mp4", Clip()), None)
    assert need_of(small) < need_of(CAMERA)
    assert room(need_of(small) + WORKER_BYTES).refusal(small) == ""
    assert room(0).refusal(small)
    assert room(0).refusal(Job("gone", tmp_path / "gone.mp4", None)) == ""


def test_workers_are_told_how_far_the_card_may_be_filled() -> None:
    limit = room(0).limit()
    assert limit is not None
    assert (limit.limit_bytes, limit.need_bytes) == (10_000 * MIB, need_of(CAMERA))


def test_without_figures_nothing_is_refused() -> None:
    blind = GpuRoom(lambda: None, SETTINGS)
    assert blind.refusal(CAMERA) == ""
    assert blind.limit() is None


def test_of_several_gpus_one_with_room_is_enough() -> None:
    full, free = room(0), room(need_of(CAMERA) + WORKER_BYTES)
    assert refusal_of_all([full, free], CAMERA) == ""
    assert refusal_of_all([full, full], CAMERA) == full.refusal(CAMERA) != ""
    assert refusal_of_all([], CAMERA) == ""
