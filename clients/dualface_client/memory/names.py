"""Names that say who owns a shared memory region, and whether that owner still lives.

    dualface-<boot>-<pidns>-<pid>-<start>-<kind>-<serial>

A pid alone does not identify an owner: it is reused after a while, after a reboot, and in other
containers. The process start time distinguishes the first case, the boot id the second and the pid
namespace the third. Somebody else's name is never reaped.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dualface_client.errors import MemoryRegionError

PREFIX = "dualface"
# A suffix after the serial is what Triton's Python backend adds to the prefix we give it.
_PATTERN = re.compile(
    r"dualface-(?P<boot>[0-9a-f]{8})-(?P<pidns>\d+)-(?P<pid>\d+)-(?P<start>\d+)"
    r"-(?P<kind>[a-z]+)-(?P<serial>[0-9a-z]+)(?P<suffix>_.*)?"
)


class OwnerState(Enum):
    """What is known about the process that a name belongs to."""

    ALIVE = "alive"
    GONE = "gone"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, distinguished from every other one on this host.

    Attributes:
        boot: First eight hex digits of the kernel's boot id.
        pidns: Inode of the pid namespace, 0 if the kernel does not say.
        pid: Process id within that namespace.
        start_ticks: Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    """

    boot: str
    pidns: int
    pid: int
    start_ticks: int

    @classmethod
    def current(cls) -> Owner:
        """The calling process.

        Raises:
            MemoryRegionError: `/proc` does not show the start time.
        """
        pid = os.getpid()
        start = start_ticks(pid)
        if start is None:
            raise MemoryRegionError(
                f"/proc/{pid}/stat cannot be read; mount /proc: region names need the start time"
            )
        return cls(_boot(), _pid_namespace(), pid, start)


@dataclass(frozen=True, slots=True)
class RegionName:
    """A parsed name.

    Attributes:
        owner: The process that made it.
        kind: What it is, lower-case letters: `sys`, `cuda`, `stub`, `server`.
        serial: Distinguishes the owner's regions of one kind.
        suffix: What a library appended, with its leading underscore; else empty.
    """

    owner: Owner
    kind: str
    serial: str
    suffix: str = ""

    def __str__(self) -> str:
        who = self.owner
        return (
            f"{PREFIX}-{who.boot}-{who.pidns}-{who.pid}-{who.start_ticks}"
            f"-{self.kind}-{self.serial}{self.suffix}"
        )


def new_name(kind: str) -> RegionName:
    """A name of this process that nobody has used before.

    Args:
        kind: Lower-case letters.

    Raises:
        ValueError: The kind has other characters.
    """
    if not re.fullmatch("[a-z]+", kind):
        raise ValueError(f"region kind {kind!r}: expected lower-case letters only")
    # Random rather than counted: a counter would be state of the module.
    return RegionName(Owner.current(), kind, os.urandom(4).hex())


def parse(text: str) -> RegionName | None:
    """Reads a name.

    Args:
        text: A file or region name, with or without a leading slash.

    Returns:
        The parts, or None for a name of another scheme.
    """
    match = _PATTERN.fullmatch(text.removeprefix("/"))
    if match is None:
        return None
    owner = Owner(match["boot"], int(match["pidns"]), int(match["pid"]), int(match["start"]))
    return RegionName(owner, match["kind"], match["serial"], match["suffix"] or "")


def owner_state(name: str | RegionName) -> OwnerState:
    """Whether the owner of a region lives.

    Args:
        name: A parsed or unparsed name.

    Returns:
        `FOREIGN` for names of another scheme, boot or pid namespace: they cannot be judged here.
    """
    parsed = parse(name) if isinstance(name, str) else name
    if parsed is None:
        return OwnerState.FOREIGN
    owner = parsed.owner
    if owner.boot != _boot() or owner.pidns != _pid_namespace():
        return OwnerState.FOREIGN
    found = start_ticks(owner.pid)
    if found is None and _is_hidden(owner.pid):
        return OwnerState.ALIVE  # unknown; what may be alive is not touched
    return OwnerState.ALIVE if found == owner.start_ticks else OwnerState.GONE


def start_ticks(pid: int) -> int | None:
    """Start time of a process.

    Args:
        pid: Process id in this namespace.

    Returns:
        Clock ticks since boot, or None if no such process runs (a zombie does not run).
    """
    try:
        # The kernel cuts the command name after some bytes, which may be within a letter.
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # it has ended, or never existed
        return None
    # The command name may hold spaces and parentheses: fields count from the last one.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return int(fields[19])


def _is_hidden(pid: int) -> bool:
    """Whether a process exists that `/proc` does not show us (mount option `hidepid`)."""
    if Path(f"/proc/{pid}/stat").exists() and os.access(f"/proc/{pid}/stat", os.R_OK):
        return False  # it can be read: the process has ended and waits to be collected
    try:
        os.kill(pid, 0)
    except ProcessLookupError:  # nobody has the pid
        return False
    except OSError:  # it exists, and is another user's
        return True
    return True


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:  # hidden by a sandbox: all names here have the same part
        return "00000000"


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # likewise
        return 0
