"""No exception of tritonclient or grpc leaves the connection, whatever the other side does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from tritonclient.utils import InferenceServerException

from dualface_client.errors import (
    AccessDeniedError,
    ContractError,
    DualfaceError,
    InferenceFailedError,
    InferenceTimeoutError,
    MemoryRegionError,
    ModelDiedError,
    RegionRefusedError,
    RegionUnknownError,
    ServerUnreachableError,
)
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.memory.region import SHM_DIR, SystemRegion
from dualface_client.memory.slots import SizeClass, SlotPool
from dualface_client.triton.client import InferenceClient
from dualface_client.triton.connection import Connection, translate, translated
from dualface_client.triton.description import FACE_REID
from dualface_client.triton.registration import free
from dualface_client.triton.transport import Bytes, SlotLayout

STUB = "Failed to process the request(s) for model 'x', message: Stub process 'x' is not healthy."
RESTRICTED = "This protocol is restricted, expecting header 'triton-grpc-protocol-dualface-key'"
NOT_LOADED = "Request for unknown model: 'face_reid' has no available versions"
DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true'"


def raised(status: str, message: str) -> InferenceServerException:
    return InferenceServerException(message, f"StatusCode.{status}", None)


@pytest.mark.parametrize(
    ("status", "message", "expected", "words"),
    [
        ("UNAVAILABLE", "failed to connect", ServerUnreachableError, "dualface-client serve"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", InferenceTimeoutError, "no answer in time"),
        ("CANCELLED", "Locally cancelled", InferenceFailedError, "cancelled"),
        ("INTERNAL", "onnx failed", InferenceFailedError, "INTERNAL: onnx failed"),
        ("INTERNAL", STUB, ModelDiedError, "restart the server"),
        ("INVALID_ARGUMENT", "unexpected shape", InferenceFailedError, "unexpected shape"),
        ("UNIMPLEMENTED", DISABLED, RegionRefusedError, "--allow-client-shm=true"),
        ("NOT_FOUND", NOT_LOADED, ServerUnreachableError, "models load face_reid"),
        ("UNAVAILABLE", RESTRICTED, AccessDeniedError, "DUALFACE_SERVER_KEY_FILE"),
        (
            "NOT_FOUND",
            "Request for unknown model: 'x' is not found",
            ContractError,
            "models of this bundle",
        ),
        ("NOT_FOUND", "Unable to find shared memory region", RegionUnknownError, "region"),
    ],
)
def test_every_status_has_one_error(
    status: str, message: str, expected: type[DualfaceError], words: str
) -> None:
    error = translate(raised(status, message), "host:8001", "face_reid")
    assert type(error) is expected
    assert words in str(error)
    assert "face_reid at host:8001" in str(error)


def test_nothing_foreign_escapes() -> None:
    foreign = [raised("INTERNAL", "x"), InferenceServerException("x"), grpc.RpcError("x")]
    foreign += [grpc.FutureCancelledError(), ValueError("Cannot invoke RPC on closed channel!")]
    for error in foreign:
        with pytest.raises(DualfaceError), translated("host:1", "call"):
            raise error
    with pytest.raises(ValueError, match="ours"), translated("host:1", "call"):
        raise ValueError("ours")


@pytest.fixture
def silent_address() -> Iterator[str]:
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_is_given_up(silent_address: str) -> None:
    connection = Connection(silent_address)
    with pytest.raises((InferenceTimeoutError, ServerUnreachableError)):
        connection.call("readiness", "is_server_ready", client_timeout=0.2)
    with pytest.raises(ServerUnreachableError, match=r"not ready after 0\.1 s"):
        connection.wait_ready(["face_reid"], 0.1)
    connection.close()
    connection.close()
    with pytest.raises(ServerUnreachableError, match="was closed"):
        connection.call("readiness", "is_server_ready")


def test_requests_to_a_silent_server_end_and_close_does_not_hang(silent_address: str) -> None:
    size = SlotLayout.of(FACE_REID, 1).byte_size
    with SystemRegion(8 * size) as region:
        pool = SlotPool(region, {"face_reid": SizeClass(size, 2)})
        client = InferenceClient(Connection(silent_address), request_timeout_s=30.0)
        timed = client.infer_async(FACE_REID, pool.lease("face_reid", 0.0), 1, timeout_s=0.2)
        waiting = client.infer_async(FACE_REID, pool.lease("face_reid", 0.0))
        with pytest.raises((InferenceTimeoutError, ServerUnreachableError)):
            timed.result()
        threading.Timer(0.1, client.close).start()
        with pytest.raises(InferenceFailedError, match="cancelled"):
            waiting.result(20.0)
        assert client.in_flight == 0
        # Nobody answered: both slots may still be in use over there.
        assert pool.counts()["face_reid"].quarantined == 2


def test_a_slot_that_was_sent_in_a_message_is_free_again_without_an_answer(
    silent_address: str,
) -> None:
    size = SlotLayout.of(FACE_REID, 1).byte_size
    with SystemRegion(4 * size) as region:
        pool = SlotPool(region, {"face_reid": SizeClass(size, 1)})
        client = InferenceClient(Connection(silent_address), transport=Bytes())
        with pool.lease("face_reid", 0.0) as lease:
            timed = client.infer_async(FACE_REID, lease, 1, timeout_s=0.2)
        with pytest.raises((InferenceTimeoutError, ServerUnreachableError)):
            timed.result()
        assert pool.counts()["face_reid"].leased == 0
        client.close()


class DeviceMemory(CudaRegion):
    """What is freed is written down; there is no GPU here."""

    def __init__(self) -> None:
        self._name, self.freed = "dualface-test-cuda", False

    def close(self) -> None:
        self.freed = True


def test_gpu_memory_that_a_hanging_server_maps_is_not_freed(silent_address: str) -> None:
    connection, memory = Connection(silent_address), DeviceMemory()
    connection.call_timeout_s = 0.2
    free(connection, memory)
    assert not memory.freed
    with SystemRegion(4096) as pages:
        free(connection, pages)  # the server has pages of its own
        assert not (SHM_DIR / pages.name).exists()
    connection.close()


def test_gpu_memory_is_freed_where_the_server_has_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connection, memory = Connection(f"127.0.0.1:{port}"), DeviceMemory()
    free(connection, memory)
    assert memory.freed
    connection.close()


def test_what_does_not_fit_is_refused_before_it_is_sent(silent_address: str) -> None:
    with SystemRegion(4096) as region:
        pool = SlotPool(region, {"small": SizeClass(4096, 1)})
        client = InferenceClient(Connection(silent_address))
        lease = pool.lease("small", 0.0)
        with pytest.raises(ValueError, match=r"needs a slot of 38144 bytes.*has 4096"):
            client.infer_async(FACE_REID, lease)
        with pytest.raises(ValueError, match=r"batch 33 for face_reid: expected 1\.\.32"):
            client.infer_async(FACE_REID, lease, 33)
        client.close()
        lease.release()
        assert pool.counts()["small"].leased == 0


def test_a_request_on_a_released_slot_leaves_nothing_to_be_waited_for(silent_address: str) -> None:
    size = SlotLayout.of(FACE_REID, 1).byte_size
    with SystemRegion(2 * size) as region:
        pool = SlotPool(region, {"face_reid": SizeClass(size, 1)})
        client = InferenceClient(Connection(silent_address))
        with pool.lease("face_reid", 0.0) as lease:
            pass
        with pytest.raises(MemoryRegionError, match="was released"):
            client.infer_async(FACE_REID, lease)
        assert client.in_flight == 0
        client.close()
