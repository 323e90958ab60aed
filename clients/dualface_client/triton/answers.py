"""Where answers are written, and how the client knows that one was written.

Triton can report success without delivering data: when its CUDA pool runs dry, a Python model's
output can be lost on its way (server issue 8177). A reused slot then still holds an older answer,
which looks right. So every place is filled with a pattern before its request, and an answer that
still contains the pattern is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dualface_client.errors import StaleOutputError
from dualface_client.memory.region import SystemRegion
from dualface_client.memory.slots import Hold, Lease, SizeClass

#: Unsigned integers by element size. The pattern is the largest of them, every bit set: as a float
#: a NaN that no arithmetic yields (as FP32, x86 gives 0xffc00000, NVIDIA GPUs 0x7fffffff, ARM
#: 0x7fc00000), and no uint8 picture contains a NaN.
_WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
#: A cache line, and a multiple of every element size.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where one answer goes.

    Attributes:
        region_name: Registered region that it lies in.
        offset: Its first byte there.
        array: The same bytes as the host sees them, in the output's shape and type.
    """

    region_name: str
    offset: int
    array: npt.NDArray[Any]

    def poison(self) -> None:
        """Fills the place with the pattern; nobody else may be using it."""
        size = self.array.itemsize
        self.array.view(_WORDS[size]).fill(_all_ones(size))

    def take(self, what: str) -> npt.NDArray[Any]:
        """The answer as a copy.

        Args:
            what: The request, for the message.

        Raises:
            StaleOutputError: Part of it was never written.
        """
        rows = np.array(self.array)
        left = _left(rows)
        if left:
            raise StaleOutputError(
                f"{what}: the server reported success but did not write {left} of {rows.size} "
                f"values of its answer in region {self.region_name}. Likely causes: its CUDA "
                "memory pool is exhausted (--cuda-memory-pool-byte-size; `dualface-client plan` "
                "computes it, the server's log says `falling back to pinned` or `load GPU "
                "buffers`), or somebody registered other memory under this region's name"
            )
        return rows


def _left(rows: npt.NDArray[Any]) -> int:
    """How many elements still hold the pattern."""
    # Any bit pattern may be a genuine integer.
    if rows.dtype.kind != "f":
        return 0
    words = rows.view(_WORDS[rows.itemsize])
    # The pattern is the largest unsigned word: one pass, and no temporary array.
    if int(np.maximum.reduce(words, axis=None)) != _all_ones(rows.itemsize):
        return 0
    return int(np.count_nonzero(words == words.max()))


def _all_ones(byte_size: int) -> int:
    return (1 << 8 * byte_size) - 1


class Answers(Protocol):
    """Gives each request a place for its answer."""

    def place(
        self, lease: Lease, hold: Hold, at_byte: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> AnswerPlace:
        """The place that belongs to a leased slot.

        Args:
            lease: The slot.
            hold: The request's claim on it.
            at_byte: First byte behind the slot's input.
            shape: Shape of the answer.
            dtype: Its element type.
        """


class AnswersInSlots:
    """Behind the input in the slot: for regions that the host can read."""

    def place(
        self, lease: Lease, hold: Hold, at_byte: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> AnswerPlace:
        """See `Answers`."""
        array = hold.array(shape, dtype, at_byte)
        return AnswerPlace(lease.region_name, lease.offset + at_byte, array)


class AnswersApart:
    """In a small host region of their own, one place per slot: for pixels in GPU memory."""

    def __init__(self, classes: Mapping[str, SizeClass], output_bytes: Mapping[str, int]) -> None:
        """Makes the region; the caller registers and closes it.

        Args:
            classes: Slots by name, as the pool has them.
            output_bytes: Bytes of the largest answer of each class.

        Raises:
            MemoryRegionError: There is no room in `/dev/shm`.
        """
        self._stride = {n: -(-size // _ALIGNMENT) * _ALIGNMENT for n, size in output_bytes.items()}
        self._first: dict[str, int] = {}
        end = 0
        for name, size in classes.items():
            self._first[name] = end
            end += self._stride[name] * size.count
        self.region = SystemRegion(end)

    def place(
        self, lease: Lease, hold: Hold, at_byte: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> AnswerPlace:
        """See `Answers`."""
        del hold, at_byte  # the place belongs to the slot and is held with it
        offset = self._first[lease.size_class] + lease.number * self._stride[lease.size_class]
        return AnswerPlace(self.region.name, offset, self.region.view(offset, shape, dtype))
