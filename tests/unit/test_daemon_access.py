"""The token, what requests may open, and what a service manager is told."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from dualface_client.daemon.desired import DesiredStream
from dualface_client.daemon.policy import Policy
from dualface_client.daemon.service import ServiceNotifier
from dualface_client.daemon.token import Token, token_at
from dualface_client.errors import UsageError


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0)
    try:
        token = token_at(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text().strip()
    assert len(text) >= 43
    assert token.is_right(text)
    assert token_at(path).is_right(text)
    assert not token.is_right(text[:-1])
    assert not token.is_right("")
    assert not token.is_right("\udcff")
    assert token.is_cookie(token.cookie)
    assert not token.is_cookie(text)
    assert text not in token.cookie


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a" * 43)
    path.chmod(0o640)
    with pytest.raises(UsageError, match=r"has mode 640.*chmod 600"):
        token_at(path)


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="a token of 6 characters; expected 16 or more"):
        token_at(path)
    assert Token("x").cookie != Token("y").cookie


POLICY = Policy(("rtsp", "https"), ("rtmp",))


def refused(policy: Policy, **fields: object) -> dict[str, str]:
    given = {"name": "a", "input": "rtsp://camera/door", **fields}
    if "output" in given:
        given["outputs"] = (given.pop("output"),)
    found = policy.refusals(DesiredStream(**given))  # type: ignore[arg-type] # what a test gives
    return {each.field: each.text for each in found}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file:///etc/passwd", "files are not opened for requests"),
        ("/etc/passwd", "files are not opened for requests"),
        ("FILE:/etc/passwd", "files are not opened for requests"),
        ("concat:a.mp4|/etc/passwd", "files are not opened for requests"),
        ("ftp://host/a.mp4", "ftp: is not allowed; expected one of rtsp, https"),
        ("rtmp://host/live", "rtmp: is not allowed"),
        ("rtsp://ann:s3cret@camera/door", "holds a user or password"),
    ],
)
def test_what_may_not_be_read_is_refused_without_its_secret(text: str, why: str) -> None:
    found = refused(POLICY, input=text)
    assert why in found["input"]
    assert "s3cret" not in str(found)
    assert "ann" not in str(found)


def test_allowed_addresses_pass() -> None:
    assert refused(POLICY, output="rtmp://host/live/{key}") == {}
    assert refused(POLICY, outputs=()) == {}


def test_outputs_are_asked_for_their_own_schemes_and_directory(tmp_path: Path) -> None:
    assert "rtsp: is not allowed" in refused(POLICY, output="rtsp://host/a")["output"]
    assert "daemon.output_directory" in refused(POLICY, output="a.mp4")["output"]


def test_files_of_the_directory_may_be_used_and_no_others(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.mp4").touch()
    (inside / "link.mp4").symlink_to(outside / "secret.mp4")
    policy = Policy(("rtsp",), ("rtmp",), inside, outside)
    assert refused(policy, input=f"{inside}/a.mp4", output=f"{outside}/a.mp4") == {}
    assert refused(policy, input=f"file://{inside}/a.mp4") == {}
    for text in (
        f"{inside}/../out/secret.mp4",
        f"{inside}/link.mp4",
        f"file://{inside}/%2e%2e/out/secret.mp4",
        f"{inside}x/a.mp4",
    ):
        assert "is not below daemon.input_directory" in refused(policy, input=text)["input"]


def test_settings_name_no_files_or_variables_for_requests(tmp_path: Path) -> None:
    photo = {"tracking.sides.pin_left": "/root/ann.jpg"}
    found = refused(POLICY, settings=photo)
    assert "files are not opened for requests" in found["settings.tracking.sides.pin_left"]
    policy = Policy(("rtsp",), (), tmp_path)
    found = refused(policy, settings=photo)
    assert "is not below" in found["settings.tracking.sides.pin_left"]
    own = {"tracking.sides.pin_left": f"{tmp_path}/ann.jpg", "output.crf": "20"}
    assert refused(policy, settings=own) == {}
    number = {"tracking.sides.pin_left": "cast:2", "tracking.sides.pin_right": "nobody"}
    assert refused(POLICY, settings=number) == {}
    variable = {"input.credentials_variable": "AWS_SECRET_ACCESS_KEY"}
    assert refused(policy, settings=variable) == {
        "settings.input.credentials_variable": "may be set in the file of streams only; remove it"
    }


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_hears_that_the_daemon_is_ready_and_lives(
    tmp_path: Path, *, abstract: bool
) -> None:
    name = f"@dualface-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(5)
        service = ServiceNotifier(
            {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3600000000", "WATCHDOG_PID": str(os.getpid())}
        )
        service.tell("READY=1", "STATUS=2 streams")
        assert manager.recv(200) == b"READY=1\nSTATUS=2 streams"
        service.alive()
        service.alive()  # not yet again
        service.reloading()
        assert manager.recv(200) == b"WATCHDOG=1"
        assert manager.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        other = ServiceNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
        other.alive()  # the watchdog is another process's
        other.tell("STOPPING=1")
        assert manager.recv(200) == b"STOPPING=1"
    service.tell("READY=1")  # nobody listens any more


def test_without_a_service_manager_nothing_is_told() -> None:
    service = ServiceNotifier({})
    service.tell("READY=1")
    service.alive()
