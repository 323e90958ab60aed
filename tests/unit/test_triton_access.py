"""Keys and certificates reach the connection from files, never from a command line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from dualface_client.errors import UsageError
from dualface_client.machine.doctor.finding import FAIL, NOTE
from dualface_client.machine.doctor.server import secrets
from dualface_client.triton.access import KEY_HEADER, open_to, read_access


def test_nothing_named_is_plain_and_open() -> None:
    access = read_access({"DUALFACE_SERVER_KEY_FILE": "", "DUALFACE_SERVER_CA_FILE": ""})
    assert (access.key, dict(access.tls)) == ("", {})


def test_key_goes_out_with_every_call(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("open-sesame\n")
    client = InferenceServerClient("127.0.0.1:9")
    read_access({"DUALFACE_SERVER_KEY_FILE": str(tmp_path / "key")}).apply(client)
    assert dict(client._get_metadata(None)) == {KEY_HEADER: "open-sesame"}
    client.close()


def test_mutual_tls_takes_three_files(tmp_path: Path) -> None:
    names = ("DUALFACE_SERVER_CA_FILE", "DUALFACE_CLIENT_CERT_FILE")
    env = {name: str(tmp_path / name) for name in (*names, "DUALFACE_CLIENT_CERT_KEY_FILE")}
    for path in env.values():
        Path(path).write_text("pem")
    tls = read_access(env).tls
    assert tls["ssl"] is True
    assert tls["root_certificates"] == env[names[0]]
    assert tls["certificate_chain"] == env[names[1]]
    assert read_access({names[0]: env[names[0]]}).tls["certificate_chain"] is None
    with pytest.raises(UsageError, match="mutual TLS takes all"):
        read_access({names[1]: env[names[1]]})


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"DUALFACE_SERVER_KEY_FILE names .*none, which cannot"):
        read_access({"DUALFACE_SERVER_KEY_FILE": str(tmp_path / "none")})


def test_a_key_that_others_may_write_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("open-sesame")
    key.chmod(0o660)
    with pytest.raises(UsageError, match=r"which other users may write: chmod 600 .*/key"):
        read_access({"DUALFACE_SERVER_KEY_FILE": str(key)})


@pytest.mark.parametrize(
    ("mode", "directory_mode", "found"),
    [(0o600, 0o755, ""), (0o640, 0o755, "read"), (0o644, 0o700, ""), (0o602, 0o700, "write")],
)
def test_who_else_gets_at_a_key(mode: int, directory_mode: int, found: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is closed to others
        key = Path(directory) / "key"
        key.touch()
        key.chmod(mode)
        Path(directory).chmod(directory_mode)
        assert open_to(key) == found
        findings = secrets({"DUALFACE_SERVER_KEY_FILE": str(key)})
        told = [(each.state, each.remedy) for each in findings]
    state = {"read": NOTE, "write": FAIL}.get(found)
    assert told == ([(state, f"chmod 600 {key}")] if state else [])
