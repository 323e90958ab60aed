"""One block of GPU memory that this process owns and Triton maps through CUDA IPC."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualface_client.closing import ClosesAtExit
from dualface_client.cuda.context import open_context
from dualface_client.errors import MemoryRegionError, PlatformError
from dualface_client.memory.names import new_name
from dualface_client.memory.region import checked_part

#: An exported allocation shares every byte of the block it lies in: a multiple of the driver's
#: block size shares nothing else (CUDA C++ Programming Guide, "Interprocess Communication").
BLOCK_BYTES = 2 << 20


class CudaRegion(ClosesAtExit):
    """A `cudaMalloc` of its own, as part of a memory pool could not be exported safely."""

    def __init__(self, byte_size: int, device_id: int = 0) -> None:
        """Allocates and clears the memory and creates its IPC handle.

        Args:
            byte_size: Wanted size, rounded up to a multiple of 2 MiB.
            device_id: Index of the GPU as CUDA counts them.

        Raises:
            PlatformError: CuPy is missing.
            MemoryRegionError: The GPU does not have that much free memory, or cannot export it.
            ValueError: The size is not positive.
        """
        if byte_size <= 0:
            raise ValueError(f"region of {byte_size} bytes: expected a positive size")
        self._cupy = _cupy()
        self._device_id = device_id
        self._byte_size = -(-byte_size // BLOCK_BYTES) * BLOCK_BYTES
        self._name = str(new_name("cuda"))
        self._address = 0
        runtime = self._cupy.cuda.runtime
        try:
            open_context(self._cupy, device_id)
            with self._cupy.cuda.Device(device_id):
                self._address = int(runtime.malloc(self._byte_size))
                runtime.memset(self._address, 0, self._byte_size)
                runtime.deviceSynchronize()
                self._handle = bytes(runtime.ipcGetMemHandle(self._address))
        except runtime.CUDARuntimeError as error:
            self.close()
            raise MemoryRegionError(
                f"CUDA region of {self._byte_size} bytes on GPU {device_id}: {error}. Remedy: "
                "fewer streams per worker, fewer workers, or `dualface-client reap`"
            ) from error

    @property
    def name(self) -> str:
        """Name to register with Triton."""
        return self._name

    @property
    def byte_size(self) -> int:
        """Allocated bytes, a multiple of 2 MiB."""
        return self._byte_size

    @property
    def device_id(self) -> int:
        """Index of the GPU as this process counts them."""
        return self._device_id

    @property
    def ipc_handle(self) -> bytes:
        """The 64 bytes of the `cudaIpcMemHandle_t`; tritonclient wants them in base64."""
        return self._handle

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Any:
        """A CuPy array over a part of the region, without a copy.

        Args:
            offset: First byte, a multiple of the element size.
            shape: Shape of the array.
            dtype: Element type.

        Returns:
            A writable C-contiguous device array. It must not be used after `close`.

        Raises:
            MemoryRegionError: The region is closed.
            ValueError: The part does not lie within the region.
        """
        if not self._address:
            raise MemoryRegionError(f"region {self._name} is closed")
        checked_part(self, offset, shape, dtype)
        cuda = self._cupy.cuda
        memory = cuda.UnownedMemory(self._address, self._byte_size, self, self._device_id)
        return self._cupy.ndarray(shape, dtype, cuda.MemoryPointer(memory, offset))

    def close(self) -> None:
        """Frees the memory; safe to call twice.

        Only after Triton has unregistered it: freeing memory that another process still maps is
        undefined (CUDA Runtime API, `cudaIpcOpenMemHandle`). Waits for the GPU's work.
        """
        if not self._address:
            return
        address, self._address = self._address, 0
        with self._cupy.cuda.Device(self._device_id):
            self._cupy.cuda.runtime.deviceSynchronize()
            self._cupy.cuda.runtime.free(address)


def _cupy() -> Any:
    try:
        import cupy
    except (ImportError, OSError) as error:
        raise PlatformError(
            f"CuPy cannot be imported ({error}); --device cuda needs it: pip install cupy-cuda13x "
            "(cupy-cuda12x for a driver before 580)"
        ) from error
    return cupy
