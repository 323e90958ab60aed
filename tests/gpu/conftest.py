"""Fixtures of the GPU tests."""

from __future__ import annotations

import pytest

from dualface_client.cuda.stream import CudaStream


@pytest.fixture(scope="session")
def stream() -> CudaStream:
    return CudaStream()
