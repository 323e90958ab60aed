"""What NVML and the file system say about the GPUs; a thin edge around `nvidia-ml-py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualface_client.closing import ClosesAtExit

_MPS_PIPES = Path("/tmp/nvidia-mps")  # noqa: S108 - the control daemon's own default
#: NVML's numbers (nvml.h): brands whose drivers limit NVENC sessions, and a compute mode.
_CONSUMER_BRANDS = (5, 6, 15, 16)  # GeForce, Titan, and their RTX names
_PROHIBITED = 2
#: Reasons for lower clocks that mean trouble (nvml.h, `nvmlClocksEventReason*`). A power cap and
#: an idle GPU are common and not among them.
_TROUBLE = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "external power brake",
}
_POWER_CAP = 0x04


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """A part of a split GPU (MIG), which is a GPU of its own for programs.

    Attributes:
        uuid: Identifies it.
        memory_total_bytes: Its share of the device memory.
        memory_used_bytes: How much of that is in use, by anybody.
    """

    uuid: str
    memory_total_bytes: int
    memory_used_bytes: int


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU.

    Attributes:
        name: Product name.
        driver: Driver version.
        memory_total_bytes: Device memory.
        memory_used_bytes: How much of it is in use, by anybody.
        compute_capability: Such as `9.0`.
        mig_on: Whether it is split into GPU instances.
        decoders: Whether NVDEC's load can be read (the `video` driver capability is present).
        cuda: Newest CUDA version that the driver supports, such as `13.0`; empty if unknown.
        is_consumer: GeForce or Titan: the driver limits NVENC sessions.
        encoder_sessions: NVENC sessions open now, by anybody; None if unknown.
        is_prohibited: Compute mode forbids every context.
        pcie: Link such as `gen 5 x16`, empty if unknown.
        uuid: Identifies it, empty if unknown.
        pci_bus_id: As the kernel writes it, such as `0000:17:00.0`; empty if unknown.
        instances: Its parts, if it is split.
    """

    name: str
    driver: str
    memory_total_bytes: int
    memory_used_bytes: int
    compute_capability: str
    mig_on: bool
    decoders: bool
    cuda: str = ""
    is_consumer: bool = False
    encoder_sessions: int | None = None
    is_prohibited: bool = False
    pcie: str = ""
    uuid: str = ""
    pci_bus_id: str = ""
    instances: tuple[GpuInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment; what it does not report is None.

    Attributes:
        memory_used_bytes: Device memory in use, by anybody.
        memory_total_bytes: Device memory.
        load: Share of the time in which a kernel ran, 0 to 1.
        decoder_load: The same of NVDEC.
        encoder_load: The same of NVENC.
        temperature_c: Of the chip.
        power_w: Drawn now.
        pcie_rx_bytes_s: To the GPU.
        pcie_tx_bytes_s: From the GPU.
        throttled: Why clocks are lowered, if that means trouble.
        power_capped: Whether the power limit lowers clocks.
    """

    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    load: float | None = None
    decoder_load: float | None = None
    encoder_load: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    pcie_rx_bytes_s: int | None = None
    pcie_tx_bytes_s: int | None = None
    throttled: tuple[str, ...] = ()
    power_capped: bool = False


class Nvml(ClosesAtExit):
    """An open NVML; one thread at a time.

    Args:
        library: `pynvml`; None imports it.

    Raises:
        OSError: It is not available; the message says why.
    """

    def __init__(self, library: Any = None) -> None:
        pynvml = self._nvml = _pynvml() if library is None else library
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise OSError(
                f"NVML cannot be read ({error}): no driver, or no access to it"
            ) from error
        count = int(self._ask(pynvml.nvmlDeviceGetCount) or 0)
        handles = (self._ask(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(count))
        self._handles = [handle for handle in handles if handle is not None]

    def facts(self) -> list[GpuFacts]:
        """What does not change, for every GPU."""
        return [self._facts(handle) for handle in self._handles]

    def sample(self, index: int) -> GpuSample:
        """What changes, for one GPU; takes some 40 ms for the PCIe counters.

        Args:
            index: As NVML counts them.
        """
        return self._sample(self._handles[index])

    def used_index(self, environ: Mapping[str, str] | None = None) -> int | None:
        """Which GPU is CUDA's first one here, as NVML counts them; None without one.

        Args:
            environ: Environment variables; None reads this process's.
        """
        env = os.environ if environ is None else environ
        return first_visible(env.get("CUDA_VISIBLE_DEVICES"), self._uuids(), self._instance_uuids())

    def indices(self, uuids: Collection[str]) -> list[int]:
        """Which GPUs have these UUIDs, or are split into instances that have them.

        Args:
            uuids: Of GPUs or instances.
        """
        owners = zip(self._uuids(), self._instance_uuids(), strict=True)
        return [
            index
            for index, (own, parts) in enumerate(owners)
            if not {own, *parts}.isdisjoint(uuids)
        ]

    def _uuids(self) -> list[str]:
        return [_text(self._ask(self._nvml.nvmlDeviceGetUUID, one)) for one in self._handles]

    def _instance_uuids(self) -> list[list[str]]:
        return [[part.uuid for part in self._instances(one)] for one in self._handles]

    def _instances(self, device: Any) -> tuple[GpuInstance, ...]:
        nvml, ask = self._nvml, self._ask
        count = int(ask(nvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0)
        found = (ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, device, n) for n in range(count))
        return tuple(self._instance(part) for part in found if part is not None)

    def _instance(self, part: Any) -> GpuInstance:
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, part)
        uuid = _text(self._ask(self._nvml.nvmlDeviceGetUUID, part))
        return GpuInstance(
            uuid, int(memory.total) if memory else 0, int(memory.used) if memory else 0
        )

    def close(self) -> None:
        """Shuts NVML down; nothing may be asked afterwards."""
        self._ask(self._nvml.nvmlShutdown)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """An answer, None if card or driver do not support the question."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:  # not every card answers every question
            return None

    def _facts(self, device: Any) -> GpuFacts:
        nvml, ask = self._nvml, self._ask
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, device)
        capability = ask(nvml.nvmlDeviceGetCudaComputeCapability, device) or (0, 0)
        cuda = ask(nvml.nvmlSystemGetCudaDriverVersion) or 0
        encoder = ask(nvml.nvmlDeviceGetEncoderStats, device)
        return GpuFacts(
            _text(ask(nvml.nvmlDeviceGetName, device)),
            _text(ask(nvml.nvmlSystemGetDriverVersion)),
            int(memory.total) if memory else 0,
            int(memory.used) if memory else 0,
            f"{capability[0]}.{capability[1]}",
            (ask(nvml.nvmlDeviceGetMigMode, device) or (0,))[0] == 1,
            ask(nvml.nvmlDeviceGetDecoderUtilization, device) is not None,
            f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
            ask(nvml.nvmlDeviceGetBrand, device) in _CONSUMER_BRANDS,
            int(encoder[0]) if encoder else None,
            ask(nvml.nvmlDeviceGetComputeMode, device) == _PROHIBITED,
            self._pcie(device),
            _text(ask(nvml.nvmlDeviceGetUUID, device)),
            _kernels_bus_id(_text(getattr(ask(nvml.nvmlDeviceGetPciInfo, device), "busId", ""))),
            self._instances(device),
        )

    def _pcie(self, device: Any) -> str:
        generation = self._ask(self._nvml.nvmlDeviceGetMaxPcieLinkGeneration, device)
        width = self._ask(self._nvml.nvmlDeviceGetCurrPcieLinkWidth, device)
        return f"gen {generation} x{width}" if generation and width else ""

    def _sample(self, device: Any) -> GpuSample:
        nvml, ask = self._nvml, self._ask
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, device)
        load = ask(nvml.nvmlDeviceGetUtilizationRates, device)
        decoder = ask(nvml.nvmlDeviceGetDecoderUtilization, device)
        encoder = ask(nvml.nvmlDeviceGetEncoderUtilization, device)
        reasons = int(ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, device) or 0)
        rx_kib_s = ask(nvml.nvmlDeviceGetPcieThroughput, device, nvml.NVML_PCIE_UTIL_RX_BYTES)
        tx_kib_s = ask(nvml.nvmlDeviceGetPcieThroughput, device, nvml.NVML_PCIE_UTIL_TX_BYTES)
        power_mw = ask(nvml.nvmlDeviceGetPowerUsage, device)
        return GpuSample(
            int(memory.used) if memory else None,
            int(memory.total) if memory else None,
            _share(load and load.gpu),
            _share(decoder and decoder[0]),
            _share(encoder and encoder[0]),
            ask(nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU),
            None if power_mw is None else power_mw / 1000,
            None if rx_kib_s is None else int(rx_kib_s) << 10,
            None if tx_kib_s is None else int(tx_kib_s) << 10,
            tuple(text for bit, text in _TROUBLE.items() if reasons & bit),
            bool(reasons & _POWER_CAP),
        )


