"""Which GPUs there are to choose from, split ones too, and which cores are near."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dualface_client.batch.locations import locations_of, visible_of
from dualface_client.errors import PlatformError, UsageError
from dualface_client.location import HERE, Location
from dualface_client.observe.gpus import GpuFacts, GpuInstance, Nvml, used_gpu
from dualface_client.observe.usable_gpus import (
    UsableGpu,
    choose_gpus,
    cores_near,
    location_of,
    usable_gpus,
)
from dualface_client.settings.program import ProgramSettings, RunSettings, ServerSettings

GIB = 1 << 30


def facts(uuid: str, *instances: str, split: bool = False) -> GpuFacts:
    parts = tuple(GpuInstance(part, 10 * GIB, GIB) for part in instances)
    return GpuFacts(
        "H100", "580.1", 80 * GIB, 2 * GIB, "9.0", split, True, uuid=uuid, instances=parts
    )


MACHINE = [facts("GPU-a"), facts("GPU-b", "MIG-1", "MIG-2", split=True), facts("GPU-c", split=True)]
#: What CUDA is shown, what is asked for, and what is chosen.
CHOICES = [
    (None, "all", ["0", "1:0", "1:1"]),
    (None, "0", ["0"]),
    (None, "1:1,0", ["1:1", "0"]),
    (None, "1", ["1:0", "1:1"]),
    (None, "MIG-2", ["1:1"]),
    (None, "GPU-a", ["0"]),
    ("0", "all", ["0"]),
    ("GPU-b", "all", ["1:0", "1:1"]),
    ("MIG-2,GPU-a", "all", ["0", "1:1"]),
]


@pytest.mark.parametrize(("visible", "wanted", "chosen"), CHOICES)
def test_what_is_chosen(visible: str | None, wanted: str, chosen: list[str]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = choose_gpus(wanted.split(","), usable_gpus(MACHINE), environ)
    assert [gpu.number for gpu in found] == chosen


def test_what_is_not_there_is_refused_with_what_is() -> None:
    usable = usable_gpus(MACHINE)
    with pytest.raises(
        UsageError, match=r"--gpus 0,7: there is no GPU 7; there is 0 \(H100\), 1:0"
    ):
        choose_gpus(["0", "7"], usable, {})
    with pytest.raises(UsageError, match=r"there is no GPU 2"):  # split into nothing
        choose_gpus(["2"], usable, {})
    with pytest.raises(UsageError, match=r"there is no GPU 0; there is 1:0"):
        choose_gpus(["0"], usable, {"CUDA_VISIBLE_DEVICES": "1"})
    with pytest.raises(UsageError, match=r"--gpus MIG-: MIG-1 and MIG-2 begin so"):
        choose_gpus(["MIG-"], usable, {})
    assert [gpu.uuid for gpu in choose_gpus(["MIG-2"], usable, {})] == ["MIG-2"]
    with pytest.raises(PlatformError, match=r"--gpus all: .*CUDA_VISIBLE_DEVICES= hides all"):
        choose_gpus(["all"], usable, {"CUDA_VISIBLE_DEVICES": ""})
    with pytest.raises(PlatformError, match="NVML has none"):
        choose_gpus(["all"], [], {})


def test_memory_of_an_instance_is_its_own() -> None:
    used = used_gpu(MACHINE, {"CUDA_VISIBLE_DEVICES": "MIG-2"})
    assert used is not None
    assert (used.uuid, used.memory_total_bytes) == ("MIG-2", 10 * GIB)
    whole = used_gpu(MACHINE, {"CUDA_VISIBLE_DEVICES": "GPU-b"})
    assert whole is MACHINE[1]


def program(gpus: str | None, **run: Any) -> ProgramSettings:
    named = None if gpus is None else tuple(gpus.split(","))
    return ProgramSettings(run=RunSettings(gpus=named, **run))


def test_a_location_shows_its_processes_one_gpu() -> None:
    assert locations_of(program(None), read=list) == (HERE,)
    found = locations_of(program("0,1:1"), read=lambda: MACHINE)
    assert [location.name for location in found] == ["GPU 0", "GPU 1:1"]
    assert [dict(location.environ) for location in found] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-a"},
        {"CUDA_VISIBLE_DEVICES": "MIG-2"},
    ]
    assert visible_of(found) == ["GPU-a", "MIG-2"]
    assert visible_of([HERE]) == []
    assert found[0].environment()["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert found[0].environment()["PATH"] == os.environ["PATH"]


def test_gpus_beside_what_has_no_use_for_them_are_refused() -> None:
    with pytest.raises(UsageError, match="--gpus all: has no effect with --device cpu"):
        locations_of(program("all", device="cpu"))
    server = ProgramSettings(run=RunSettings(gpus=("0",)), server=ServerSettings(address="h:1"))
    for refused in (server, program("0")):
        with pytest.raises(UsageError, match="--gpus 0: each GPU gets an embedded server"):
            locations_of(refused, held=True)
    with pytest.raises(PlatformError, match=r"--gpus 0: .*doctor"):
        locations_of(program("0"), read=lambda: None)


@pytest.mark.parametrize(
    ("text", "near"),
    [("0-1\n", {0, 1}), ("1,7-9", {1}), ("\n", set()), ("64-127", set())],
)
def test_cores_near_a_gpu_are_those_that_are_allowed(
    tmp_path: Path, text: str, near: set[int]
) -> None:
    (tmp_path / "0000:17:00.0").mkdir()
    (tmp_path / "0000:17:00.0" / "local_cpulist").write_text(text)
    found = cores_near("0000:17:00.0", tmp_path)
    allowed = os.sched_getaffinity(0)
    assert found == (near & allowed if near & allowed != allowed else set())
    assert cores_near("0000:99:00.0", tmp_path) == frozenset()
    gpu = UsableGpu("3", "GPU-x", "GPU-x", "H100", "0000:17:00.0")
    assert location_of(gpu, tmp_path) == Location("GPU 3", {"CUDA_VISIBLE_DEVICES": "GPU-x"}, found)


def test_what_is_started_near_a_gpu_stays_there() -> None:
    one = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    with Location(cores=frozenset({one})).near():
        told = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert told == f"[{one}]\n"
    assert os.sched_getaffinity(0) == before


class FakeError(Exception):
    pass


class FakeNvml(SimpleNamespace):
    """`pynvml` of a machine with a whole and a split GPU; other questions are not supported."""

    NVMLError = FakeError

    def __getattr__(self, name: str) -> Any:
        def unsupported(*arguments: object) -> None:
            raise FakeError(name)

        return unsupported


def fake_nvml() -> FakeNvml:
    parts = {"b": [None, "m1", "m2"]}
    uuids = {"a": "GPU-a", "b": b"GPU-b", "m1": "MIG-1", "m2": "MIG-2"}

    def part(device: str, index: int) -> str:
        found = parts[device][index]
        if found is None:
            raise FakeError("not found")
        return found

    return FakeNvml(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: "ab"[index],
        nvmlDeviceGetUUID=uuids.__getitem__,
        nvmlDeviceGetMigMode=lambda device: (int(device == "b"), 0),
        nvmlDeviceGetMaxMigDeviceCount=lambda device: len(parts.get(device, ())),
        nvmlDeviceGetMigDeviceHandleByIndex=part,
        nvmlDeviceGetPciInfo=lambda device: SimpleNamespace(busId=b"00000000:17:0A.0"),
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(total=len(device) * GIB, used=7),
    )


def test_nvml_says_which_instances_a_split_gpu_has() -> None:
    with Nvml(fake_nvml()) as nvml:
        whole, split = nvml.facts()
        assert (whole.instances, whole.pci_bus_id, whole.mig_on) == ((), "0000:17:0a.0", False)
        assert split.mig_on
        assert split.instances == (
            GpuInstance("MIG-1", 2 * GIB, 7),
            GpuInstance("MIG-2", 2 * GIB, 7),
        )
        assert nvml.used_index({"CUDA_VISIBLE_DEVICES": "MIG-2"}) == 1
        assert nvml.indices(["MIG-1", "MIG-2"]) == [1]
        assert nvml.indices(["GPU-a", "MIG-1"]) == [0, 1]
