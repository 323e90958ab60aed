"""Memory for NV12 pictures on a GPU that is used again once nobody has its picture any more."""

from __future__ import annotations

import queue

import numpy as np

from dualface_client.cuda.stream import CudaStream
from dualface_client.types import ColorSpec, Nv12Image


class PictureMemory:
    """Memory for one picture, with the planes that lie in it, one behind the other.

    Making arrays takes longer than anything else about a picture, so they are made once.

    Attributes:
        ptr: Address of its first byte.
    """

    __slots__ = ("_array", "_memory", "_uv", "_y", "ptr")

    def __init__(self, stream: CudaStream, size_wh_px: tuple[int, int]) -> None:
        """Allocates.

        Args:
            stream: On which the picture is written and read.
            size_wh_px: Width and height, even.
        """
        with stream:
            self._memory = stream.cupy.cuda.alloc(size_wh_px[0] * size_wh_px[1] * 3 // 2)
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
            memory = PictureMemory(self._stream, self.size_wh_px)
        return memory.picture(self.size_wh_px, color, Loan(self._free, memory)), memory.ptr
