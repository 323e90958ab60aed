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
        least: Items of its smaller requests, but for those that end a video.
        most: Items under way at a time, in all requests together.
    """

    least: int
    most: int


def batch_sizes(limit: int, demand: Demand | None) -> tuple[int, ...]:
    """Sizes to prepare, in rising order; smaller batches are padded, larger ones are split.

    Args:
        limit: The model's largest batch.
        demand: None for anything.
    """
    sizes = [size for size in CUDA_BATCHES if size <= limit]
    if demand is None:
        return tuple(sizes)
    sizes = [size for size in sizes if size >= demand.least] or sizes[-1:]
    enough = next((size for size in sizes if size >= demand.most), sizes[-1])
    return tuple(size for size in sizes if size <= enough)
