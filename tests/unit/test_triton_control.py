"""A load that fails or hangs says what the server serves; the real one: test_model_control."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dualface_client.errors import (
    InferenceFailedError,
    InferenceTimeoutError,
    ServerError,
    ServerUnreachableError,
)
from dualface_client.triton.connection import Connection
from dualface_client.triton.control import load, model_versions, swap


class Server:
    """A connection to a server that fails to load, and knows the given versions and states."""

    address = "here:8001"

    def __init__(self, failure: ServerError, *after: tuple[str, str], hangs: bool = False) -> None:
        self.failure, self.after, self.hangs = failure, after, hangs
        self.loaded = False
        self.limits_s: list[float] = []

    def call(self, what: str, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "load_model":
            self.loaded = True
            self.limits_s.append(options["client_timeout"])
            raise self.failure
        if self.loaded and self.hangs:
            raise InferenceTimeoutError(f"{what}: no answer in time")
        rows = self.after if self.loaded else (("1", "READY"),)
        models = [
            SimpleNamespace(name="face_reid", version=version, state=state, reason="")
            for version, state in rows
        ]
        return SimpleNamespace(models=models)


BROKEN = InferenceFailedError("loading face_reid at here:8001: no such file\nmore")
HANGING = InferenceTimeoutError("loading face_reid at here:8001: no answer in time")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Server(BROKEN, ("1", "READY")), "no such file. Version 1 still answers"),
        (Server(BROKEN, ("1", "UNAVAILABLE")), "no such file. No version answers"),
        (
            Server(HANGING, ("1", "READY"), ("2", "LOADING")),
            "not done in 7 s. It is still being loaded; version 1 answers until then",
        ),
        (
            Server(HANGING, hangs=True),
            "not done in 7 s. The server does not answer any more: restart it",
        ),
    ],
    ids=["fails", "fails and leaves none", "is still loading", "hangs"],
)
def test_a_load_that_is_not_done_says_which_version_answers(server: Server, words: str) -> None:
    connection: Any = server
    with pytest.raises(ServerError) as caught:
        load(connection, "face_reid", 7.0)
    assert str(caught.value) == f"loading face_reid at here:8001: {words}"
    assert server.limits_s == [7.0]
    assert caught.value.exit_code == 3


def test_weights_stay_while_they_may_still_be_loading(tmp_path: Path) -> None:
    (tmp_path / "face_reid" / "1").mkdir(parents=True)
    (tmp_path / "face_reid" / "1" / "model.py").write_text("")
    onnx = tmp_path / "new.onnx"
    onnx.write_bytes(b"weights")
    connection: Any = Server(HANGING, ("1", "READY"), ("2", "LOADING"))
    added = tmp_path / "face_reid" / "2"
    with pytest.raises(
        InferenceTimeoutError, match=f"To stay with the old version, delete {added}"
    ):
        swap(connection, "face_reid", onnx, tmp_path, 7.0)
    assert (added / "model.onnx").is_file()
    connection = Server(BROKEN, ("1", "READY"))
    with pytest.raises(InferenceFailedError):
        swap(connection, "face_reid", onnx, tmp_path, 7.0)
    assert not (tmp_path / "face_reid" / "3").exists()  # what cannot be loaded does not stay


def test_a_server_that_takes_connections_and_says_nothing_is_given_up() -> None:
    """What is left of one that hangs: the kernel still accepts for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Connection(address) as connection:
            connection.call_timeout_s = 0.5
            with pytest.raises(ServerError, match="no answer in time"):
                model_versions(connection)
            with pytest.raises(ServerUnreachableError, match=r"not ready after 0\.1 s"):
                connection.wait_ready(["face_reid"], 0.1)
