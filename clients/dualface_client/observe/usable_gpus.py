"""Which GPUs a run may use: each whole one, and each instance of a split one (MIG)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualface_client.errors import PlatformError, UsageError
from dualface_client.location import Location
from dualface_client.observe.gpus import GpuFacts

#: Which GPUs CUDA shows to a process, by index or UUID.
VISIBLE = "CUDA_VISIBLE_DEVICES"
_SYS = Path("/sys/bus/pci/devices")


@dataclass(frozen=True, slots=True)
class UsableGpu:
    """A GPU, or one instance of a split GPU.

    Attributes:
        number: As `nvidia-smi` counts GPUs, and `GPU:INSTANCE` of a split one.
        uuid: What CUDA knows it by.
        card: UUID of the whole GPU.
        product: Its name.
        pci_bus_id: Of the whole GPU, as the kernel writes it; empty if unknown.
        memory_total_bytes: Its own, 0 if unknown.
    """

    number: str
    uuid: str
    card: str
    product: str
    pci_bus_id: str = ""
    memory_total_bytes: int = 0


def usable_gpus(gpus: Sequence[GpuFacts]) -> list[UsableGpu]:
    """Every GPU that has programs of its own; a split one that has no instance has none.

    Args:
        gpus: From `read_gpus`.
    """
    return [usable for index, gpu in enumerate(gpus) for usable in _parts(str(index), gpu)]


def _parts(number: str, gpu: GpuFacts) -> Iterator[UsableGpu]:
    if not gpu.mig_on:
        own = gpu.memory_total_bytes
        yield UsableGpu(number, gpu.uuid, gpu.uuid, gpu.name, gpu.pci_bus_id, own)
    for place, part in enumerate(gpu.instances):
        name, own = f"{number}:{place}", part.memory_total_bytes
        yield UsableGpu(name, part.uuid, gpu.uuid, gpu.name, gpu.pci_bus_id, own)


def choose_gpus(
    wanted: Sequence[str], usable: Sequence[UsableGpu], environ: Mapping[str, str] | None = None
) -> list[UsableGpu]:
    """The GPUs that a user named.

    Args:
        wanted: Value of the setting `run.gpus`.
        usable: From `usable_gpus`.
        environ: Environment variables, which may hide GPUs; None reads this process's.

    Raises:
        PlatformError: There is none.
        UsageError: One of those named is not there, or hidden.
    """
    env = os.environ if environ is None else environ
    visible = [gpu for gpu in usable if _is_visible(gpu, env.get(VISIBLE))]
    if not visible:
        hidden = f"{VISIBLE}={env.get(VISIBLE)} hides all of them" if usable else "NVML has none"
        raise PlatformError(
            f"--gpus {','.join(wanted)}: no GPU can be used ({hidden}); without --gpus the CPU "
            "is used where there is none"
        )
    if tuple(wanted) == ("all",):
        return visible
    found: list[UsableGpu] = []
    for name in wanted:
        named = [gpu for gpu in visible if name == gpu.number] or _with_uuid(name, visible)
        # A split GPU stands for all of its instances.
        named = named or [gpu for gpu in visible if gpu.number.startswith(f"{name}:")]
        if not named:
            there = ", ".join(f"{gpu.number} ({gpu.product})" for gpu in visible)
            raise UsageError(f"--gpus {','.join(wanted)}: there is no GPU {name}; there is {there}")
        found += named
    return list(dict.fromkeys(found))


def _with_uuid(name: str, visible: Sequence[UsableGpu]) -> list[UsableGpu]:
    """The GPU whose UUID begins so, as CUDA takes abbreviated ones.

    Raises:
        UsageError: There are several.
    """
    found = [gpu for gpu in visible if gpu.uuid.startswith(name)]
    if len(found) > 1:
        raise UsageError(
            f"--gpus {name}: {' and '.join(gpu.uuid for gpu in found)} begin so; give more of it"
        )
    return found


def _is_visible(gpu: UsableGpu, visible: str | None) -> bool:
    if visible is None:
        return True
    names = [name.strip() for name in visible.split(",")]
    return any(
        name == gpu.number.partition(":")[0]
        or (name and (gpu.uuid.startswith(name) or gpu.card.startswith(name)))
        for name in names
    )


def location_of(gpu: UsableGpu, devices: Path = _SYS) -> Location:
    """Where processes are started that use a GPU and no other.

    Args:
        gpu: Which.
        devices: The kernel's directory of PCI devices.
    """
    return Location(f"GPU {gpu.number}", {VISIBLE: gpu.uuid}, cores_near(gpu.pci_bus_id, devices))


def cores_near(pci_bus_id: str, devices: Path = _SYS) -> frozenset[int]:
    """Cores of a PCI device's NUMA node that this process may use.

    Args:
        pci_bus_id: As the kernel writes it, such as `0000:17:00.0`.
        devices: The kernel's directory of PCI devices.

    Returns:
        Empty if the kernel does not say, if it is every core, or if none of them is allowed.
    """
    try:
        text = (devices / pci_bus_id / "local_cpulist").read_text()
    except OSError:  # no such device here, as in some containers
        return frozenset()
    allowed = os.sched_getaffinity(0)
    near = _numbers(text) & allowed
    return frozenset() if near == allowed else frozenset(near)


def _numbers(text: str) -> set[int]:
    """Numbers of a list such as `0-3,8-11`."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
