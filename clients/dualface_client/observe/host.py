"""What the kernel says about cores, memory, files and disks, including container limits."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What does not change.

    Attributes:
        cpu: Model name.
        cores: Cores that this process may use.
        core_quota: CPU time that a container may use, in cores; None for no limit.
        memory_bytes: Memory, or a container's limit if that is lower.
    """

    cpu: str
    cores: int
    core_quota: float | None
    memory_bytes: int

    @property
    def usable_cores(self) -> int:
        """CPU time in cores, at least 1."""
        quota = self.cores if self.core_quota is None else min(self.cores, self.core_quota)
        return max(1, int(quota))


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host and this process at one moment.

    Attributes:
        memory_share: Used share of the memory, or of the container's limit if that is fuller.
        resident_bytes: Of this process.
        open_files: Of this process.
        files_limit: How many it may have open.
        disk_free_bytes: Where outputs go; None if nobody asked.
    """

    memory_share: float
    resident_bytes: int
    open_files: int
    files_limit: int
    disk_free_bytes: int | None = None

    @property
    def files_share(self) -> float:
        """Open files as a share of the limit."""
        return self.open_files / self.files_limit if self.files_limit else 0.0


def read_machine(cgroup: Path = _CGROUP, proc: Path = _PROC) -> MachineFacts:
    """Reads what does not change.

    Args:
        cgroup: Where the kernel shows limits (cgroup v2).
        proc: Where it shows processors.
    """
    limit = _number(cgroup / "memory.max")
    total = int(psutil.virtual_memory().total)
    return MachineFacts(
        _cpu_name(proc / "cpuinfo"),
        len(os.sched_getaffinity(0)),
        _core_quota(cgroup / "cpu.max"),
        min(total, limit) if limit else total,
    )


def read_host(cgroup: Path = _CGROUP) -> HostSample:
    """Reads what changes, except disks.

    Args:
        cgroup: As in `read_machine`.
    """
    process = psutil.Process()
    share = psutil.virtual_memory().percent / 100
    return HostSample(
        max(share, _container_share(cgroup)),
        resident_bytes(process.pid),
        int(process.num_fds()),
        int(process.rlimit(psutil.RLIMIT_NOFILE)[0]),
    )


def family(pid: int) -> list[psutil.Process]:
    """A process and everything below it.

    Raises:
        psutil.Error: It is gone.
    """
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def resident_bytes(pid: int) -> int:
    """Resident size of a process with its children (of this process without); 0 if it is gone."""
    try:
        processes = [psutil.Process()] if pid == os.getpid() else family(pid)
        return sum(int(process.memory_info().rss) for process in processes)
    except psutil.Error:  # ended between two samples
        return 0


def disk_write_bytes_s(
    directory: Path, limit_s: float = 2.0, limit_bytes: int = 256 << 20
) -> float:
    """Writes a file up to one of the limits, syncs it and removes it.

    Args:
        directory: Where.
        limit_s: About how long.
        limit_bytes: At most how many bytes.

    Returns:
        Bytes per second, including the sync.

    Raises:
        OSError: Nothing can be written there.
    """
    block = os.urandom(_BLOCK_BYTES)  # so that file systems that compress gain nothing
    written, started = 0, time.monotonic()
    with tempfile.TemporaryFile(dir=directory) as file:
        while written < limit_bytes and time.monotonic() - started < limit_s:
            written += file.write(block)
            os.fsync(file.fileno())
    return written / max(time.monotonic() - started, 1e-6)


def _container_share(cgroup: Path) -> float:
    """Used share of a container's memory limit, without what the kernel can drop at once."""
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if not limit or used is None:
        return 0.0
    return max(0, used - _stat(cgroup / "memory.stat", "inactive_file")) / limit


def _stat(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # no control group has such a file here
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _number(path: Path) -> int | None:
    """A number in a file, None for `max` and for no file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # `max`, or no such limit
        return None


def _core_quota(path: Path) -> float | None:
    """`QUOTA PERIOD` in microseconds, or `max PERIOD`."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # likewise
        return None


def _cpu_name(cpuinfo: Path) -> str:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not on Linux: the architecture has to do
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
