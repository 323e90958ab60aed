"""Driver, libraries, containers, GPUs, MIG and MPS."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualface_client.machine.doctor.finding import FAIL, NOTE, OK, Finding, attempt
from dualface_client.memory.vram import EMBEDDED_SERVER_BYTES, MIB, WORKER_BYTES
from dualface_client.observe.gpus import GpuFacts, used_gpu
from dualface_client.observe.usable_gpus import (
    UsableGpu,
    choose_gpus,
    cores_near,
    usable_gpus,
)

#: The driver's libraries, and the capability of NVIDIA's container toolkit that mounts each.
_LIBRARIES = {
    "libcuda.so.1": "compute",
    "libnvidia-ml.so.1": "utility",
    "libnvcuvid.so.1": "video",
    "libnvidia-encode.so.1": "video",
}
#: What CuPy of the `gpu` extra is built for.
_CUDA_MAJOR = 13
_MEMORY_MIN_BYTES = EMBEDDED_SERVER_BYTES + WORKER_BYTES


@dataclass(frozen=True, slots=True)
class Driver:
    """What can be seen of the driver without NVML.

    Attributes:
        has_nodes: `/dev/nvidiactl` exists.
        missing: Libraries that cannot be loaded.
        capabilities: `NVIDIA_DRIVER_CAPABILITIES`, None if it is not set.
        is_container: This looks like a container.
    """

    has_nodes: bool
    missing: tuple[str, ...]
    capabilities: str | None
    is_container: bool


def cuda_works() -> bool:
    """Whether pixels can live in GPU memory here."""
    from dualface_client.stream.device_cuda import why_not_cuda

    return why_not_cuda(embedded_server=False) is None


def read_driver() -> Driver:
    """Reads what can be seen of this machine's driver."""
    return Driver(
        Path("/dev/nvidiactl").exists(),
        tuple(name for name in _LIBRARIES if not _loads(name)),
        os.environ.get("NVIDIA_DRIVER_CAPABILITIES"),
        Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
    )


def driver_findings(driver: Driver, gpus: Sequence[GpuFacts] | None) -> Iterator[Finding]:
    """Whether all parts of the driver are there.

    Args:
        driver: From `read_driver`.
        gpus: From `read_gpus`.
    """
    if not driver.has_nodes and len(driver.missing) == len(_LIBRARIES):
        return  # not a GPU machine, as `gpu_findings` reports
    if driver.missing and not driver.has_nodes:
        text = f"no /dev/nvidiactl; missing {', '.join(driver.missing)}"
        yield Finding(FAIL, "driver", text, _container_remedy(driver))
    elif driver.missing:
        yield _missing(driver)
    else:
        yield Finding(OK, "driver", "libraries for CUDA, NVML, NVDEC and NVENC load")
    if gpus:
        yield from _cuda(used_gpu(gpus) or gpus[0])


def _missing(driver: Driver) -> Finding:
    wanted = sorted({_LIBRARIES[name] for name in driver.missing})
    text = f"{', '.join(driver.missing)} cannot be loaded"
    if driver.capabilities is not None:
        text += f"; NVIDIA_DRIVER_CAPABILITIES={driver.capabilities} lacks {', '.join(wanted)}"
    return Finding(FAIL, "driver", text, _container_remedy(driver))


def _container_remedy(driver: Driver) -> str:
    capabilities = "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    if driver.is_container or driver.capabilities is not None:
        return f"start the container with `--gpus all -e {capabilities}`"
    return "install the driver's video libraries (Debian, Ubuntu: libnvidia-decode-*, -encode-*)"


def _cuda(gpu: GpuFacts) -> Iterator[Finding]:
    from dualface_client.stream.device_cuda import why_not_cuda

    if gpu.cuda and int(gpu.cuda.partition(".")[0]) < _CUDA_MAJOR:
        text = f"driver {gpu.driver} runs CUDA up to {gpu.cuda}, the gpu extra needs {_CUDA_MAJOR}"
        advice = f"update the driver, or pip install cupy-cuda{gpu.cuda.partition('.')[0]}x instead"
        yield Finding(FAIL, "CUDA", text, advice)
    problem = why_not_cuda(embedded_server=True)
    if problem is None:
        yield Finding(OK, "CUDA", "`--device cuda` works here")
    else:
        yield Finding(NOTE, "CUDA", f"`--device cuda` does not work: {problem}")


def gpu_findings(
    gpus: Sequence[GpuFacts] | None, mps_pipes: Path | None, why_none: str = ""
) -> Iterator[Finding]:
    """What the GPUs, MIG and MPS mean for a run.

    Args:
        gpus: From `read_gpus`.
        mps_pipes: From `mps_pipe_directory`.
        why_none: From `why_no_gpus`.
    """
    if not gpus:
        why, _, remedy = why_none.partition(": ")
        text = f"none seen ({why}): videos are processed on the CPU"
        yield Finding(NOTE, "GPU", text, f"if there is one: {remedy}" if remedy else "")
        return
    for index, gpu in enumerate(gpus):
        yield from _one_gpu(f"GPU {index}", gpu)
    if mps_pipes is not None:
        yield Finding(
            NOTE,
            "MPS",
            f"its control daemon answers in {mps_pipes}",
            "server and clients must run as one user, with CUDA_MPS_PIPE_DIRECTORY and /dev/shm "
            "shared; a fault in one client can end the others",
        )


def together(gpus: Sequence[GpuFacts], wanted: Sequence[str] | None) -> Iterator[Finding]:
    """Which GPUs one run can use together.

    Args:
        gpus: From `read_gpus`.
        wanted: Those that were named, None for all if there are several.
    """
    usable = usable_gpus(gpus)
    if wanted is None and len(usable) < 2:
        return

    def look() -> str:
        return ", ".join(_with_cores(gpu) for gpu in choose_gpus(wanted or ("all",), usable))

    yield attempt("GPUs together", look)


def _with_cores(gpu: UsableGpu) -> str:
    near = cores_near(gpu.pci_bus_id)
    return f"{gpu.number} ({gpu.product}, {len(near) or 'all'} cores near it)"


def _one_gpu(name: str, gpu: GpuFacts) -> Iterator[Finding]:
    used, total = gpu.memory_used_bytes >> 20, gpu.memory_total_bytes >> 20
    text = f"{gpu.name}, capability {gpu.compute_capability}, driver {gpu.driver}"
    yield Finding(OK, name, f"{text}, {used} of {total} MiB in use")
    if gpu.is_prohibited:
        text = "compute mode Prohibited: no program may use it"
        yield Finding(FAIL, f"{name} mode", text, "as root: nvidia-smi -c DEFAULT")
    if not gpu.decoders:
        text = "its decoder cannot be queried: the driver's `video` part is missing"
        advice = "in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        yield Finding(NOTE, f"{name} decoder", text, advice)
    if gpu.memory_total_bytes - gpu.memory_used_bytes < _MEMORY_MIN_BYTES:
        least = round(_MEMORY_MIN_BYTES / MIB, -2)
        text = f"{total - used} MiB free; the embedded server and a client take about {least:,.0f}"
        advice = "stop other programs that use it (nvidia-smi lists them)"
        yield Finding(NOTE, f"{name} memory", text, advice)
    if gpu.mig_on:
        yield Finding(
            NOTE,
            f"{name} MIG",
            "split into GPU instances: CUDA shared memory does not cross them",
            "clients and their server must run in the same instance: `run --gpus all` starts one "
            "server for each instance",
        )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:  # this is the question
        return False
    return True
