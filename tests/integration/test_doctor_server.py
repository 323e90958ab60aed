"""Doctor on servers that run."""

from __future__ import annotations

from dualface_client.machine.doctor import OK, examine
from dualface_client.triton.embedded import EmbeddedServer


def test_a_server_that_serves_us(triton_server: EmbeddedServer) -> None:
    told = {finding.name: finding for finding in examine(triton_server.grpc_address)}
    names = ("server", "server version", "models", "contract", "client shared memory")
    assert {name: told[name].state for name in names} == dict.fromkeys(names, OK)
    assert "Triton 2.51.0" in told["server version"].detail
    assert "face_detect 1 on python" in told["contract"].detail
