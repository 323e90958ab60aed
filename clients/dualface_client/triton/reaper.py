"""Takes back what killed processes left: registrations, shared memory files, server directories.

Only names of our own scheme, only those whose owner is known to be gone, and each by its name:
what belongs to another program, boot or pid namespace is not touched.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dualface_client.errors import MemoryRegionError, ServerError, ServerUnreachableError
from dualface_client.memory.names import OwnerState, owner_state
from dualface_client.memory.region import SHM_DIR
from dualface_client.triton.connection import Connection
from dualface_client.triton.registration import Kind, registered_regions, unregister


def reap_server(connection: Connection) -> tuple[str, ...]:
    """Unregisters the regions of gone owners.

    Args:
        connection: To the server.

    Returns:
        Names that the server no longer holds. One that a last request still uses is left for the
        next time.

    Raises:
        ServerUnreachableError: The server does not answer.
    """
    return tuple(name for kind in Kind for name in _reap_kind(connection, kind))


def _reap_kind(connection: Connection, kind: Kind) -> list[str]:
    reaped = []
    for name in sorted(_registered(connection, kind)):
        if owner_state(name) is not OwnerState.GONE:
            continue
        try:
            unregister(connection, name, timeout_s=1.0, kind=kind)
        except MemoryRegionError:
            continue
        reaped.append(name)
    return reaped


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
    shm_dir: Path = SHM_DIR, temporary_dir: Path | None = None
) -> tuple[str, ...]:
    """Removes files of gone owners: regions, stubs' memory, embedded servers' directories.

    A server that still maps such a file keeps its pages until `reap_server`.

    Args:
        shm_dir: Where shared memory files lie.
        temporary_dir: Where embedded servers keep their directories; None for the system's.

    Returns:
        Names of what was removed.
    """
    places = (shm_dir, temporary_dir or Path(tempfile.gettempdir()))
    return tuple(path.name for place in places for path in _gone(place) if _remove(path))


def _gone(place: Path) -> list[Path]:
    found = sorted(place.glob("dualface-*"))
    return [path for path in found if owner_state(path.name) is OwnerState.GONE]


def _remove(path: Path) -> bool:
    # A link of that name in a directory open to all may point anywhere: it is not ours.
    if path.is_symlink():
        return False
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    try:
        path.unlink()
    except OSError:  # another user's, or another reaper was faster
        return False
    return True
