"""Examines the machine and writes the auto-detected layer of the configuration."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dualface_client.atomic_file import write_atomically
from dualface_client.config.table import settings_table
from dualface_client.errors import PlatformError, SinkError
from dualface_client.machine.rules import Chosen, ProbeFacts, derive
from dualface_client.machine.summary import summary_lines
from dualface_client.memory.region import SHM_DIR
from dualface_client.observe.gpus import GpuFacts, mps_pipe_directory, read_gpus, why_no_gpus
from dualface_client.observe.host import MachineFacts, disk_write_bytes_s, read_machine
from dualface_client.observe.usable_gpus import choose_gpus, usable_gpus
from dualface_client.video.capabilities import VideoFacts, read_video

_WIDTH = 100
#: First words of the line that says which machine a file was written on.
MACHINE_LINE = "# machine: "


def probe(
    disk: Path, *, measure_disk: bool = True, wanted: Sequence[str] | None = None
) -> ProbeFacts:
    """Reads everything; takes a few seconds.

    Args:
        disk: Directory whose disk is measured.
        measure_disk: Whether to write there at all.
        wanted: GPUs that a run is to use together, None for CUDA's first.

    Raises:
        PlatformError: Nothing can be written there, or there is no GPU to choose.
        UsageError: A GPU that was named is not there.
    """
    gpus = tuple(read_gpus() or ())
    chosen = () if wanted is None else tuple(choose_gpus(wanted, usable_gpus(gpus)))
    return ProbeFacts(
        machine=read_machine(),
        gpus=gpus,
        gpu_note=why_no_gpus(),
        gpu_nodes=Path("/dev/nvidiactl").exists(),
        video=read_video() if gpus else VideoFacts(),
        cuda_problem=_cuda_problem() if gpus else "",
        mps=mps_pipe_directory(),
        shm_bytes=shutil.disk_usage(SHM_DIR).total,
        disk_bytes_s=_disk_speed(disk) if measure_disk else None,
        disk=disk,
        chosen=chosen,
    )


def layer_text(facts: ProbeFacts, written_at: str) -> str:
    """The auto-detected layer as YAML, each value with its reason.

    Args:
        facts: What was found.
        written_at: Date and time, for people.
    """
    lines = [
        f"# Written by `dualface-client probe` on {written_at}. Do not edit: run it again when the",
        "# machine changes, and put settings of your own into manual.yaml beside this file.",
        f"{MACHINE_LINE}{machine_name(facts)}",
        *(f"# {line}" for line in summary_lines(facts)),
    ]
    section = ""
    for chosen in _ordered(derive(facts)):
        now, _, name = chosen.key.partition(".")
        if now != section:
            lines += ["", f"{now}:"]
            section = now
        lines += [f"  # {line}" for line in textwrap.wrap(chosen.reason, _WIDTH - 4)]
        lines.append(f"  {name}: {chosen.text}")
    return "\n".join(lines) + "\n"


def machine_name(facts: ProbeFacts) -> str:
    """What identifies a machine: its processor, cores and GPUs."""
    return name_of(facts.machine, facts.gpus)


def name_of(machine: MachineFacts, gpus: Sequence[GpuFacts]) -> str:
    """Like `machine_name`, from its parts."""
    names = ", ".join(gpu.name for gpu in gpus) or "no GPU"
    return f"{machine.cpu} x{machine.cores}; {names}"


def machine_of(layer: Path) -> str:
    """Which machine a layer was written on; empty if it does not say."""
    try:
        lines = layer.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no layer yet
        return ""
    named = (line.removeprefix(MACHINE_LINE) for line in lines if line.startswith(MACHINE_LINE))
    return next(named, "")


def write_layer(path: Path, text: str) -> None:
    """Writes the file atomically.

    Raises:
        SinkError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise SinkError(f"--output {path}: cannot be written: {error.strerror}") from error


def _ordered(chosen: Sequence[Chosen]) -> list[Chosen]:
    places = {key: place for place, key in enumerate(settings_table())}
    return sorted(chosen, key=lambda entry: places[entry.key])


def _cuda_problem() -> str:
    from dualface_client.stream.device_cuda import why_not_cuda

    return why_not_cuda(embedded_server=True) or ""


def _disk_speed(directory: Path) -> float:
    try:
        return disk_write_bytes_s(directory)
    except OSError as error:
        raise PlatformError(
            f"{directory}: cannot be written ({error.strerror}); name another directory with --disk"
        ) from error
