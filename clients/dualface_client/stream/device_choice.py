"""The device of a run; the GPU's parts are imported only where they are used."""

from __future__ import annotations

from dualface_client.errors import PlatformError, UsageError
from dualface_client.settings.program import LimitSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device import Device


def device_for(
    wanted: str, *, server_is_local: bool, embedded_server: bool, look_at_gpu: bool = True
) -> str:
    """Where pixels live, `cpu` or `cuda`.

    Args:
        wanted: `cpu`, `cuda`, or `auto` for `cuda` if that works.
        server_is_local: Whether the server is certainly on this machine and can share its memory.
        embedded_server: Whether the models run here too, not in a server that is already running.
        look_at_gpu: Whether the GPU itself is tried.

    Raises:
        PlatformError: `cuda` was asked for and something is missing.
    """
    if wanted == "cpu" or (wanted == "auto" and not server_is_local):
        return "cpu"
    from dualface_client.stream.device_cuda import why_not_cuda

    reason = why_not_cuda(embedded_server=embedded_server, look_at_gpu=look_at_gpu)
    if reason is not None and wanted == "cuda":
        raise PlatformError(f"--device cuda: {reason}; --device cpu works without it")
    return "cpu" if reason else "cuda"


def settings_for(
    device: str, settings: StreamSettings, limits: LimitSettings, streams: int, *, mps: bool = False
) -> StreamSettings:
    """Settings in which the device decides what the user left open.

    Args:
        device: `cpu` or `cuda`.
        settings: Of the run.
        limits: Of the machine.
        streams: How many run at a time.
        mps: Whether processes use a GPU side by side.

    Raises:
        UsageError: NVENC was asked for on a CPU.
    """
    if device == "cpu":
        if settings.output.encoder == "nvenc":
            raise UsageError(
                "output.encoder: nvenc: frames are on the CPU here (run.device), and only "
                "--device cuda has NVENC; use auto or x264"
            )
        return settings
    from dualface_client.stream.device_cuda import for_cuda

    return for_cuda(settings, streams, limits.detector_batch, mps=mps)


def make_device(name: str, settings: StreamSettings) -> Device:
    """The parts for a device.

    Args:
        name: `cpu` or `cuda`.
        settings: Of the run.
    """
    if name == "cpu":
        from dualface_client.stream.device_cpu import CpuDevice

        return CpuDevice()
    from dualface_client.stream.device_cuda import CudaDevice

    return CudaDevice(settings)
