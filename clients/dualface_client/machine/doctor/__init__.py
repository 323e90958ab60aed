"""Everything that commonly goes wrong on a first day, checked one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dualface_client.machine.doctor import environment, gpu, host, server
from dualface_client.machine.doctor.engines import engine_findings
from dualface_client.machine.doctor.finding import FAIL, NOTE, OK, Finding
from dualface_client.memory.region import SHM_DIR
from dualface_client.observe.gpus import mps_pipe_directory, read_gpus, why_no_gpus
from dualface_client.settings import paths

__all__ = ["FAIL", "NOTE", "OK", "Finding", "examine"]


def examine(
    address: str | None = None,
    repository: Path | None = None,
    config: Path | None = None,
    wanted: Sequence[str] | None = None,
) -> Iterator[Finding]:
    """Checks everything that a run needs.

    Args:
        address: `HOST:PORT` of a Triton to check; None checks the embedded server's parts.
        repository: A model repository with engines; None for `./model_repository` if it exists.
        config: As `--config`.
        wanted: GPUs that a run is to use together, None for CUDA's first.
    """
    gpus = read_gpus()
    yield from environment.packages()
    if address is None:
        yield from server.embedded()
    else:
        yield from server.remote(address, on_gpu=bool(gpus) and gpu.cuda_works())
    yield environment.configuration(config, os.environ)
    yield from environment.probed(config, os.environ)
    yield from machine_findings()
    yield from gpu.gpu_findings(gpus, mps_pipe_directory(), why_no_gpus())
    yield from gpu.together(gpus or (), wanted)
    yield from gpu.driver_findings(gpu.read_driver(), gpus)
    yield from engine_findings(repository, [found.compute_capability for found in gpus or ()])


def machine_findings() -> Iterator[Finding]:
    """Memory, disks, limits, clock, network of this machine."""
    yield host.shared_memory(SHM_DIR)
    yield host.disk(Path.cwd())
    scratch = paths.scratch_dir()
    yield from host.temporary(scratch, noexec=host.is_noexec(scratch))
    yield from host.backend_place(paths.TMP)
    yield host.limits(host.files_limit())
    yield host.cores()
    yield host.clock(host.read_clock())
    yield host.ports()
    yield from host.proxies(os.environ)
    yield host.pid_namespace(os.getpid(), os.getppid())
