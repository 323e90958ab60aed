"""The environment file that carries pool sizes to compose.yaml and to the embedded server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dualface_client.atomic_file import write_atomically
from dualface_client.errors import SinkError
from dualface_client.triton.pool_plan import CUDA_KEY, PINNED_KEY, PoolPlan, checked_pool


def write_pools(
    path: Path, plan: PoolPlan, comment: str, also: Mapping[str, str] | None = None
) -> None:
    """Sets both keys in an environment file and leaves every other line as it is.

    Args:
        path: The file; created if missing, and replaced atomically.
        plan: The sizes.
        comment: How they were computed, written above them.
        also: Further variables that follow from the same plan.

    Raises:
        SinkError: It cannot be written.
    """
    values = {CUDA_KEY: plan.cuda_bytes, PINNED_KEY: plan.pinned_bytes, **(also or {})}
    try:
        before = path.read_text().splitlines() if path.is_file() else []
        write_atomically(path, "\n".join(_merged(before, values, comment)) + "\n")
    except OSError as error:
        raise SinkError(f"{path}: cannot write the pool sizes: {error.strerror}") from error


def _merged(before: list[str], values: Mapping[str, object], comment: str) -> list[str]:
    kept = [
        line
        for line in before
        if line.partition("=")[0].strip() not in values and not line.startswith("# Pools:")
    ]
    return [*kept, f"# Pools: {comment}", *(f"{key}={value}" for key, value in values.items())]


def pools_of_environment(
    environ: Mapping[str, str] | None = None, gpu_total_bytes: int | None = None
) -> tuple[int | None, int | None]:
    """Sizes of the CUDA and the pinned pool that the environment asks for, None for unset.

    Args:
        environ: Environment variables; None reads this process's.
        gpu_total_bytes: Memory of the card, None where it is not known.

    Raises:
        UsageError: A value is not a possible size.
    """
    env = os.environ if environ is None else environ
    cuda, pinned = env.get(CUDA_KEY), env.get(PINNED_KEY)
    return (
        checked_pool(CUDA_KEY, cuda, gpu_total_bytes) if cuda else None,
        checked_pool(PINNED_KEY, pinned) if pinned else None,
    )