def read_gpus() -> list[GpuFacts] | None:
    """Asks NVML once.

    Returns:
        The GPUs, empty if there is a driver but no GPU, None if NVML is not available (no
        `nvidia-ml-py`, no driver, no access).
    """
    try:
        with Nvml() as nvml:
            return nvml.facts()
    except OSError:  # the docstring's None
        return None


def used_gpu(
    gpus: Sequence[GpuFacts] | None, environ: Mapping[str, str] | None = None
) -> GpuFacts | None:
    """The GPU that this process and what it starts use: CUDA's first one.

    CUDA counts like NVML if all GPUs are of one kind, or with `CUDA_DEVICE_ORDER=PCI_BUS_ID`.

    Args:
        gpus: From `read_gpus`.
        environ: Environment variables; None reads this process's.

    Returns:
        None without a GPU, or if `CUDA_VISIBLE_DEVICES` hides all.
    """
    env = os.environ if environ is None else environ
    found, visible = list(gpus or ()), env.get("CUDA_VISIBLE_DEVICES")
    parts = [[part.uuid for part in gpu.instances] for gpu in found]
    place = first_visible(visible, [gpu.uuid for gpu in found], parts)
    return None if place is None else _as_instance(found[place], visible)


def _as_instance(gpu: GpuFacts, visible: str | None) -> GpuFacts:
    """A split GPU as programs see it that are shown one of its instances."""
    first = (visible or "").partition(",")[0].strip()
    for part in gpu.instances:
        if first and part.uuid.startswith(first):
            return replace(
                gpu,
                memory_total_bytes=part.memory_total_bytes,
                memory_used_bytes=part.memory_used_bytes,
                uuid=part.uuid,
            )
    return gpu


