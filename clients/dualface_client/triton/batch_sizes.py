"""The batch sizes for which the embedded server on a GPU makes sessions.

Each size is a session of its own, with memory and a start of its own (docs/performance.md), so that
a server makes only those that its requests need.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Sizes that there are; others are padded to the next one.
CUDA_BATCHES = (1, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a model is going to be asked.

    Attributes:
        usual: Items of most of its requests. Smaller ones are padded, such as a video's last one.
        most: Items under way at a time, in all requests together.
        has_single: Whether so many requests have one item that a session for it is worth it.
    """

    usual: int
    most: int
    has_single: bool = False


def batch_sizes(limit: int, demand: Demand | None) -> tuple[int, ...]:
    """Sizes to prepare, in rising order; smaller batches are padded, larger ones are split.

    Args:
        limit: The model's largest batch.
        demand: None for anything.
    """
    sizes = [size for size in CUDA_BATCHES if size <= limit]
    if demand is None:
        return tuple(sizes)
    kept = [size for size in sizes if size >= demand.usual] or sizes[-1:]
    enough = next((size for size in kept if size >= demand.most), kept[-1])
    single = sizes[:1] if demand.has_single else []
    return tuple(sorted({*single, *(size for size in kept if size <= enough)}))
