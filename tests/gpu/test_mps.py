"""The real daemon: contexts of other processes share one server, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from dualface_client.cuda.stream import why_no_context
from dualface_client.observe.gpus import read_gpus, used_gpu
from dualface_client.triton.mps import multi_process_service
from dualface_client.triton.mps_shares import share_of_client

pytestmark = pytest.mark.gpu

WORK = """
import cupy
print(int((cupy.arange(1000) * 2).sum()))
"""


def mps_processes() -> list[str]:
    found = psutil.process_iter(["name"])
    return [each.info["name"] for each in found if "nvidia-cuda-mps" in (each.info["name"] or "")]


def test_processes_work_under_it_and_it_ends() -> None:
    before = mps_processes()
    with multi_process_service(wanted=True):
        processes = [
            subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for process in processes:
            assert process.communicate(timeout=60)[0].strip() == "999000"
        assert any("server" in name for name in mps_processes())
    assert mps_processes() == before


CONTEXT = """
from dualface_client.cuda.stream import CudaStream
stream = CudaStream()
with stream:
    print(int((stream.cupy.arange(1000) * 2).sum()), flush=True)
input()
"""


def used_bytes() -> int:
    gpu = used_gpu(read_gpus())
    assert gpu is not None
    return gpu.memory_used_bytes


@pytest.mark.parametrize(("mps", "most_mib"), [(False, 400), (True, 300)])
def test_a_process_takes_little_of_the_gpus_memory(mps: bool, most_mib: int) -> None:
    """Of an H200 530 MiB with the usual stacks and all threads."""
    with multi_process_service(wanted=mps):
        idle = used_bytes()
        with subprocess.Popen(
            [sys.executable, "-c", CONTEXT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **share_of_client(os.environ)},
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "999000"
            taken = used_bytes() - idle
            process.communicate("\n", timeout=60)
    assert 0 < taken < most_mib << 20


def test_a_context_that_somebody_else_has_used_keeps_its_stacks() -> None:
    """Graphs that were made in it before would fail."""
    script = """
import cupy
cupy.zeros(1)
from dualface_client.cuda.stream import CudaStream
CudaStream()
print(cupy.cuda.runtime.deviceGetLimit(0))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True
    )
    assert int(done.stdout) >= 1024


def test_a_look_at_the_gpu_leaves_no_context() -> None:
    script = """
from dualface_client.cuda.stream import why_no_context
import os
assert why_no_context() == ""
print(os.getpid(), flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        gpu = used_gpu(read_gpus())
        assert gpu is not None
        used_with = gpu.memory_used_bytes
        process.communicate("\n", timeout=60)
    gpu = used_gpu(read_gpus())
    assert gpu is not None
    assert used_with - gpu.memory_used_bytes < 200 << 20
    assert "GPU 99 cannot be used" in why_no_context(99)
