"""A process's context: its stacks are made small before anybody has used it, never afterwards.

What the driver does with that is seen on a GPU (`tests/gpu/test_mps.py`).
"""

from __future__ import annotations

from types import SimpleNamespace

from dualface_client.cuda.context import open_context


class CudaError(Exception):
    """As CuPy raises it."""


class Cupy:
    """The few functions that are called; notes them in order."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.calls: list[object] = []
        self._refuses = refuses
        runtime = SimpleNamespace(
            CUDARuntimeError=CudaError, free=self._free, deviceSetLimit=self._set_limit
        )
        self.cuda = SimpleNamespace(runtime=runtime, Device=self._device)

    def is_open(self, device_id: int) -> bool:
        """Whether a context has been opened."""
        return ("free", 0) in self.calls

    def __enter__(self) -> None:
        """The device is chosen."""

    def __exit__(self, *error: object) -> None:
        """It is no longer."""

    def _device(self, device_id: int) -> Cupy:
        self.calls.append(device_id)
        return self

    def _free(self, address: int) -> None:
        self.calls.append(("free", address))

    def _set_limit(self, limit: int, value: int) -> None:
        self.calls.append((limit, value))
        if self._refuses:
            raise CudaError


def test_the_first_one_who_opens_it_makes_the_stacks_small() -> None:
    cupy = Cupy()
    open_context(cupy, 1, cupy.is_open)
    assert cupy.calls == [1, ("free", 0), (0, 128)]
    open_context(cupy, 1, cupy.is_open)
    assert cupy.calls[3:] == [1, ("free", 0)]


def test_a_context_that_is_in_use_stays_as_it_is() -> None:
    cupy = Cupy()
    open_context(cupy, 0, lambda device_id: True)
    assert cupy.calls == [0, ("free", 0)]


def test_a_driver_that_refuses_a_limit_costs_memory_only() -> None:
    open_context(Cupy(refuses=True), 0, lambda device_id: False)


def test_a_gpu_of_which_the_driver_says_nothing_stays_as_it_is() -> None:
    cupy = Cupy()
    open_context(cupy, 99)
    assert cupy.calls == [99, ("free", 0)]
