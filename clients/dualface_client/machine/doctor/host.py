"""Memory, disks, limits, clock and network of a machine."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualface_client.machine.doctor.finding import FAIL, NOTE, OK, Finding
from dualface_client.observe.host import MachineFacts, read_machine
from dualface_client.triton.server_files import place_problem

_SHM_MIN_BYTES = 256 << 20
_DISK_MIN_BYTES = 1 << 30
#: A stream opens about 20 files, the server's connection and libraries some 100.
_FILES_MIN = 1024
_TRITON_PORTS = (8000, 8001, 8002)
#: adjtimex(2): the return value for a clock that nothing synchronises.
_TIME_ERROR = 5
_TIMEX_BYTES = 1024  # more than any `struct timex`


@dataclass(frozen=True, slots=True)
class Clock:
    """What is known of the wall clock.

    Attributes:
        now_s: Seconds since 1970.
        newest_file_s: Time of the newest file that was installed with this program.
        is_kept: Whether it is synchronised, None if the kernel does not say.
    """

    now_s: float
    newest_file_s: float
    is_kept: bool | None


def shared_memory(directory: Path) -> Finding:
    """Whether /dev/shm is large enough for regions and the Python backend."""
    usage = shutil.disk_usage(directory)
    text = f"{directory}: {usage.free >> 20} of {usage.total >> 20} MiB free"
    if usage.free >= _SHM_MIN_BYTES:
        return Finding(OK, "shared memory", text)
    return Finding(
        FAIL,
        "shared memory",
        f"{text}, expected 256 or more",
        "containers start with 64 MiB: `docker run --shm-size=1g` or compose's shm_size; "
        "`dualface-client reap` removes what killed processes left",
    )


def disk(directory: Path) -> Finding:
    """Whether there is room for an output here."""
    free = shutil.disk_usage(directory).free
    text = f"{directory}: {free / 1e9:.1f} GB free"
    if not os.access(directory, os.W_OK):
        return Finding(NOTE, "disk", f"{directory}: cannot be written", "write outputs elsewhere")
    if free < _DISK_MIN_BYTES:
        return Finding(NOTE, "disk", f"{text}: little for videos", "free some, or write elsewhere")
    return Finding(OK, "disk", text)


def is_noexec(directory: Path) -> bool:
    """Whether a directory's file system forbids starting programs from it."""
    return bool(os.statvfs(directory).f_flag & os.ST_NOEXEC)


def temporary(directory: Path, *, noexec: bool) -> Iterator[Finding]:
    """Whether the embedded server can run from the directory of temporary files."""
    name, advice = "temporary files", "set TMPDIR to another directory"
    if noexec:
        text = f"{directory}: mounted noexec; the embedded server starts a program there"
        yield Finding(FAIL, name, text, advice)
    elif not os.access(directory, os.W_OK):
        yield Finding(FAIL, name, f"{directory}: cannot be written", advice)
    else:
        free = shutil.disk_usage(directory).free
        yield Finding(OK, name, f"{directory}: {free / 1e9:.1f} GB free")


def backend_place(place: Path) -> Iterator[Finding]:
    """Whether Triton's Python backend cannot make its directory."""
    if problem := place_problem(place):
        yield Finding(FAIL, "temporary files", *problem)


def files_limit() -> int:
    """How many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def limits(files: int) -> Finding:
    """Whether enough files may be open."""
    if files < _FILES_MIN:
        text = f"{files}, expected {_FILES_MIN} or more"
        return Finding(NOTE, "open files", text, f"`ulimit -n {_FILES_MIN}` before many streams")
    return Finding(OK, "open files", f"up to {files}")


def cores(facts: MachineFacts | None = None) -> Finding:
    """Whether a container's CPU time matches the cores that libraries see."""
    found = facts or read_machine()
    memory = f"{found.memory_bytes / 1e9:.1f} GB of memory"
    if found.core_quota is not None and found.core_quota < found.cores:
        text = f"{found.cores} cores visible, CPU time for {found.core_quota:g}; {memory}"
        advice = f"--model-threads {found.usable_cores}: more threads would get in each other's way"
        return Finding(NOTE, "cores", text, advice)
    return Finding(OK, "cores", f"{found.cores}, {memory}")


def read_clock() -> Clock:
    """The wall clock, and what it can be compared with."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = int(ctypes.CDLL(None).adjtimex(buffer))
    except (AttributeError, OSError):  # not told here; None stands for that
        state = -1
    newest = max(Path(file).stat().st_mtime for file in (__file__, np.__file__))
    return Clock(time.time(), newest, None if state < 0 else state != _TIME_ERROR)


def clock(found: Clock) -> Finding:
    """Whether the clock can be right; certificates and logs depend on it, frames do not."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.now_s))
    if found.now_s < found.newest_file_s - 86_400:
        day = time.strftime("%Y-%m-%d", time.gmtime(found.newest_file_s))
        text = f"{shown}, before this program was installed ({day})"
        return Finding(FAIL, "clock", text, "set the clock: TLS certificates seem not yet valid")
    if found.is_kept is False:
        return Finding(NOTE, "clock", f"{shown}, not synchronised", "start chrony or timesyncd")
    return Finding(OK, "clock", shown)


def ports(wanted: Sequence[int] = _TRITON_PORTS) -> Finding:
    """Whether the embedded server can get a port, and whether Triton's usual ones are free."""
    taken = [port for port in wanted if not _is_free(port)]
    if not _is_free(0):
        text = "no port of 127.0.0.1 is available"
        return Finding(FAIL, "ports", text, "the loopback device is down: `ip link set lo up`")
    if taken:
        text = f"127.0.0.1:{', '.join(map(str, taken))} in use, perhaps by a Triton"
        advice = f"`--server 127.0.0.1:{taken[0]}` would use it; an embedded one picks others"
        return Finding(NOTE, "ports", text, advice)
    return Finding(OK, "ports", f"127.0.0.1:{wanted[0]} to {wanted[-1]} are free")


def proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether gRPC to another machine would go through a proxy."""
    names = [name for name in ("https_proxy", "http_proxy", "grpc_proxy") if environ.get(name)]
    if names:
        yield Finding(
            NOTE,
            "proxy",
            f"{', '.join(names)} set: gRPC to a server on another machine would go through it",
            "add that host to no_proxy",
        )


def pid_namespace(pid: int, parent_pid: int) -> Finding:
    """Whether CUDA IPC can work between containers: equal pids on both sides break it."""
    if pid == 1 or parent_pid == 0:
        return Finding(
            NOTE,
            "pid namespace",
            "this process is the first of its own pid namespace: CUDA shared memory needs the "
            "server's, system shared memory does not",
            "compose: `pid:` of a common service, as in compose.yaml; docker: `--pid container:X`",
        )
    return Finding(OK, "pid namespace", f"pid {pid}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:  # this is the question
            return False
        return True
