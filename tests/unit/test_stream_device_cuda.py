"""What of the CUDA device can be checked without a GPU."""

from __future__ import annotations

import ctypes.util
import importlib.util
from dataclasses import replace

import pytest
from click.testing import CliRunner

from dualface_client.cli.commands import cli
from dualface_client.decisions.window import MAX_LOOKAHEAD_FRAMES
from dualface_client.errors import PlatformError
from dualface_client.settings.stream import DetectionSettings, QueueSettings, StreamSettings
from dualface_client.stream.device_cuda import (
    CudaDevice,
    for_cuda,
    why_no_cuda_server,
    why_not_cuda,
)
from dualface_client.stream.load import frames_held


def test_every_place_where_a_frame_waits_has_a_buffer() -> None:
    settings = StreamSettings(
        detection=DetectionSettings(frames_per_request=5, requests_in_flight=3),
        queues=QueueSettings(frames_ahead=7),
    )
    filling, in_flight, deciding, drawn = 5, 15, 5, 5
    waiting = filling + in_flight + deciding + drawn + MAX_LOOKAHEAD_FRAMES + 7
    assert frames_held(settings) > waiting
    deeper = replace(settings.detection, requests_in_flight=4)
    assert frames_held(replace(settings, detection=deeper)) == frames_held(settings) + 5


def test_only_the_requests_change_for_a_gpu() -> None:
    plain = StreamSettings()
    for streams in (1, 16):
        changed = for_cuda(plain, streams)
        assert changed != plain
        assert replace(changed, detection=plain.detection) == plain
        assert changed.detection.every == 1
    own = StreamSettings(detection=DetectionSettings(frames_per_request=1, every=2))
    assert for_cuda(own, 16) == own


@pytest.mark.parametrize(
    ("streams", "limit", "said", "expected"),
    [
        (1, 16, None, (8, 2)),
        (7, 16, None, (8, 2)),
        (8, 16, None, (16, 1)),
        (8, 64, None, (16, 1)),
        (8, 16, 3, (16, 3)),
        (1, 16, 3, (8, 3)),
        (8, 15, None, (8, 2)),
        (8, 4, None, (4, 2)),
    ],
)
def test_many_streams_send_few_large_requests(
    streams: int, limit: int, said: int | None, expected: tuple[int, int]
) -> None:
    given = StreamSettings(detection=DetectionSettings(requests_in_flight=said))
    found = for_cuda(given, streams, limit).detection
    assert (found.batch, found.in_flight) == expected
    side_by_side = for_cuda(given, streams, limit, mps=True).detection
    in_flight = said or (1 if streams == 8 else 2)
    assert (side_by_side.batch, side_by_side.in_flight) == (min(8, limit), in_flight)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_machine_without_cupy_is_told_what_to_install() -> None:
    reason = why_not_cuda(embedded_server=True)
    assert reason is not None
    assert "cupy" in reason
    assert "dualface-client[gpu]" in reason


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="there is a driver")
def test_a_machine_without_a_gpu_is_told_so_before_a_server_starts() -> None:
    reason = why_no_cuda_server()
    assert reason == "this machine has no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    done = CliRunner().invoke(cli, ["serve", "--device", "cuda"])
    assert isinstance(done.exception, PlatformError)
    assert reason in str(done.exception)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), True),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY : cuvidCreateDecoder"), True),
        (type("OutOfMemoryError", (Exception,), {})("allocating 1,024 bytes"), True),
        (RuntimeError("cudaErrorIllegalAddress"), False),
        (ValueError("memory"), False),
    ],
)
def test_full_memory_is_told_from_other_errors(error: Exception, full: bool) -> None:
    device = CudaDevice(StreamSettings())
    assert device.is_out_of_memory(error) is full
    outer = RuntimeError("decoding failed")
    outer.__cause__ = error
    assert device.is_out_of_memory(outer) is full
