"""The batch range an engine is built for, and the GPUs it is built for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dualface_client.errors import UsageError
from dualface_client.triton.description import ModelSpec


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """One optimisation profile.

    Attributes:
        smallest: Least batch the engine accepts.
        tuned: Batch whose time TensorRT minimises.
        largest: Most it accepts; its working memory is sized by this one.
    """

    smallest: int
    tuned: int
    largest: int


def batch_profile(spec: ModelSpec) -> BatchProfile:
    """The batch range of a model.

    Tuned for the smallest preferred batch: with a queue delay of half a millisecond that is what
    most executions carry. `benchmarks/` on a GPU host decides between it and the largest; nobody
    has measured that on the pinned TensorRT.

    Args:
        spec: Description of the model.
    """
    return BatchProfile(1, min(spec.preferred_batch_sizes), spec.max_batch_size)


def parse_capability(text: str) -> tuple[int, int]:
    """`8.9` as `(8, 9)`.

    Raises:
        UsageError: The text is no compute capability.
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text.strip())
    if not match:
        raise UsageError(f"compute capability {text!r}: expected MAJOR.MINOR such as 8.9")
    return int(match[1]), int(match[2])
