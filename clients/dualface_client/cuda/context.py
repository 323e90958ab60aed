"""A process's context on a GPU, which would take half a gigabyte.

The driver sets aside a stack for each thread that the GPU can run at once: with its usual 1,024
bytes that is 265 of the 518 MiB of a context (H200, driver 580). A kernel that needs more than the
limit gets it when it is launched (CUDA driver API, `cuCtxSetLimit`). A CUDA graph does not: one
that was made before the limit was lowered failed with an unspecified launch failure. So only a
context that nobody has used is changed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

DRIVER = "libcuda.so.1"
_STACK_SIZE = 0  # cudaLimitStackSize
_STACK_BYTES = 128
_opening = threading.Lock()


def open_context(cupy: Any, device_id: int, is_open: Callable[[int], bool] | None = None) -> None:
    """Opens this process's context on a GPU, with small stacks if nobody has opened it before.

    Args:
        cupy: The module.
        device_id: Index as CUDA counts them.
        is_open: Whether there is one; asks the driver if not given.

    Raises:
        Exception: CuPy's, if the GPU cannot be used.
    """
    runtime = cupy.cuda.runtime
    with _opening:
        is_new = not (is_open or has_context)(device_id)  # to choose the device opens it
        with cupy.cuda.Device(device_id):
            # A stream that fails to open it complains again when it is deleted.
            runtime.free(0)
            if is_new:
                with suppress(runtime.CUDARuntimeError):  # it only saves memory
                    runtime.deviceSetLimit(_STACK_SIZE, _STACK_BYTES)


def has_context(device_id: int) -> bool:
    """Whether this process has a context on a GPU; True if the driver does not say.

    Args:
        device_id: Index as CUDA counts them.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:  # what follows says it
        return True
    device, flags, is_active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int(1)
    asked = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), device_id)
        or driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(is_active))
    )
    return bool(asked or is_active.value)
