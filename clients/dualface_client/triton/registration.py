"""Registers a region with Triton once, and unregisters it before its memory is freed."""

from __future__ import annotations

import base64
import contextlib
import time
from enum import Enum
from typing import Any

from dualface_client.errors import (
    AccessDeniedError,
    DualfaceError,
    InferenceTimeoutError,
    MemoryRegionError,
    RegionRefusedError,
    ServerError,
    ServerUnreachableError,
)
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.memory.region import Region, SystemRegion
from dualface_client.triton.connection import Connection

_POLL_S = 0.01


class Kind(Enum):
    """Which of Triton's two registries a region is in; the value is part of its calls' names."""

    SYSTEM = "system"
    CUDA = "cuda"


def kind_of(region: Region) -> Kind:
    """The registry that a region belongs to.

    Raises:
        MemoryRegionError: Triton has no registry for it.
    """
    if isinstance(region, SystemRegion):
        return Kind.SYSTEM
    if isinstance(region, CudaRegion):
        return Kind.CUDA
    raise MemoryRegionError(
        f"region {region.name}: no way to register a {type(region).__name__} with Triton"
    )


def register(connection: Connection, region: Region) -> None:
    """Registers a whole region with the server; harmless if repeated.

    Args:
        connection: To the server, which must see the same `/dev/shm` or the same GPU.
        region: The memory.

    Raises:
        MemoryRegionError: Somebody has cut its file.
        RegionRefusedError: The server refuses it; the message says what to do.
        ServerError: It does not answer, or wants a key.
    """
    kind = kind_of(region)
    arguments, remedy = _cuda(region) if kind is Kind.CUDA else _system(region)
    try:
        connection.call(
            f"registering region {region.name}",
            f"register_{kind.value}_shared_memory",
            region.name,
            *arguments,
        )
    except (ServerUnreachableError, InferenceTimeoutError, AccessDeniedError):
        raise
    except ServerError as error:
        if "already in manager" not in str(error):
            raise RegionRefusedError(f"{error}. {remedy}") from error
        _refuse_stranger(connection, region)


def _refuse_stranger(connection: Connection, region: Region) -> None:
    """For a name that is already registered: by us, if an answer was lost, or by somebody else."""
    kind = kind_of(region)
    found = _status(connection, kind).get(region.name)
    if found is None:
        return  # unregistered meanwhile; the first request will say so
    if kind is Kind.SYSTEM and (found.key, found.byte_size) == _system(region)[0]:
        return
    what = f"{found.key!r} of " if kind is Kind.SYSTEM else ""
    raise RegionRefusedError(
        f"region {region.name} of {region.byte_size} bytes: the server {connection.address} knows "
        f"other memory under this name ({what}{found.byte_size} bytes). Another program uses our "
        "names: find it, or restart the server"
    )


def _system(region: Any) -> tuple[tuple[Any, ...], str]:
    region.refuse_cut()
    return (region.shm_key, region.byte_size), (
        "Client and server must share /dev/shm: same host, and for containers `ipc: host` or one "
        "IPC namespace, and one user. For a server on another host there is --transport bytes"
    )


def _cuda(region: Any) -> tuple[tuple[Any, ...], str]:
    handle = base64.b64encode(region.ipc_handle)
    return (handle, region.device_id, region.byte_size), (
        "Client and server must use the same GPU of the same host (for containers also `ipc: "
        "host` and `pid: host`), and the server must have been built for GPUs; --device cpu works "
        "without"
    )


def registered_regions(connection: Connection, kind: Kind = Kind.SYSTEM) -> dict[str, int]:
    """Regions that the server knows.

    Args:
        connection: To the server.
        kind: Of which registry.

    Returns:
        Byte sizes by name.
    """
    found = _status(connection, kind)
    return {name: int(region.byte_size) for name, region in found.items()}


def _status(connection: Connection, kind: Kind) -> dict[str, Any]:
    status = connection.call("shared memory status", f"get_{kind.value}_shared_memory_status")
    return dict(status.regions)


def unregister(
    connection: Connection, name: str, timeout_s: float = 5.0, kind: Kind = Kind.SYSTEM
) -> None:
    """Unregisters a region by name and waits until the server has let go of it.

    Triton before 24.12 refuses while a request uses the region, later versions defer. Asking again
    until the status no longer lists it is right for both.

    Args:
        connection: To the server.
        name: Region to unregister; never empty, which would mean everybody's.
        timeout_s: Longest wait, seconds.
        kind: Of which registry.

    Raises:
        MemoryRegionError: It is still listed after that time. Its memory must not be freed.
        ServerUnreachableError: The server is gone, and with it the registration.
        ValueError: The name is empty.
    """
    if not name:
        raise ValueError("an empty region name would unregister every client's regions")
    end_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(ServerError):  # the listing below shows what is true
            connection.call(f"unregistering {name}", f"unregister_{kind.value}_shared_memory", name)
        if name not in registered_regions(connection, kind):
            return
        if time.monotonic() >= end_s:
            raise MemoryRegionError(
                f"server {connection.address} still holds region {name} after {timeout_s:g} s: "
                "a request is using it. `dualface-client reap` unregisters it later"
            )
        time.sleep(_POLL_S)


def free(connection: Connection, region: Region) -> None:
    """Unregisters a region and frees its memory; safe to call twice, and raises nothing.

    GPU memory must not be freed under a server that maps it: if that is uncertain, the memory stays
    until this process ends. System pages are safe to free, because the server has a mapping of its
    own, and `reap` unregisters the name later.

    Args:
        connection: To the server.
        region: The memory.
    """
    is_taken_back = False
    # Whatever the error, the server may still map the memory.
    with contextlib.suppress(DualfaceError):
        try:
            unregister(connection, region.name, kind=kind_of(region))
            is_taken_back = True
        except ServerUnreachableError:
            is_taken_back = True  # a server that is gone holds nothing
    if is_taken_back or kind_of(region) is Kind.SYSTEM:
        region.close()
