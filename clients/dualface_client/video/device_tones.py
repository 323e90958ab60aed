"""High dynamic range to BT.709 in GPU memory; the table is that of `tonemap`."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from dualface_client.cuda.stream import CudaStream
from dualface_client.types import FloatArray

_BLOCK = (32, 8)
_TEN_BIT = 1023 << 6  # white of full-range P016: the decoder fills the high bits


def levels_of(sample_bytes: int, *, full_range: bool) -> tuple[float, float, float, float]:
    """Code of black, scale of luma, code of no colour, scale of chroma, as `tonemap.cu` takes them.

    Args:
        sample_bytes: 1 for NV12, 2 for P016.
        full_range: Whether white is the largest code.
    """
    unit = 1 << (8 * (sample_bytes - 1))
    if not full_range:
        return 16 * unit, 1 / (219 * unit), 128 * unit, 1 / (224 * unit)
    white = 255 if sample_bytes == 1 else _TEN_BIT
    return 0, 1 / white, 128 * unit, 1 / white


class DeviceTones:
    """Maps the decoded pictures of one stream, each into the same buffer."""

    def __init__(
        self,
        stream: CudaStream,
        size_wh_px: tuple[int, int],
        table: FloatArray,
        *,
        full_range: bool,
    ) -> None:
        """Copies the table to the GPU.

        Args:
            stream: All work is queued here.
            size_wh_px: Width and height as decoded, even.
            table: From `tonemap.color_table`.
            full_range: Of the decoded pictures.
        """
        self._stream = stream
        self._wh = size_wh_px
        self._full_range = full_range
        width, height = size_wh_px
        code = Path(__file__).with_name("tonemap.cu").read_text()
        with stream:
            module = stream.cupy.RawModule(code=code, options=("--std=c++17",))
            self._kernels = {n: module.get_function(f"tonemap_u{8 * n}") for n in (1, 2)}
            self._table: Any = stream.cupy.asarray(table)
            self._mapped: Any = stream.cupy.cuda.alloc(width * height * 3 // 2)

    def mapped(self, address: int, sample_bytes: int) -> int:
        """A picture as 8-bit NV12 in BT.709, limited range.

        Args:
            address: Device memory: Y, then interleaved CbCr, without row padding.
            sample_bytes: 1 for NV12, 2 for P016.

        Returns:
            Address of the result, which the next call overwrites in stream order.
        """
        width, height = self._wh
        grid = (ceil(width / 2 / _BLOCK[0]), ceil(height / 2 / _BLOCK[1]))
        levels = map(np.float32, levels_of(sample_bytes, full_range=self._full_range))
        places = (np.uint64(place) for place in (address, self._mapped.ptr, self._table.data.ptr))
        with self._stream:
            self._kernels[sample_bytes](
                grid, _BLOCK, (*places, np.int32(width), np.int32(height), *levels)
            )
        return int(self._mapped.ptr)
