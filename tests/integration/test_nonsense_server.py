"""A server that answers nonsense: no crash and no endless wait; the stream fails by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import service_pb2

import dualface_client
from dualface_client.memory.region import SHM_DIR
from dualface_client.triton.embedded import EmbeddedModel
from tests import media
from tests.integration.conftest import StartServer

Spoil = Callable[[npt.NDArray[np.float32]], None]
ROWS = (64, 15)


class Nonsense(grpc.GenericRpcHandler):  # type: ignore[type-arg] # not subscriptable at run time
    """Passes every call on, and spoils what the real server writes into the region."""

    def __init__(self, channel: grpc.Channel, spoil: Spoil) -> None:
        self._channel, self._spoil = channel, spoil
        self._last = b""
        self.repeats = False
        self.spoiled = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self._is_repeated(details.method):
                return self._last
            answer: bytes = self._channel.unary_unary(details.method, None, None)(request)
            self._last = answer
            if details.method.endswith("/ModelInfer"):
                self._spoil_answer(service_pb2.ModelInferRequest.FromString(request))
            return answer

        return grpc.unary_unary_rpc_method_handler(forward)

    def _is_repeated(self, method: str) -> bool:
        return self.repeats and self.spoiled > 0 and method.endswith("/ModelInfer")

    def _spoil_answer(self, request: Any) -> None:
        if request.model_name != "face_detect":
            return
        where = request.outputs[0].parameters
        path = SHM_DIR / where["shared_memory_region"].string_param
        offset = where["shared_memory_offset"].int64_param
        table = np.memmap(path, np.float32, "r+", offset, ROWS)
        self._spoil(table)
        self.spoiled += 1


@contextmanager
def spoiling(address: str, spoil: Spoil) -> Iterator[tuple[str, Nonsense]]:
    """Address of a server whose answers are spoiled."""
    with ThreadPoolExecutor(4) as threads, grpc.insecure_channel(address) as channel:
        nonsense = Nonsense(channel, spoil)
        front = grpc.server(threads, handlers=[nonsense])
        port = front.add_insecure_port("127.0.0.1:0")
        front.start()
        yield f"127.0.0.1:{port}", nonsense
        front.stop(None).wait()


def fill(column: int, value: float) -> Spoil:
    def spoil(table: npt.NDArray[np.float32]) -> None:
        table[:] = np.tile([10, 10, 60, 80, 0.9, *([40] * 10)], (ROWS[0], 1))
        table[:, column] = value

    return spoil


def forget(table: npt.NDArray[np.float32]) -> None:
    """As if the answer, or its second half, had never been written."""
    table[32:].view(np.uint32)[:] = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(fill(0, np.nan), "far outside of the picture", id="nan"),
        pytest.param(fill(2, np.inf), "far outside of the picture", id="infinite"),
        pytest.param(fill(3, 1e9), "far outside of the picture", id="enormous"),
        pytest.param(fill(4, 40.0), "scores are not within", id="score"),
        pytest.param(forget, "did not write 480 of 960 values", id="half"),
    ],
)
def test_nonsense_fails_the_stream_by_name(
    start_server: StartServer,
    tiny_models: tuple[EmbeddedModel, ...],
    tmp_path: Path,
    spoil: Spoil,
    says: str,
) -> None:
    clip = media.make(tmp_path / "in.mp4")
    with spoiling(start_server(tiny_models).grpc_address, spoil) as (address, nonsense):
        (report,) = dualface_client.process(clip, tmp_path / "out.mp4", server=address)
    assert nonsense.spoiled > 0
    assert (report.state, report.exit_code) == ("failed", 3)
    assert says in report.error
    assert not (tmp_path / "out.mp4").exists()


def test_one_answer_for_two_requests_fails_the_stream_by_name(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    clip = media.make(tmp_path / "in.mp4")
    with spoiling(start_server(tiny_models).grpc_address, fill(4, 0.0)) as (address, nonsense):
        nonsense.repeats = True
        (report,) = dualface_client.process(clip, tmp_path / "out.mp4", server=address)
    assert nonsense.spoiled == 1
    assert (report.state, report.exit_code) == ("failed", 3)
    assert "did not write 960 of 960 values" in report.error


def test_faces_everywhere_and_upside_down_are_processed(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    """Possible, if unlikely: as many faces as the table holds, and boxes without an area."""
    rng = np.random.default_rng(1)

    def spoil(table: npt.NDArray[np.float32]) -> None:
        table[:] = rng.uniform(-300, 900, ROWS)
        table[:, 4] = np.sort(rng.uniform(0, 1, ROWS[0]))[::-1]

    clip = media.make(tmp_path / "in.mp4")
    with spoiling(start_server(tiny_models).grpc_address, spoil) as (address, nonsense):
        (report,) = dualface_client.process(clip, tmp_path / "out.mp4", server=address)
    assert nonsense.spoiled > 0
    assert (report.state, report.frames_out) == ("done", report.frames_expected)
