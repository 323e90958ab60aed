"""Streams that do not fit into the device's memory: refused, queued, tried once more, alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from dualface_client.batch.admission import Room, needs_of, refuse_unfit, room_on
from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.memory.vram import MIB, WORKER_BYTES, Card
from dualface_client.observe.report import StreamReport
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device import StreamDevice
from dualface_client.stream.device_cpu import CpuDevice, CpuStream
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.load import load_of
from dualface_client.stream.seams import FrameSource
from dualface_client.stream.session import run_worker
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedServer
from dualface_client.video.header import VideoHeader, read_header
from tests.media import Clip, make

StartServer = Callable[[Sequence[EmbeddedModel]], EmbeddedServer]


class FullStream(CpuStream):
    def __init__(self, left: Counter[str]) -> None:
        super().__init__()
        self.left = left

    def open_source(self, path: Path, video_track: int | None = None) -> FrameSource:
        if self.left[path.stem] > 0:
            self.left[path.stem] -= 1
            raise MemoryError("out of memory allocating 3,110,400 bytes")
        return super().open_source(path, video_track)


class FullDevice(CpuDevice):
    """Its memory is full when some videos are opened, so many times."""

    def __init__(self, times: dict[str, int]) -> None:
        super().__init__()
        self.left = Counter(times)
        self.freed = 0

    def lend_stream(self) -> AbstractContextManager[StreamDevice]:
        return nullcontext(FullStream(self.left))

    def free_caches(self) -> None:
        self.freed += 1


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        make(tmp_path / "in" / f"{name}.mp4", Clip(frames=3))
    (tmp_path / "out").mkdir()
    return jobs_of_inputs([str(tmp_path / "in")], str(tmp_path / "out"))


def run(server: EmbeddedServer, device: FullDevice, jobs: list[Job]) -> dict[str, StreamReport]:
    statuses = new_statuses(jobs)
    run_worker(WorkerSetup(server.grpc_address, streams=2), device, jobs, statuses, Stop())
    return {status.snapshot().name: status.snapshot() for status in statuses}


def test_full_memory_is_freed_and_tried_once_more_and_fails_one_stream_alone(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...], jobs: list[Job]
) -> None:
    device = FullDevice({"a": 1, "b": 2})
    reports = run(start_server(tiny_models), device, jobs)
    assert {name: report.state for name, report in reports.items()} == {
        "a": "done",
        "b": "failed",
        "c": "done",
    }
    assert device.freed == 2
    assert any("started again from the beginning" in text for text in reports["a"].warnings)
    assert "memory is full, even after its caches were freed" in reports["b"].error
    assert "--on-oom queue" in reports["b"].error
    assert reports["a"].frames_out == reports["c"].frames_out == 3


def test_headers_say_size_and_codec(tmp_path: Path) -> None:
    path = make(tmp_path / "x.mp4", Clip(frames=2))
    header = read_header(path)
    assert header == VideoHeader(header.width_px, header.height_px, "h264", 8)
    assert header.width_px > 0


@pytest.mark.parametrize("queue", [False, True])
def test_admission_fails_by_name_or_lets_fewer_run(jobs: list[Job], queue: bool) -> None:
    statuses = new_statuses(jobs)
    needs = needs_of(jobs, statuses, load_of(StreamSettings(), frames_held=40), StreamSettings())
    assert [name for name, _ in needs] == ["a", "b", "c"]
    each = sum(needs[0][1].values())
    card = Card(WORKER_BYTES + 2 * each + MIB, 0, 1.0)
    room = room_on(card, needs, 3, lambda streams: WORKER_BYTES, queue=queue)
    assert room.streams == 2
    assert room.vram is not None
    assert room.vram.need_bytes == each
    refuse_unfit(jobs, statuses, [room, Room(1)])
    assert {status.snapshot().state for status in statuses} == {"waiting"}  # another GPU has room
    refuse_unfit(jobs, statuses, [room, room])
    states = [status.snapshot().state for status in statuses]
    assert states == ["waiting", "waiting", "waiting" if queue else "failed"]
    if not queue:
        error = statuses[2].snapshot().error
        assert f"{jobs[2].input}: needs" in error
        assert "--vram-limit" in error


def test_a_file_that_cannot_be_opened_keeps_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no video")
    jobs = jobs_of_inputs([str(tmp_path / "x.mp4")], str(tmp_path / "out.mp4"))
    assert needs_of(jobs, new_statuses(jobs), load_of(StreamSettings(), 40), StreamSettings()) == []
