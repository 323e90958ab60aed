from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.machine.doctor import FAIL, NOTE, OK, examine
from dualface_client.machine.doctor.engines import engine_findings
from dualface_client.machine.doctor.environment import configuration, packages, probed
from dualface_client.machine.doctor.gpu import (
    Driver,
    driver_findings,
    gpu_findings,
    read_driver,
    together,
)
from dualface_client.machine.doctor.host import (
    Clock,
    backend_place,
    clock,
    cores,
    disk,
    is_noexec,
    limits,
    pid_namespace,
    ports,
    proxies,
    read_clock,
    shared_memory,
    temporary,
)
from dualface_client.machine.doctor.server import version_findings
from dualface_client.machine.probe import layer_text, probe
from dualface_client.memory.region import SHM_DIR
from dualface_client.observe.gpus import GpuFacts, mps_pipe_directory, read_gpus, why_no_gpus
from dualface_client.observe.host import MachineFacts
from dualface_client.triton.description import MODELS

GIB = 1 << 30


def gpu(*, mig_on: bool = False) -> GpuFacts:
    return GpuFacts("NVIDIA H200", "580.159", 139 * GIB, 2 * GIB, "9.0", mig_on, decoders=True)


def run(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        [sys.executable, "-m", "dualface_client", "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=None if environ is None else {**path, **environ},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_this_machine_is_fit() -> None:
    code, text = run()
    assert code == 0, text
    for name in (
        "packages",
        "system",
        "embedded server",
        "models",
        "shared memory",
        "disk",
        "temporary files",
        "open files",
        "ports",
    ):
        assert f"ok    {name}: " in text
    assert FAIL not in text


def test_missing_parts_are_named_with_the_remedy(tmp_path: Path) -> None:
    environ = {"DUALFACE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    code, text = run(environ=environ)
    assert code == 2
    assert "FAIL  embedded server: " in text
    assert "FAIL  models: " in text
    assert text.count("dualface-client setup") >= 2


def test_a_server_that_is_not_there() -> None:
    code, text = run("--server", "127.0.0.1:9")
    assert code == 2
    assert "FAIL  server: " in text
    assert "127.0.0.1:9" in text
    assert "contract" not in text


def test_no_gpu_is_no_failure() -> None:
    (finding,) = gpu_findings(None, None)
    assert (finding.state, "on the CPU" in finding.detail) == (NOTE, True)
    (finding,) = gpu_findings([], None, "a driver, but no GPU")
    assert "a driver, but no GPU" in finding.detail
    (finding,) = gpu_findings(None, None, "x is not installed: pip install x")
    assert (finding.remedy, why_no_gpus() != "") == (
        "if there is one: pip install x",
        not read_gpus(),
    )


def test_mig_and_mps_are_seen_and_explained(tmp_path: Path) -> None:
    plain = list(gpu_findings([gpu()], None))
    assert [(f.state, f.name) for f in plain] == [(OK, "GPU 0")]
    assert "2048 of 142336 MiB" in plain[0].detail
    shared = list(gpu_findings([gpu(), gpu(mig_on=True)], tmp_path))
    assert [f.name for f in shared] == ["GPU 0", "GPU 1", "GPU 1 MIG", "MPS"]
    assert "same instance" in shared[2].remedy
    assert "one user" in shared[3].remedy


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
    assert (proc.state, "--shm-size" in proc.remedy) == (FAIL, True)
    assert disk(Path("/proc")).state == NOTE


def test_findings_as_json(tmp_path: Path) -> None:
    code, text = run("--json", environ={"DUALFACE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    told = {finding["name"]: finding for finding in json.loads(text)}
    assert (code, told["embedded server"]["state"], told["system"]["state"]) == (2, FAIL, OK)
    assert set(told["system"]) == {"state", "name", "detail", "remedy"}


NO_GPU = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1")
DRIVER = Driver(has_nodes=True, missing=(), capabilities=None, is_container=False)


def test_a_machine_without_a_driver_says_nothing_of_it() -> None:
    none = Driver(has_nodes=False, missing=NO_GPU, capabilities=None, is_container=False)
    assert list(driver_findings(none, None)) == []


def test_a_container_without_the_video_capability_is_told_what_to_ask_for() -> None:
    driver = replace(
        DRIVER,
        missing=("libnvcuvid.so.1", "libnvidia-encode.so.1"),
        capabilities="compute,utility",
        is_container=True,
    )
    (finding,) = driver_findings(driver, None)
    assert finding.state == FAIL
    assert "libnvcuvid.so.1, libnvidia-encode.so.1 cannot be loaded" in finding.detail
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility lacks video" in finding.detail
    assert "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video" in finding.remedy
    bare = replace(driver, capabilities=None, is_container=False)
    (finding,) = driver_findings(bare, None)
    assert "libnvidia-decode" in finding.remedy


def test_libraries_without_a_device_are_a_container_without_gpus() -> None:
    (finding,) = driver_findings(replace(DRIVER, has_nodes=False, missing=NO_GPU[2:]), None)
    assert (finding.state, "no /dev/nvidiactl" in finding.detail) == (FAIL, True)


def test_a_driver_too_old_for_the_packages_is_told() -> None:
    found = list(driver_findings(DRIVER, [replace(gpu(), cuda="12.4", driver="550.1")]))
    assert [finding.state for finding in found][:2] == [OK, FAIL]
    assert "driver 550.1 runs CUDA up to 12.4, the gpu extra needs 13" in found[1].detail
    assert "cupy-cuda12x" in found[1].remedy


def test_this_machines_driver_can_be_read() -> None:
    assert set(read_driver().missing) <= set(NO_GPU)


def test_a_gpu_that_cannot_be_used_is_told() -> None:
    used = replace(gpu(), is_prohibited=True, decoders=False, memory_used_bytes=136 * GIB)
    told = {f.name: f for f in gpu_findings([used], None)}
    assert told["GPU 0 mode"].state == FAIL
    assert "nvidia-smi -c DEFAULT" in told["GPU 0 mode"].remedy
    assert "video" in told["GPU 0 decoder"].remedy
    assert "3072 MiB free" in told["GPU 0 memory"].detail


def repository(place: Path, *capabilities: str, manifest: bool = True) -> Path:
    for spec in MODELS:
        version = place / spec.name / "1"
        version.mkdir(parents=True)
        for capability in capabilities:
            plan = version / f"model.sm{capability.replace('.', '')}.plan"
            plan.touch()
            if manifest:
                plan.with_suffix(".json").write_text(json.dumps({"tensorrt": "11.3.0"}))
    return place


def test_an_engine_of_another_gpu_is_told(tmp_path: Path) -> None:
    found = list(engine_findings(repository(tmp_path, "8.6", "8.9"), ["9.0"]))
    assert [finding.state for finding in found] == [FAIL, FAIL]
    assert found[0].detail == "built for capability 8.6, 8.9, here is 9.0"
    assert "make build-engines" in found[0].remedy


def test_engines_of_this_gpu_are_fine(tmp_path: Path) -> None:
    found = list(engine_findings(repository(tmp_path, "9.0", "12.0"), ["9.0", "12.0"]))
    assert [finding.state for finding in found] == [OK, OK]
    assert "by TensorRT 11.3.0" in found[0].detail
    (plan,) = (tmp_path / "face_reid").glob("*/*90.plan")
    plan.unlink()
    assert [f.state for f in engine_findings(tmp_path, ["9.0"])] == [OK, FAIL]


def test_engines_without_a_manifest_or_a_repository(tmp_path: Path) -> None:
    bare = repository(tmp_path / "bare", "9.0", manifest=False)
    assert [f.state for f in engine_findings(bare, ["9.0"])] == [NOTE, NOTE]
    (empty,) = engine_findings(repository(tmp_path / "empty"), ["9.0"])
    assert (empty.state, "no engines" in empty.detail) == (NOTE, True)
    (missing,) = engine_findings(tmp_path / "none", ["9.0"])
    assert missing.state == FAIL


def test_a_clock_before_the_installation_is_wrong() -> None:
    now = time.time()
    late = clock(Clock(now - 10 * 86_400, now, is_kept=True))
    assert (late.state, "set the clock" in late.remedy) == (FAIL, True)
    assert clock(Clock(now, now, is_kept=False)).state == NOTE
    assert clock(Clock(now, now, is_kept=None)).state == OK
    assert abs(read_clock().now_s - now) < 5
    assert clock(read_clock()).state in (OK, NOTE)


def test_a_taken_port_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = ports([port])
        assert (finding.state, f"127.0.0.1:{port} in use" in finding.detail) == (NOTE, True)
        assert f"--server 127.0.0.1:{port}" in finding.remedy
    assert ports([port]).state == OK


def test_a_container_with_less_time_than_cores() -> None:
    finding = cores(MachineFacts("CPU", 16, 2.0, GIB))
    assert (finding.state, "--model-threads 2" in finding.remedy) == (NOTE, True)
    assert cores(MachineFacts("CPU", 16, None, GIB)).state == OK


def test_limits_proxies_and_temporary_files(tmp_path: Path) -> None:
    assert (limits(256).state, limits(4096).state) == (NOTE, OK)
    assert [f.state for f in proxies({"https_proxy": "http://p:1"})] == [NOTE]
    assert list(proxies({"PATH": "/bin"})) == []
    assert not is_noexec(tmp_path)
    assert [f.state for f in temporary(tmp_path, noexec=False)] == [OK]
    assert list(backend_place(tmp_path)) == []
    (gone,) = backend_place(tmp_path / "a; b")
    assert gone.state == FAIL
    assert gone.detail.startswith(f"{tmp_path / 'a; b'} is not writable")
    assert gone.detail.endswith("whatever TMPDIR says")
    assert "--tmpfs" in gone.remedy
    (bad,) = temporary(tmp_path, noexec=True)
    assert (bad.state, "noexec" in bad.detail, "TMPDIR" in bad.remedy) == (FAIL, True, True)


def test_packages_are_looked_for() -> None:
    have = {
        "numpy": "2",
        "tritonclient": "2",
        "av": "18",
        "opencv-python-headless": "5",
        "lapx": "1",
        "msgspec": "1",
        "psutil": "7",
        "pyyaml": "6",
        "jinja2": "3",
    }
    assert [f.state for f in packages({**have, "onnxruntime": "1.31"})] == [OK, OK]
    assert [f.state for f in packages(have)] == [OK, NOTE]
    both = list(packages({**have, "onnxruntime": "1.31", "onnxruntime-gpu": "1.31"}))
    assert (both[1].state, "share one module" in both[1].detail) == (FAIL, True)
    (missing,) = packages({name: "1" for name in have if name not in ("av", "lapx")})
    assert (missing.state, missing.detail) == (FAIL, "missing: av, lapx")
    other = {name: "1" for name in have if name != "opencv-python-headless"}
    assert next(packages({**other, "opencv-python": "4"})).state == OK


def test_a_broken_configuration_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "manual.yaml").write_text("output:\n  crf: 99\n")
    finding = configuration(tmp_path, {})
    assert (finding.state, "manual.yaml:2: output.crf: 99" in finding.detail) == (FAIL, True)
    (tmp_path / "manual.yaml").write_text("output:\n  crf: 30\n")
    assert "1 settings given" in configuration(tmp_path, {}).detail


def test_a_layer_of_another_machine_is_told(tmp_path: Path) -> None:
    layer = tmp_path / "auto_detected.yaml"
    layer.write_text(layer_text(probe(tmp_path, measure_disk=False), "now"))
    assert [f.state for f in probed(tmp_path, {})] == [OK]
    lines = layer.read_text().splitlines()
    lines = ["# machine: Cray-1 x1; no GPU" if "# machine" in line else line for line in lines]
    layer.write_text("\n".join(lines))
    (finding,) = probed(tmp_path, {})
    assert (finding.state, "was written on Cray-1 x1; no GPU" in finding.detail) == (NOTE, True)


def test_server_versions() -> None:
    both = ("system_shared_memory", "cuda_shared_memory")
    assert [f.state for f in version_findings("2.71.0", both)] == [OK]
    (old,) = version_findings("2.51.0", both)
    assert "waits for its requests" in old.detail
    (bare,) = version_findings("2.71.0", both[:1])
    assert (bare.state, "no cuda_shared_memory" in bare.detail) == (FAIL, True)


PAGE = Path(__file__).parents[2] / "docs" / "machine.md"


@pytest.mark.skipif(bool(read_gpus()), reason="the page shows a machine without a GPU")
def test_the_page_shows_what_doctor_looks_at() -> None:
    shown = re.findall(r"^(?:ok|note|FAIL) +([^:]+): ", PAGE.read_text(), re.MULTILINE)
    here = [finding.name for finding in examine() if finding.name not in ("proxy", "ONNX Runtime")]
    assert [name for name in shown if name != "ONNX Runtime"] == here


def test_gpus_that_a_run_could_use_together() -> None:
    assert list(together([gpu()], None)) == []
    (several,) = together([gpu(), gpu()], None)
    assert (several.state, several.name) == (OK, "GPUs together")
    assert re.findall(r"(\d) \(", several.detail) == ["0", "1"]
    (absent,) = together([gpu()], ["0", "3"])
    assert (absent.state, absent.name) == (FAIL, "GPUs together")
    assert "--gpus 0,3: there is no GPU 3" in absent.detail
