"""The CUDA stream that one video stream's decoding, pixel work and encoding share.

Everything of one video stream is queued on one CUDA stream, from whichever thread. Work runs in the
order in which it was queued, so a frame is written before it is read, and its memory may be used
again as soon as the last reader was queued: no event and no wait is needed between the parts. Only
what leaves the GPU (a request to Triton, pixels for x264) has to wait, with `CudaStream.finish`.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from dualface_client.cuda.context import DRIVER, open_context
from dualface_client.errors import PlatformError
from dualface_client.fibers import give_way

_ANY_DIRECTION = 4  # cudaMemcpyDefault
_NOT_READY = 600  # cudaErrorNotReady


def load_cupy() -> Any:
    """The `cupy` module.

    Raises:
        PlatformError: It is not installed, or its CUDA libraries are missing.
    """
    return _load("cupy", "pip install cupy-cuda13x (cupy-cuda12x for a driver before 580)")


def load_codec() -> Any:
    """The `PyNvVideoCodec` module.

    Raises:
        PlatformError: It is not installed, or the driver's video libraries are missing.
    """
    return _load(
        "PyNvVideoCodec",
        "pip install pynvvideocodec==2.2.4; in a container also "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
    )


def _load(name: str, remedy: str) -> Any:
    try:
        return importlib.import_module(name)
    # PyNvVideoCodec raises RuntimeError for a driver library that is missing or too old.
    except (ImportError, RuntimeError, OSError) as error:
        raise PlatformError(
            f"{name} cannot be imported ({error}); --device cuda needs it: {remedy}"
        ) from error


def why_no_context(device_id: int = 0) -> str:
    """Why the driver gives no context on a GPU; empty if it does, and then the context is gone.

    A process whose streams run in others needs none, and it would take 0.3 GiB of the GPU.

    Args:
        device_id: Index as CUDA counts them.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        return str(error)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    steps: tuple[tuple[str, Callable[[], int]], ...] = (
        ("cuInit", lambda: driver.cuInit(0)),
        ("cuDeviceGet", lambda: driver.cuDeviceGet(ctypes.byref(device), device_id)),
        (
            "cuDevicePrimaryCtxRetain",
            lambda: driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        ),
        ("cuDevicePrimaryCtxRelease", lambda: driver.cuDevicePrimaryCtxRelease_v2(device)),
    )
    for name, step in steps:
        if code := step():
            return (
                f"GPU {device_id} cannot be used ({name} failed with error {code}); `nvidia-smi` "
                "lists what is there and who uses it"
            )
    return ""


class CudaStream:
    """A non-blocking CUDA stream of one device; `with` makes it the calling thread's current one.

    Safe to use from several threads at once.

    Attributes:
        cupy: The `cupy` module.
        device_id: Which GPU.
        stream: The `cupy.cuda.Stream`.
        handle: Its `cudaStream_t` as a number, for libraries that take one.
    """

    def __init__(self, device_id: int = 0) -> None:
        """Creates the stream, and the process's context on the device with the first one.

        Args:
            device_id: Index as CUDA counts them.

        Raises:
            PlatformError: CuPy or the device is missing.
        """
        self.cupy = load_cupy()
        self.device_id = device_id
        try:
            open_context(self.cupy, device_id)
            self._device = self.cupy.cuda.Device(device_id)
            with self._device:
                self.stream = self.cupy.cuda.Stream(non_blocking=True)
                self.handle = int(self.stream.ptr)
        except self.cupy.cuda.runtime.CUDARuntimeError as error:
            raise PlatformError(
                f"GPU {device_id} cannot be used ({error}); `nvidia-smi` lists what is there and "
                "who uses it"
            ) from error

    def copy(self, target: int, source: int, byte_size: int) -> None:
        """Queues a copy between addresses of the GPU or of pinned host memory.

        It takes some microseconds, in which the thread keeps Python's lock: to get it back would
        take far longer with many streams in a process. Only a GPU that hangs would keep it.

        Args:
            target: Its first byte.
            source: Its first byte.
            byte_size: Of both.
        """
        if _memcpy_async()(target, source, byte_size, self.handle):
            # The thread has no context yet, which the runtime sees to; or it says what is wrong.
            runtime = self.cupy.cuda.runtime
            runtime.memcpyAsync(target, source, byte_size, _ANY_DIRECTION, self.handle)

    def make_current(self) -> None:
        """Makes the device's context the calling thread's, for libraries that ask the driver."""
        self._device.use()

    def __enter__(self) -> CudaStream:
        self._device.__enter__()
        self.stream.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.__exit__(*error)
        self._device.__exit__(*error)

    def record(self) -> Recorded:
        """A place in the stream, after everything queued so far."""
        with self:
            # Waiting for it sleeps instead of spinning.
            event = self.cupy.cuda.Event(block=True, disable_timing=True)
            event.record(self.stream)
            return Recorded(event, self.cupy.cuda.runtime.eventQuery)

    def finish(self) -> None:
        """Waits until everything queued so far is done. Needed before a request to Triton."""
        self.record().wait()


@cache
def _memcpy_async() -> Any:
    function = ctypes.PyDLL(DRIVER).cuMemcpyAsync
    function.argtypes = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p)
    return function


class Recorded:
    """A place in a CUDA stream that it comes to some time.

    Args:
        event: CuPy's.
        query: The runtime's `eventQuery`: takes the event's address, returns a `cudaError_t`.
    """

    __slots__ = ("_event", "_query")

    def __init__(self, event: Any, query: Callable[[int], int]) -> None:
        self._event = event
        self._query = query

    def wait(self) -> None:
        """Waits until everything before it is done.

        Raises:
            Exception: CuPy's, if something before it failed.
        """
        # CuPy's `done` is False for a stream that has failed, too.
        give_way(lambda: self._query(self._event.ptr) != _NOT_READY, polled=True)
        self._event.synchronize()
