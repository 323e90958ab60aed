"""Registers a region with Triton once, and takes it back before its memory is freed."""

from __future__ import annotations

import contextlib
import time

from dualface_client.errors import MemoryRegionError, ServerError, ServerUnreachableError
from dualface_client.memory.region import Region, SystemRegion
from dualface_client.triton.connection import Connection

_POLL_S = 0.01


def register(connection: Connection, region: Region) -> None:
    """Tells the server of a region, whole and once.

    Args:
        connection: To the server, which must see the same `/dev/shm`.
        region: The memory.

    Raises:
        MemoryRegionError: The server refuses; the message says what to do.
        ServerError: It does not answer.
    """
    what = f"registering region {region.name}"
    if not isinstance(region, SystemRegion):
        raise MemoryRegionError(f"{what}: no way to register a {type(region).__name__}")
    try:
        connection.call(
            what,
            "register_system_shared_memory",
            region.name,
            region.shm_key,
            region.byte_size,
        )
    except ServerUnreachableError:
        raise
    except ServerError as error:
        raise MemoryRegionError(
            f"{error}. Client and server must share /dev/shm: same host, and for containers "
            "`ipc: host` or one IPC namespace, and one user"
        ) from error


def registered_regions(connection: Connection) -> dict[str, int]:
    """System regions that the server knows.

    Args:
        connection: To the server.

    Returns:
        Byte sizes by name.
    """
    status = connection.call("shared memory status", "get_system_shared_memory_status")
    return {name: int(region.byte_size) for name, region in status.regions.items()}


def unregister(connection: Connection, name: str, timeout_s: float = 5.0) -> None:
    """Takes a region back by name and waits until the server has let go of it.

    Triton before 24.12 refuses while a request uses the region, later ones defer: asking again
    until the status no longer lists it is right for both.

    Args:
        connection: To the server.
        name: Region to take back; never empty, which would mean everybody's.
        timeout_s: Longest wait, seconds.

    Raises:
        MemoryRegionError: It is still listed after that time. Its memory must not be freed.
        ServerUnreachableError: The server is gone, and with it the registration.
        ValueError: The name is empty.
    """
    if not name:
        raise ValueError("an empty region name would unregister every client's regions")
    end_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(ServerError):
            connection.call(f"unregistering {name}", "unregister_system_shared_memory", name)
        if name not in registered_regions(connection):
            return
        if time.monotonic() >= end_s:
            raise MemoryRegionError(
                f"server {connection.address} still holds region {name} after {timeout_s:g} s: "
                "a request is using it. `dualface-client reap` takes it back later"
            )
        time.sleep(_POLL_S)
