"""What NVML and the file system say about the GPUs; a thin edge around `nvidia-ml-py`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MPS_PIPES = Path("/tmp/nvidia-mps")  # noqa: S108 - the control daemon's own default


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU.

    Attributes:
        name: Product name.
        driver: Driver version.
        memory_total_bytes: Device memory.
        memory_used_bytes: Of it in use, by anybody.
        compute_capability: Such as `9.0`.
        mig_on: Whether it is split into GPU instances.
        decoders: NVDEC load can be read (`video` driver capability present).
    """

    name: str
    driver: str
    memory_total_bytes: int
    memory_used_bytes: int
    compute_capability: str
    mig_on: bool
    decoders: bool


def read_gpus() -> list[GpuFacts] | None:
    """Asks NVML.

    Returns:
        The GPUs, empty where there is a driver and no GPU, None where NVML cannot be had (no
        `nvidia-ml-py`, no driver, no access).
    """
    try:
        import pynvml as nvml
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return [_facts(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def mps_pipe_directory(environ: Mapping[str, str] | None = None) -> Path | None:
    """The control pipe of a running MPS daemon, None where there is none.

    Args:
        environ: Environment variables; None reads this process's.
    """
    env = os.environ if environ is None else environ
    directory = Path(env.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS_PIPES)
    return directory if (directory / "control").exists() else None


def _facts(nvml: Any, index: int) -> GpuFacts:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    return GpuFacts(
        _text(nvml.nvmlDeviceGetName(device)),
        _text(nvml.nvmlSystemGetDriverVersion()),
        int(memory.total),
        int(memory.used),
        f"{major}.{minor}",
        _supported(nvml, lambda: nvml.nvmlDeviceGetMigMode(device)[0] == 1),
        _supported(nvml, lambda: nvml.nvmlDeviceGetDecoderUtilization(device) is not None),
    )


def _supported(nvml: Any, ask: Any) -> bool:
    try:
        return bool(ask())
    except nvml.NVMLError:  # an old card or driver does not know the question
        return False


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
