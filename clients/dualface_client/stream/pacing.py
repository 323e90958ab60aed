"""What may hold streams back: a machine at its limit, a GPU whose memory is full."""

from __future__ import annotations

import time
from typing import Protocol

from dualface_client.location import HERE, Location
from dualface_client.memory.vram import Card, VramGuard, VramLimit
from dualface_client.observe.gpus import read_gpus, used_gpu


class Pacing(Protocol):
    """What may hold streams back while the machine is at its limit."""

    def admit(self) -> bool:
        """Whether a further stream may be started."""

    def requests(self, in_flight: int, frames: int) -> tuple[int, int]:
        """Requests that a stream should have under way, and frames in each, given what it wants.

        Never more than that of either, and at least one.
        """


class Unpaced:
    """Holds nothing back."""

    def admit(self) -> bool:
        """True."""
        return True

    def requests(self, in_flight: int, frames: int) -> tuple[int, int]:
        """What is wanted."""
        return in_flight, frames


def card_of(limit: float, location: Location = HERE) -> Card | None:
    """The GPU in use as NVML shows it now, None if it cannot tell.

    Args:
        limit: Share of it that everybody together may use.
        location: Whose GPU.
    """
    gpu = used_gpu(read_gpus(), location.environment())
    return None if gpu is None else Card(gpu.memory_total_bytes, gpu.memory_used_bytes, limit)


def within_memory(limit: VramLimit | None, inner: Pacing | None = None) -> Pacing:
    """A pacing that also looks at the GPU's memory before each stream.

    Args:
        limit: None for no limit.
        inner: Another one, which must agree; None for none.
    """
    inner = inner or Unpaced()
    return inner if limit is None else _MemoryPacing(inner, limit)


class _MemoryPacing:
    def __init__(self, inner: Pacing, limit: VramLimit) -> None:
        self._inner = inner
        self._vram = VramGuard(
            self._used_bytes, limit.limit_bytes, limit.need_bytes, time.monotonic
        )

    def admit(self) -> bool:
        return self._inner.admit() and self._vram.admit()

    def requests(self, in_flight: int, frames: int) -> tuple[int, int]:
        return self._inner.requests(in_flight, frames)

    def _used_bytes(self) -> int | None:
        card = card_of(1.0)
        return card.used_bytes if card is not None else None
