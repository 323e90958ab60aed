"""Memory for NV12 pictures on a GPU that is used again once nobody has its picture any more."""

from __future__ import annotations

import queue
from fractions import Fraction
from typing import Any

import numpy as np

from dualface_client.cuda.stream import CudaStream
from dualface_client.types import ColorSpec, Nv12Image

_BLOCK_BYTES = 2 << 20
_AT_ONCE_LIMIT = 4
_SLACK = Fraction(105, 100)  # waste that is not worth a further picture
_ALIGNMENT_BYTES = 512  # as of an allocation of its own


class PictureMemory:
    """Memory for one picture, with the planes that lie in it, one behind the other.

    Making arrays takes longer than anything else about a picture, so they are made once.

    Attributes:
        ptr: Address of its first byte.
    """

    __slots__ = ("_array", "_memory", "_uv", "_y", "ptr")

    def __init__(self, stream: CudaStream, size_wh_px: tuple[int, int], memory: Any) -> None:
        """Takes memory over; `allocated` makes it.

        Args:
            stream: On which the picture is written and read.
            size_wh_px: Width and height, even.
            memory: CuPy's pointer to its first byte.
        """
        self._memory = memory
        self._array = stream.cupy.ndarray
        self.ptr = int(self._memory.ptr)
        self._shape(size_wh_px)

    def _shape(self, size_wh_px: tuple[int, int]) -> None:
        width, height = size_wh_px
        self._y = self._array((height, width), np.uint8, self._memory)
        chroma = self._memory + width * height
        self._uv = self._array((height // 2, width // 2, 2), np.uint8, chroma)

    def picture(self, size_wh_px: tuple[int, int], color: ColorSpec, owner: object) -> Nv12Image:
        """A picture in this memory.

        Args:
            size_wh_px: Width and height; of as many samples as at first.
            color: Matrix and range.
            owner: Goes with the picture.
        """
        if self._y.shape[::-1] != size_wh_px:
            self._shape(size_wh_px)
        return Nv12Image(self._y, self._uv, color, owner)


def at_once(byte_size: int) -> int:
    """Pictures of a size that are best allocated together, 1 to 4.

    The driver gives out blocks of 2 MiB: 64 pictures of 1080p (3.1 MB) took 256 MiB one by one and
    192 MiB in pairs (H200, driver 580).
    """

    def blocks_per_picture(count: int) -> Fraction:
        return Fraction(-(-count * byte_size // _BLOCK_BYTES), count)

    counts = range(1, _AT_ONCE_LIMIT + 1)
    least = min(map(blocks_per_picture, counts))
    return next(count for count in counts if blocks_per_picture(count) <= least * _SLACK)


def allocated(
    stream: CudaStream, size_wh_px: tuple[int, int], most: int = _AT_ONCE_LIMIT
) -> list[PictureMemory]:
    """Memory for one picture, or for a few that waste less of it together.

    Args:
        stream: On which they are written and read.
        size_wh_px: Width and height, even.
        most: No more than this many, from 1.
    """
    byte_size = size_wh_px[0] * size_wh_px[1] * 3 // 2
    stride = -(-byte_size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    count = min(most, at_once(stride))
    with stream:
        memory = stream.cupy.cuda.alloc(count * stride)
    return [PictureMemory(stream, size_wh_px, memory + n * stride) for n in range(count)]


class Loan:
    """Gives memory back when the picture that owns it is gone."""

    __slots__ = ("_free", "_memory")

    def __init__(self, free: queue.SimpleQueue[PictureMemory], memory: PictureMemory) -> None:
        """Lends it.

        Args:
            free: Where it goes.
            memory: Given to nobody else meanwhile.
        """
        self._free = free
        self._memory = memory

    def __del__(self) -> None:
        self._free.put(self._memory)


class Pictures:
    """Pictures of one size, as many as there are at a time.

    Memory is given again to whoever asks once its picture is garbage. All work on it was queued on
    the same CUDA stream, so what overwrites it comes after that.
    """

    def __init__(self, stream: CudaStream, size_wh_px: tuple[int, int]) -> None:
        """No memory yet.

        Args:
            stream: Every use of the pictures must be queued here.
            size_wh_px: Width and height, even.
        """
        self._stream = stream
        self.size_wh_px = size_wh_px
        self._free: queue.SimpleQueue[PictureMemory] = queue.SimpleQueue()

    def make(self, color: ColorSpec) -> tuple[Nv12Image, int]:
        """A picture with any content, and its address."""
        try:
            memory = self._free.get_nowait()
        except queue.Empty:  # all are somebody's
            memory, *others = allocated(self._stream, self.size_wh_px)
            for other in others:
                self._free.put(other)
        return memory.picture(self.size_wh_px, color, Loan(self._free, memory)), memory.ptr
