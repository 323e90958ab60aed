"""What goes wrong on a first day, looked at one by one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualface_client.errors import DualfaceError
from dualface_client.memory.region import SHM_DIR, SystemRegion
from dualface_client.observe.gpus import GpuFacts, mps_pipe_directory, read_gpus
from dualface_client.settings import paths
from dualface_client.triton.connection import Connection
from dualface_client.triton.contract import check_contract
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS
from dualface_client.triton.onnx_file import spec_of_file
from dualface_client.triton.registration import register, unregister
from dualface_client.triton.server_files import Host, check_host, find_server_files

OK, NOTE, FAIL = "ok", "note", "FAIL"
_SHM_MIN_BYTES = 256 << 20
_DISK_MIN_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        state: `ok`, `note` (works, but know this) or `FAIL`.
        name: What was looked at.
        detail: What was found, and for a failure what to do.
    """

    state: str
    name: str
    detail: str


def examine(server: str | None = None) -> Iterator[Finding]:
    """Looks at everything that a run needs.

    Args:
        server: `HOST:PORT` of a Triton to look at too; without one the embedded server's parts
            are looked at.
    """
    if server is None:
        yield _try("system", _system)
        yield _try("embedded server", _embedded)
        yield _try("models", _models)
    else:
        yield from _remote(server)
    yield shared_memory(SHM_DIR)
    yield disk(Path.cwd())
    yield pid_namespace(os.getpid(), os.getppid())
    yield from gpu_findings(read_gpus(), mps_pipe_directory())


def _try(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(OK, name, look())
    except DualfaceError as error:
        return Finding(FAIL, name, str(error))


def _system() -> str:
    host = Host.current()
    check_host(host)
    glibc = ".".join(map(str, host.glibc or ()))
    return f"{host.system} {host.machine}, C library {glibc}, {len(os.sched_getaffinity(0))} cores"


def _embedded() -> str:
    return str(find_server_files(paths.tritonserver_dir()).binary)


def _models() -> str:
    directory = paths.models_dir()
    for spec in (FACE_DETECT, FACE_REID):
        spec_of_file(directory / f"{spec.name}.onnx", spec)
    return f"{len(MODELS)} models in {directory}"


def _remote(address: str) -> Iterator[Finding]:
    connection = Connection(address)
    try:
        ready = _try("server", lambda: _ready(connection))
        yield ready
        if ready.state == OK:
            yield _try("contract", lambda: _contract(connection))
            yield _try("client shared memory", lambda: _registers(connection))
    finally:
        connection.close()


def _ready(connection: Connection) -> str:
    connection.wait_ready([spec.name for spec in MODELS], 5.0)
    return f"{connection.address} is ready with both models"


def _contract(connection: Connection) -> str:
    served = check_contract(connection, MODELS).values()
    return ", ".join(f"{model.spec.name} {model.version} on {model.platform}" for model in served)


def _registers(connection: Connection) -> str:
    with SystemRegion(4096) as region:
        register(connection, region)
        unregister(connection, region.name)
    return "the server maps this machine's /dev/shm"


def shared_memory(directory: Path) -> Finding:
    """Whether /dev/shm is large enough for regions and the Python backend."""
    stats = os.statvfs(directory)
    total, free = stats.f_blocks * stats.f_frsize, stats.f_bavail * stats.f_frsize
    text = f"{directory}: {free >> 20} of {total >> 20} MiB free"
    if free < _SHM_MIN_BYTES:
        remedy = "containers start with 64 MiB: `docker run --shm-size=1g` or compose's shm_size"
        return Finding(FAIL, "shared memory", f"{text}, expected 256 or more; {remedy}")
    return Finding(OK, "shared memory", text)


def disk(directory: Path) -> Finding:
    """Whether there is room for an output here."""
    free = shutil.disk_usage(directory).free
    text = f"{directory}: {free / 1e9:.1f} GB free"
    state = OK if free >= _DISK_MIN_BYTES else NOTE
    return Finding(state, "disk", text if state == OK else f"{text}: little for videos")


def pid_namespace(pid: int, parent_pid: int) -> Finding:
    """Whether CUDA IPC can work between containers: equal pids on both sides break it."""
    if pid == 1 or parent_pid == 0:
        return Finding(
            NOTE,
            "pid namespace",
            "this process is the first of its own pid namespace: CUDA shared memory needs the "
            "server's (compose: `pid:` of a common service), system shared memory does not",
        )
    return Finding(OK, "pid namespace", f"pid {pid}")


def gpu_findings(gpus: Sequence[GpuFacts] | None, mps_pipes: Path | None) -> Iterator[Finding]:
    """What the GPUs, MIG and MPS mean for a run.

    Args:
        gpus: From `read_gpus`.
        mps_pipes: From `mps_pipe_directory`.
    """
    if not gpus:
        why = "NVML cannot be read" if gpus is None else "a driver, but no GPU"
        yield Finding(NOTE, "GPU", f"none seen ({why}): videos are processed on the CPU")
        return
    for index, gpu in enumerate(gpus):
        used, total = gpu.memory_used_bytes >> 20, gpu.memory_total_bytes >> 20
        text = f"{gpu.name}, capability {gpu.compute_capability}, driver {gpu.driver}"
        yield Finding(OK, f"GPU {index}", f"{text}, {used} of {total} MiB in use")
        if gpu.mig_on:
            yield Finding(
                NOTE,
                f"GPU {index} MIG",
                "split into GPU instances: CUDA shared memory does not cross them, so clients and "
                "their server must run in the same instance; one server for each instance",
            )
    if mps_pipes is not None:
        yield Finding(
            NOTE,
            "MPS",
            f"its control daemon answers in {mps_pipes}: server and clients must run as one user, "
            "with CUDA_MPS_PIPE_DIRECTORY and /dev/shm shared; a client's fault can end the others",
        )
