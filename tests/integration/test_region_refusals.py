"""Shared memory that is missing, full, hidden, taken or forbidden: one clear error each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from dualface_client.errors import RegionRefusedError
from dualface_client.memory.region import SystemRegion
from dualface_client.triton.connection import Connection
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.registration import register, registered_regions, unregister
from dualface_client.triton.session import Session, SlotGroup

PLANS = {"face_detect": SlotGroup(1, 3)}

IN_A_SHM_OF_ITS_OWN = """
import sys
from dualface_client.errors import DualfaceError
from dualface_client.triton.session import Session, SlotGroup
try:
    Session(sys.argv[1], {"face_detect": SlotGroup(1, 3)})
except DualfaceError as error:
    print(type(error).__name__, error.exit_code, error)
"""
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs /dev/shm && shift && exec "$@"'
UNSHARED = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, "sh"]


def session_with_own_shm(address: str, size: str) -> str:
    """What opening a session says in a mount namespace with a /dev/shm of its own."""
    if subprocess.run([*UNSHARED, size, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow unprivileged mounts")
    done = subprocess.run(
        [*UNSHARED, size, sys.executable, "-c", IN_A_SHM_OF_ITS_OWN, address],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_full_shm_says_how_full_and_what_to_do(triton_server: EmbeddedServer) -> None:
    said = session_with_own_shm(triton_server.grpc_address, "2m")
    assert said.startswith("MemoryRegionError 1 shared memory of 3698688 bytes: No space left")
    assert " has 2097152 of 2097152 bytes free" in said
    assert "--shm-size" in said


def test_a_server_that_sees_another_shm_refuses_and_the_remedy_is_said(
    triton_server: EmbeddedServer,
) -> None:
    said = session_with_own_shm(triton_server.grpc_address, "64m")
    assert said.startswith("RegionRefusedError 3 registering region dualface-")
    assert "Client and server must share /dev/shm" in said


def test_a_name_that_somebody_else_registered_is_refused(triton_server: EmbeddedServer) -> None:
    connection = Connection(triton_server.grpc_address)
    with SystemRegion(4096) as ours, SystemRegion(8192) as theirs:
        connection.call(
            "taking a name",
            "register_system_shared_memory",
            ours.name,
            theirs.shm_key,
            theirs.byte_size,
        )
        with pytest.raises(RegionRefusedError, match=f"{theirs.shm_key}' of 8192 bytes"):
            register(connection, ours)
        assert registered_regions(connection)[ours.name] == 8192, "it is not ours to unregister"
        unregister(connection, ours.name)
    connection.close()


class _Forwarder(grpc.GenericRpcHandler):  # type: ignore[type-arg] # not subscriptable at run time
    """Passes every call on to the real server but those that it refuses, as Triton 26.04 does."""

    def __init__(self, channel: grpc.Channel, refused: str, code: grpc.StatusCode, text: str):
        self._channel, self._refused, self._code, self._text = channel, refused, code, text

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self._refused in details.method:
                context.abort(self._code, self._text)
            answer: bytes = self._channel.unary_unary(details.method, None, None)(request)
            return answer

        return grpc.unary_unary_rpc_method_handler(forward)


@contextmanager
def forwarding(
    server: EmbeddedServer, refused: str, code: grpc.StatusCode, text: str
) -> Iterator[str]:
    """Address of a server that answers like the real one, with one refusal."""
    with (
        ThreadPoolExecutor(4) as threads,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        front = grpc.server(threads, handlers=[_Forwarder(channel, refused, code, text)])
        port = front.add_insecure_port("127.0.0.1:0")
        front.start()
        yield f"127.0.0.1:{port}"
        front.stop(None).wait()


@pytest.mark.parametrize(
    ("code", "text", "says"),
    [
        (
            grpc.StatusCode.UNIMPLEMENTED,
            "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to "
            "enable.",
            r"registering region dualface-.*Start the server with --allow-client-shm=true",
        ),
        (
            grpc.StatusCode.INVALID_ARGUMENT,
            "failed to register shared memory region: invalid args",
            r"invalid args\. Client and server must share /dev/shm",
        ),
    ],
)
def test_a_server_that_forbids_client_memory_is_told_from_one_that_cannot(
    triton_server: EmbeddedServer, code: grpc.StatusCode, text: str, says: str
) -> None:
    with (
        forwarding(triton_server, "SystemSharedMemoryRegister", code, text) as address,
        pytest.raises(RegionRefusedError, match=says) as refused,
    ):
        Session(address, PLANS)
    assert refused.value.exit_code == 3
