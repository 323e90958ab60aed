"""Refuses to start a server, or a run, for which /dev/shm is too small."""

from __future__ import annotations

import shutil

from dualface_client.batch.server import ServerChoice
from dualface_client.errors import PlatformError
from dualface_client.memory.region import SHM_DIR
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.load import region_bytes, server_pool_bytes
from dualface_client.triton.description import FACE_DETECT


def shared_memory_of(
    settings: StreamSettings,
    choice: ServerChoice,
    streams: int,
    workers: int,
    *,
    server_runs: bool = False,
) -> int:
    """Bytes of /dev/shm that a run needs besides what is in use.

    Args:
        settings: Of the streams.
        choice: Which server, on which device.
        streams: How many run at a time.
        workers: Processes that share them, 0 for this one alone.
        server_runs: Whether an embedded server runs already.
    """
    on_gpu, workers = choice.device == "cuda", max(1, workers)
    regions = region_bytes(settings, -(-streams // workers), on_gpu=on_gpu)
    needed = workers * sum(regions.values())
    if choice.address is None and not server_runs:
        instances = dict.fromkeys(regions, 1)
        instances[FACE_DETECT.name] = choice.detector_instances or 1
        needed += server_pool_bytes(settings, streams, instances, on_gpu=on_gpu)
    return needed


def check_server_memory(choice: ServerChoice) -> None:
    """Refuses an embedded server that could not serve even one stream.

    Args:
        choice: Of an embedded server.

    Raises:
        PlatformError: /dev/shm is too small.
    """
    check_shared_memory(shared_memory_of(StreamSettings(), choice, 1, 0))


def check_shared_memory(needed_bytes: int, free_bytes: int | None = None) -> None:
    """Compares what is needed with what there is.

    Args:
        needed_bytes: From `shared_memory_of`.
        free_bytes: Of /dev/shm; None looks.

    Raises:
        PlatformError: It is too little.
    """
    free_bytes = shutil.disk_usage(SHM_DIR).free if free_bytes is None else free_bytes
    if free_bytes < needed_bytes:
        needed_mib = -(-needed_bytes >> 20)
        raise PlatformError(
            f"{SHM_DIR} has {free_bytes / 2**20:.1f} MiB free, and {needed_mib} MiB are needed; "
            "remedy: a larger one (`docker run --shm-size=256m`, "
            f"`mount -o remount,size=256m {SHM_DIR}`), fewer --streams, or `dualface-client reap`, "
            "which removes what killed processes left"
        )
