"""The device of a run; the GPU's parts are imported only where they are used."""

from __future__ import annotations

from dualface_client.errors import PlatformError, UsageError
from dualface_client.pipeline.device import Device
from dualface_client.pipeline.server import ServerChoice
from dualface_client.settings.machine import LimitSettings
from dualface_client.settings.run import RunSettings


def device_for(choice: ServerChoice) -> str:
    """Where pixels live, `cpu` or `cuda`.

    Args:
        choice: Which server is used, and the device that was asked for: `auto` is `cuda` where that
            works.

    Raises:
        PlatformError: `cuda` was asked for and something is missing.
    """
    if choice.device == "cpu" or (choice.device == "auto" and not choice.is_local):
        return "cpu"
    from dualface_client.pipeline.cuda_device import why_not_cuda

    reason = why_not_cuda(embedded_server=choice.address is None)
    if reason is not None and choice.device == "cuda":
        raise PlatformError(f"--device cuda: {reason}; --device cpu needs none of it")
    return "cpu" if reason else "cuda"


def settings_for(
    device: str, settings: RunSettings, limits: LimitSettings, streams: int
) -> RunSettings:
    """Settings with what the device decides where nobody has said.

    Args:
        device: `cpu` or `cuda`.
        settings: Of the run.
        limits: Of the machine.
        streams: That run at a time.

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
    from dualface_client.pipeline.cuda_device import for_cuda

    return for_cuda(settings, streams, limits.detector_batch)


def make_device(name: str, settings: RunSettings) -> Device:
    """The parts for a device.

    Args:
        name: `cpu` or `cuda`.
        settings: Of the run.
    """
    if name == "cpu":
        from dualface_client.pipeline.cpu_device import CpuDevice

        return CpuDevice()
    from dualface_client.pipeline.cuda_device import CudaDevice

    return CudaDevice(settings)
