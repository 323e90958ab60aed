"""Cleans up after killed processes: registrations, shared memory, server directories, models.

Only names of our own scheme whose owner is known to be gone are removed, each by its name. What
belongs to another program, boot or pid namespace is not touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualface_client.errors import MemoryRegionError, ServerError, ServerUnreachableError
from dualface_client.memory.names import OwnerState, new_name, owner_state
from dualface_client.memory.region import SHM_DIR
from dualface_client.settings import paths
from dualface_client.triton.connection import Connection
from dualface_client.triton.registration import Kind, registered_regions, unregister

#: The program of Triton's Python backend that runs a model.
_STUB = "triton_python_backend_stub"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Reaped:
    """What happened to the regions of owners that are gone.

    Attributes:
        gone: Names that the server no longer lists.
        kept: Names that it still lists because a last request uses them; reaped the next time.
    """

    gone: tuple[str, ...]
    kept: tuple[str, ...]


def reap_server(connection: Connection, timeout_s: float = 1.0) -> Reaped:
    """Unregisters the regions of owners that are gone, system and CUDA, each by its name.

    Args:
        connection: To the server.
        timeout_s: How long to wait, for each, until the server no longer lists it.

    Raises:
        ServerUnreachableError: The server does not answer.
    """
    gone: list[str] = []
    kept: list[str] = []
    for kind in Kind:
        for name in sorted(_registered(connection, kind)):
            if owner_state(name) is OwnerState.GONE:
                done = _unregistered(connection, name, kind, timeout_s)
                (gone if done else kept).append(name)
    return Reaped(tuple(gone), tuple(kept))


def _unregistered(connection: Connection, name: str, kind: Kind, timeout_s: float) -> bool:
    try:
        unregister(connection, name, timeout_s=timeout_s, kind=kind)
    except MemoryRegionError:  # still in use: kept, and reported
        return False
    return True


def _registered(connection: Connection, kind: Kind) -> dict[str, int]:
    try:
        return registered_regions(connection, kind)
    except ServerUnreachableError:
        raise
    except ServerError:
        if kind is Kind.CUDA:  # a server built without GPUs has no such registry
            return {}
        raise


def reap_shared_memory(
    shm_dir: Path = SHM_DIR, temporary_dir: Path | None = None, proc_dir: Path = _PROC
) -> tuple[str, ...]:
    """Removes files of owners that are gone: regions, stubs' memory, servers' directories.

    A server that still maps such a file keeps its pages until `reap_server`. A model's process that
    has outlived everybody, and keeps its own memory, is ended.

    Args:
        shm_dir: Where shared memory files lie.
        temporary_dir: Where embedded servers keep their directories; None for every such place.
        proc_dir: Where processes are listed.

    Returns:
        Names of what was removed, with the number of each process.
    """
    ended = [f"{name} (process {pid})" for pid, name in _orphans(proc_dir) if _kill(pid)]
    places = (shm_dir, *([temporary_dir] if temporary_dir else paths.scratch_dirs()))
    return (*ended, *(path.name for place in places for path in _gone(place) if _remove(path)))


def owner_prefix() -> str:
    """What the names of all of this process's files begin with."""
    return str(new_name("own")).rsplit("-", 2)[0] + "-"


def unlink_own_shared_memory(shm_dir: Path = SHM_DIR) -> None:
    """Removes every shared memory file of this process, which must no longer use them.

    For a process that ends at once, without the calls that free each region.

    Args:
        shm_dir: Where shared memory files lie.
    """
    for path in shm_dir.glob(f"{owner_prefix()}*"):
        with contextlib.suppress(OSError):  # gone meanwhile; nobody would hear an error now
            path.unlink()


def _orphans(proc_dir: Path) -> Iterator[tuple[int, str]]:
    """Models' processes of embedded servers whose owner is gone, with the server's name.

    They end with their server, but for one that waits for a lock of it with Python's lock in its
    hand, and whose keeper was killed, too.
    """
    for entry in proc_dir.glob("[0-9]*/cmdline"):
        try:
            program = Path(entry.read_bytes().split(b"\0", 1)[0].decode(errors="replace"))
        except OSError:  # it has just ended
            continue
        for name in program.parts if program.name == _STUB else ():
            if owner_state(name) is OwnerState.GONE:
                yield int(entry.parent.name), name


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:  # another user's, or it has just ended
        return False
    return True


def _gone(place: Path) -> list[Path]:
    found = sorted(place.glob("dualface-*"))
    return [path for path in found if owner_state(path.name) is OwnerState.GONE]


def _remove(path: Path) -> bool:
    # A link of that name in a directory open to everybody may point anywhere: it is not ours.
    if path.is_symlink():
        return False
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # handled below
        return not path.exists()
    try:
        path.unlink()
    except OSError:  # another user's, or another reaper was faster
        return False
    return True