def first_visible(
    visible: str | None, uuids: Sequence[str], instances: Sequence[Sequence[str]] = ()
) -> int | None:
    """Index of the first GPU that CUDA shows; None if it shows none.

    Args:
        visible: `CUDA_VISIBLE_DEVICES`: indices, or beginnings of UUIDs; None shows every GPU.
        uuids: Of the GPUs.
        instances: UUIDs of each one's instances.
    """
    if visible is None:
        return 0 if uuids else None
    first = visible.partition(",")[0].strip()
    if first.isdecimal():
        return int(first) if int(first) < len(uuids) else None
    found = [place for place, uuid in enumerate(uuids) if first and uuid.startswith(first)]
    if first.startswith("MIG-"):
        owners = [
            index
            for index, parts in enumerate(instances)
            if any(p.startswith(first) for p in parts)
        ]
        return owners[0] if owners else (0 if uuids else None)
    return found[0] if found else None


def why_no_gpus() -> str:
    """Why `read_gpus` finds none: what is missing and what to do; empty if it finds some."""
    try:
        with Nvml() as nvml:
            return "" if nvml.facts() else "a driver, but no GPU"
    except OSError as error:
        return str(error)


def mps_pipe_directory(environ: Mapping[str, str] | None = None) -> Path | None:
    """The control pipe of a running MPS daemon, None if there is none.

    Args:
        environ: Environment variables; None reads this process's.
    """
    env = os.environ if environ is None else environ
    directory = Path(env.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS_PIPES)
    return directory if (directory / "control").exists() else None


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise OSError("nvidia-ml-py is not installed: pip install nvidia-ml-py") from error
    return pynvml


def _kernels_bus_id(nvmls: str) -> str:
    """`00000000:17:00.0` as the kernel writes it: lower case, and four digits of the domain."""
    return nvmls.lower()[-12:]


def _share(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
