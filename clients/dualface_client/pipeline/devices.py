"""The device of a run by its name; the GPU's parts are imported only where they are used."""

from __future__ import annotations

from dualface_client.pipeline.runner import Device
from dualface_client.settings.run import RunSettings


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
