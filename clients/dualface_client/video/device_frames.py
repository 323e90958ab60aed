"""Frames in GPU memory: a bounded set of buffers, reused when nobody holds their picture."""

from __future__ import annotations

import queue
import threading
import time
from math import ceil
from pathlib import Path

import numpy as np

from dualface_client.cuda.pictures import Loan, PictureMemory, allocated
from dualface_client.cuda.stream import CudaStream
from dualface_client.errors import SourceError
from dualface_client.types import ColorSpec, Nv12Image
from dualface_client.video.device_tones import DeviceTones
from dualface_client.video.orientation import Orientation

_POLL_S = 0.1
_STARVED_S = 60.0
_BLOCK = (32, 8)
_AS_IT_IS = Orientation()


class DeviceFrames:
    """Upright NV12 pictures of one size, each copied into a buffer of its own.

    A buffer is reused once the picture is garbage, whoever still has its arrays. All work on them
    was queued on the same stream, so the copy that overwrites them comes after it. Buffers are
    allocated as they are needed, up to a limit; `place` then waits for one to come back.
    """

    def __init__(
        self,
        stream: CudaStream,
        size_wh_px: tuple[int, int],
        limit: int,
        tones: DeviceTones | None = None,
    ) -> None:
        """Prepares the kernels; no buffer yet.

        Args:
            stream: Every copy is queued here, and every use of the pictures must be.
            size_wh_px: Width and height as decoded, before turning, even.
            limit: Pictures that may be held at once.
            tones: For pictures of high dynamic range, None for others.
        """
        self._tones = tones
        self._stream = stream
        self._wh = size_wh_px
        self._limit = limit
        self._made = 0
        self._free: queue.SimpleQueue[PictureMemory] = queue.SimpleQueue()
        code = Path(__file__).with_name("upright.cu").read_text()
        with stream:
            module = stream.cupy.RawModule(code=code, options=("--std=c++17",))
            self._kernels = {n: module.get_function(f"upright_u{8 * n}") for n in (1, 2)}

    @property
    def byte_size(self) -> int:
        """Bytes of one 8-bit picture."""
        return self._wh[0] * self._wh[1] * 3 // 2

    def place(
        self,
        address: int,
        color: ColorSpec,
        closing: threading.Event,
        *,
        sample_bytes: int = 1,
        orientation: Orientation = _AS_IT_IS,
    ) -> Nv12Image | None:
        """Copies a decoded picture, converted to 8 bit and turned upright if necessary.

        Args:
            address: Device memory: Y, then interleaved CbCr, without row padding.
            color: Matrix and range of the samples.
            closing: Ends the wait for a buffer.
            sample_bytes: 1 for NV12, 2 for P016.
            orientation: What makes it upright.

        Returns:
            The picture, or None if `closing` was set.

        Raises:
            SourceError: All pictures were held for a minute.
        """
        buffer = self._take(closing)
        if buffer is None:
            return None
        if self._tones is not None:
            address, sample_bytes = self._tones.mapped(address, sample_bytes), 1
        if sample_bytes == 1 and orientation == _AS_IT_IS:
            self._stream.copy(buffer.ptr, address, self.byte_size)
        else:
            self._turn(buffer, address, sample_bytes, orientation)
        loan = Loan(self._free, buffer)
        return buffer.picture(orientation.size_wh(self._wh), color, loan)

    def upload(self, address: int, color: ColorSpec, closing: threading.Event) -> Nv12Image | None:
        """Copies an upright 8-bit picture from pinned host memory; otherwise like `place`."""
        buffer = self._take(closing)
        if buffer is None:
            return None
        self._stream.copy(buffer.ptr, address, self.byte_size)
        return buffer.picture(self._wh, color, Loan(self._free, buffer))

    def _take(self, closing: threading.Event) -> PictureMemory | None:
        """A free buffer."""
        deadline_s = time.monotonic() + _STARVED_S
        while not closing.is_set():
            try:
                return self._free.get(block=self._made >= self._limit, timeout=_POLL_S)
            except queue.Empty:  # make one more, or wait for one to come back
                if self._made < self._limit:
                    made = allocated(self._stream, self._wh, self._limit - self._made)
                    self._made += len(made)
                    for other in made[1:]:
                        self._free.put(other)
                    return made[0]
            if time.monotonic() > deadline_s:
                raise SourceError(
                    f"all {self._limit} GPU frames of a stream are held for {_STARVED_S:g} s; "
                    "hold fewer frames or allow more"
                )
        return None

    def _turn(
        self, buffer: PictureMemory, address: int, sample_bytes: int, orientation: Orientation
    ) -> None:
        width, height = self._wh
        out_w, out_h = orientation.size_wh(self._wh)
        grid = (ceil(out_w / _BLOCK[0]), ceil(out_h / _BLOCK[1]), 2)
        sizes = np.int32(width), np.int32(height), np.int32(orientation.code)
        with self._stream:
            self._kernels[sample_bytes](
                grid, _BLOCK, (np.uint64(address), np.uint64(buffer.ptr), *sizes)
            )
