from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from dualface_client.cluster.messages import NodePlan, Task
from dualface_client.cluster.node import (
    await_writer,
    is_replaced,
    memory_limit,
    program_for,
    take_existing,
    worker_setup,
)
from dualface_client.cluster.ray_nodes import places_of
from dualface_client.memory.vram import Card
from dualface_client.objects.store import ObjectStore, StoredObject
from dualface_client.settings.program import ProgramSettings, RunSettings, ServerSettings
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.finished import identity
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.load import frames_held
from dualface_client.video.outfile import partial_path_of


def machine(node_id: str, *, alive: bool = True, **resources: float) -> dict[str, object]:
    return {
        "NodeID": node_id,
        "Alive": alive,
        "NodeManagerHostname": "host",
        "Resources": {name.upper(): amount for name, amount in resources.items()},
    }


MACHINES = [
    machine("aaaaaaaa", cpu=8.0, memory=1e9),
    machine("bbbbbbbb", cpu=32.0, gpu=2.0),
    machine("cccccccc", cpu=4.0, alive=False),
    machine("dddddddd", memory=1e9),  # for drivers only
]


def test_a_node_is_a_gpu_or_the_cores_of_a_machine_without_one() -> None:
    found = {place.name: (place.cpus, place.gpus) for place in places_of(MACHINES, "auto").values()}
    assert found == {
        "host-aaaaaa": (8, 0),
        "host-bbbbbb:gpu0": (16, 1),
        "host-bbbbbb:gpu1": (16, 1),
    }


def test_the_device_chooses_machines() -> None:
    assert set(places_of(MACHINES, "cuda")) == {"host-bbbbbb:gpu0", "host-bbbbbb:gpu1"}
    on_cpu = {place.name: place.cpus for place in places_of(MACHINES, "cpu").values()}
    assert on_cpu == {"host-aaaaaa": 8, "host-bbbbbb": 32}


def test_a_node_uses_its_share_of_the_machine() -> None:
    program = program_for(ProgramSettings(), 8)
    assert (program.run.streams, program.server.model_threads) == (2, 8)
    assert program_for(ProgramSettings(), 1).run.streams == 1
    own = ProgramSettings(run=RunSettings(streams=5), server=ServerSettings(model_threads=3))
    assert program_for(own, 8) == own


def test_workers_of_a_node_send_pictures_as_the_user_wants() -> None:
    for transport in ("shm", "bytes", "gzip"):
        plan = NodePlan("1", ProgramSettings(server=ServerSettings(transport=transport)))
        setup = worker_setup(plan, "unix:/x", "cpu", StreamSettings(), 5, 2)
        assert (setup.transport, setup.streams) == (transport, 3)


def test_workers_of_a_node_fill_its_gpu_as_far_as_the_user_allows() -> None:
    settings = StreamSettings()
    assert memory_limit(None, settings) is None
    found = memory_limit(Card(80 << 30, 4 << 30, 0.5), settings)
    assert found is not None
    assert found.limit_bytes == 40 << 30
    frame_bytes = 1920 * 1080 * 3 // 2
    assert found.need_bytes > frames_held(settings) * frame_bytes


def test_an_output_is_waited_for_while_a_lost_nodes_worker_writes_it(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    await_writer(output, threading.Event(), 60.0)  # nobody writes it: at once
    partial = partial_path_of(output).open("wb")
    fcntl.flock(partial, fcntl.LOCK_EX)
    waits: list[float | None] = []

    class Waited(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) == 3:
                partial.close()  # as when its process dies
            return False

    await_writer(output, Waited(), 60.0)
    assert len(waits) == 3


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    stop = threading.Event()
    stop.set()
    with partial_path_of(output).open("wb") as partial:
        fcntl.flock(partial, fcntl.LOCK_EX)
        await_writer(output, stop, 60.0)


def test_an_output_that_was_there_before_is_not_taken_for_this_runs(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"old")
    task = Task(Job("a", tmp_path / "a.mp4", output), 2, output_before=identity(output))
    assert is_replaced(task)
    output.write_bytes(b"newer")
    assert not is_replaced(task)
    assert not is_replaced(Task(task.job, 2))


class FullStore(ObjectStore):
    """Has every object."""

    def look_at(self, url: str) -> StoredObject:
        return StoredObject(url, 10)


@pytest.mark.parametrize(("overwrite", "state"), [(False, "done"), (True, "waiting")])
def test_an_object_that_is_to_be_replaced_is_not_taken_for_this_runs(
    overwrite: bool, state: str
) -> None:
    job = Job("a", Path("a.mp4"), None, output_url="s3://b/a.mp4")
    (status,) = new_statuses([job])
    settings = StreamSettings(output=OutputSettings(overwrite=overwrite))
    take_existing(Task(job, 2), status, settings, FullStore())
    assert status.snapshot().state == state
