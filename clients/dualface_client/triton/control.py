"""Loads, unloads and swaps models of a running server (`--model-control-mode=explicit`).

A new version goes into service without a gap: Triton loads it beside the old one, then sends new
requests to it, and unloads the old one when its last request is answered. The models' version
policy keeps one version, so that Triton does not touch the serving one before that.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dualface_client.errors import InferenceTimeoutError, ServerError, UsageError
from dualface_client.triton.connection import Connection
from dualface_client.triton.contract import check_contract
from dualface_client.triton.description import MODELS
from dualface_client.triton.repository import add_python_version

#: Loading a TensorRT engine or searching for convolutions takes time.
LOAD_TIMEOUT_S = 300.0
UNLOAD_TIMEOUT_S = 60.0
_POLL_S = 0.1
_READY = "READY"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model as the server's index has it.

    Attributes:
        name: Of the model.
        version: Its number as text, empty for a model that was never loaded.
        state: `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`; empty as for the version.
        reason: Why it is not ready, first line.
    """

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Swap:
    """What a swap did.

    Attributes:
        before: Version that answered requests before, empty for none.
        now: Version that answers them now.
    """

    before: str
    now: str


def model_versions(connection: Connection) -> tuple[ModelVersion, ...]:
    """Every model in the server's repositories, by name and version.

    Raises:
        ServerError: The server does not answer, or wants a key.
    """
    found = connection.call("repository index", "get_model_repository_index").models
    rows = (
        ModelVersion(each.name, each.version, each.state, _first_line(each.reason))
        for each in found
    )
    return tuple(sorted(rows, key=lambda row: (row.name, int(row.version or 0))))


def serving_version(connection: Connection, model: str) -> str:
    """The version that answers a request for the model now, empty for none."""
    return _newest_ready(model_versions(connection), model)


def _newest_ready(rows: Iterable[ModelVersion], model: str) -> str:
    ready = [row.version for row in rows if row.name == model and row.state == _READY]
    return max(ready, key=int, default="")


def load(connection: Connection, model: str, timeout_s: float = LOAD_TIMEOUT_S) -> str:
    """Makes the server read the model's directory again and load its newest versions.

    Args:
        connection: To the server.
        model: Its name.
        timeout_s: Longest wait, seconds.

    Returns:
        The version that answers requests afterwards.

    Raises:
        UsageError: The server does not let clients control its models.
        ServerError: It cannot load the model, or not in time; the message says which version
            answers now.
    """
    try:
        _control(connection, "load", model, timeout_s)
    except ServerError as error:
        raise type(error)(f"{error}. {_state(connection, model)}") from error
    return serving_version(connection, model)


def unload(connection: Connection, model: str) -> None:
    """Unloads a model: from then on requests for it fail. Waits for those under way.

    Args:
        connection: To the server.
        model: Its name.

    Raises:
        UsageError: The server does not let clients control its models.
        ServerError: It does not know the model, or cannot unload it.
    """
    _control(connection, "unload", model, UNLOAD_TIMEOUT_S)
    end_s = time.monotonic() + UNLOAD_TIMEOUT_S
    while any(
        row.name == model and row.state in (_READY, "UNLOADING")
        for row in model_versions(connection)
    ):
        if time.monotonic() > end_s:
            raise InferenceTimeoutError(
                f"{model} at {connection.address} is still there after {UNLOAD_TIMEOUT_S:g} s: a "
                "request is using it"
            )
        time.sleep(_POLL_S)


def swap(
    connection: Connection,
    model: str,
    onnx_path: Path | None = None,
    repository: Path | None = None,
    timeout_s: float = LOAD_TIMEOUT_S,
) -> Swap:
    """Puts a new version into service, and makes sure that it is.

    Args:
        connection: To the server.
        model: Its name.
        onnx_path: Weights to add as a new version to an embedded server's repository; None if the
            new version's directory already exists.
        repository: That repository.
        timeout_s: How long the new version may take to load, seconds.

    Raises:
        UsageError: There is no such model in the repository, no newer version, or no control.
        ServerError: The new version does not load in time, or its tensors differ; the message says
            which version answers now.
    """
    before = serving_version(connection, model)
    added = _added(model, onnx_path, repository) if onnx_path and repository else None
    try:
        now = load(connection, model, timeout_s)
    except InferenceTimeoutError as error:
        raise InferenceTimeoutError(f"{error}{_left_behind(added)}") from error
    except ServerError:
        if added is not None:
            shutil.rmtree(added)  # the next load or start would fail on it again
        raise
    if now == before:
        raise UsageError(
            f"{model} at {connection.address}: there is no version above {before or 'none'} in "
            "its directory. Put the new one into a version directory of its own: weights that "
            "change under the same number cannot be told apart from the old ones"
        )
    check_contract(connection, [spec for spec in MODELS if spec.name == model])
    return Swap(before, now)


def _added(model: str, onnx_path: Path, repository: Path) -> Path:
    try:
        number = add_python_version(repository, model, onnx_path)
    except OSError as error:
        raise UsageError(
            f"{onnx_path} cannot be added to {repository / model}: {error.strerror}. The "
            "repository is printed by `dualface-client serve --model-control`"
        ) from error
    return repository / model / str(number)


def _left_behind(added: Path | None) -> str:
    """What to do about a version that may still be loading: its directory must not go now."""
    return "" if added is None else f". To stay with the old version, delete {added}"


def _state(connection: Connection, model: str) -> str:
    """Which version answers, for the message of a load that failed."""
    try:
        rows = model_versions(connection)
    except ServerError:  # the silence is the answer
        return "The server does not answer any more: restart it"
    now = _newest_ready(rows, model)
    if any(row.name == model and row.state == "LOADING" for row in rows):
        return f"It is still being loaded; version {now or 'none'} answers until then"
    return f"Version {now} still answers" if now else "No version answers"


def _control(connection: Connection, action: str, model: str, timeout_s: float) -> None:
    try:
        connection.call(f"{action}ing {model}", f"{action}_model", model, client_timeout=timeout_s)
    except InferenceTimeoutError as error:
        raise InferenceTimeoutError(
            f"{action}ing {model} at {connection.address}: not done in {timeout_s:g} s"
        ) from error
    except ServerError as error:
        if "not allowed" in str(error):
            raise UsageError(
                f"{connection.address} does not let clients {action} models: start it with "
                "--model-control-mode=explicit (`dualface-client serve --model-control`)"
            ) from error
        raise type(error)(_first_line(str(error))) from error


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
