from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dualface_client.memory.region import SHM_DIR
from dualface_client.observe.gpus import GpuFacts, mps_pipe_directory, read_gpus
from dualface_client.pipeline.doctor import (
    FAIL,
    NOTE,
    OK,
    disk,
    gpu_findings,
    pid_namespace,
    shared_memory,
)

GIB = 1 << 30


def gpu(*, mig_on: bool = False) -> GpuFacts:
    return GpuFacts("NVIDIA H200", "580.159", 139 * GIB, 2 * GIB, "9.0", mig_on, decoders=True)


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "dualface_client", "doctor", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env=environ,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_this_machine_is_fit() -> None:
    code, text = run()
    assert code == 0, text
    for name in ("system", "embedded server", "models", "shared memory", "disk"):
        assert f"ok    {name}: " in text
    assert FAIL not in text


def test_missing_parts_are_named_with_the_remedy(tmp_path: Path) -> None:
    environ = {"DUALFACE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    code, text = run(environ=environ)
    assert code == 2
    assert "FAIL  embedded server: " in text
    assert "FAIL  models: " in text
    assert text.count("make ") >= 2


def test_a_server_that_is_not_there() -> None:
    code, text = run("--server", "127.0.0.1:9")
    assert code == 2
    assert "FAIL  server: " in text
    assert "127.0.0.1:9" in text


def test_no_gpu_is_no_failure() -> None:
    (finding,) = gpu_findings(None, None)
    assert (finding.state, "on the CPU" in finding.detail) == (NOTE, True)
    (finding,) = gpu_findings([], None)
    assert "no GPU" in finding.detail


def test_mig_and_mps_are_seen_and_explained(tmp_path: Path) -> None:
    plain = list(gpu_findings([gpu()], None))
    assert [(f.state, f.name) for f in plain] == [(OK, "GPU 0")]
    assert "2048 of 142336 MiB" in plain[0].detail
    shared = list(gpu_findings([gpu(), gpu(mig_on=True)], tmp_path))
    assert [f.name for f in shared] == ["GPU 0", "GPU 1", "GPU 1 MIG", "MPS"]
    assert "same instance" in shared[2].detail
    assert "one user" in shared[3].detail


def test_mps_is_found_by_its_control_pipe(tmp_path: Path) -> None:
    environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    assert mps_pipe_directory(environ) is None
    (tmp_path / "control").touch()
    assert mps_pipe_directory(environ) == tmp_path


def test_nvml_without_a_driver_is_none_or_a_list() -> None:
    assert read_gpus() is None or isinstance(read_gpus(), list)


@pytest.mark.parametrize(("pid", "parent", "state"), [(1, 0, NOTE), (7, 0, NOTE), (812, 1, OK)])
def test_the_first_process_of_a_namespace_is_told(pid: int, parent: int, state: str) -> None:
    assert pid_namespace(pid, parent).state == state


def test_room_is_judged(tmp_path: Path) -> None:
    assert shared_memory(SHM_DIR).state == OK
    assert disk(tmp_path).state == OK
    proc = shared_memory(Path("/proc"))  # a file system without any room
    assert (proc.state, "--shm-size" in proc.detail) == (FAIL, True)
    assert disk(Path("/proc")).state == NOTE
