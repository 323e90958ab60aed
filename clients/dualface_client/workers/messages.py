"""The messages of supervisor and worker: one JSON object per line, bounded and versioned.

    to the worker      setup, job, stop, end
    to the supervisor  ready, refused, server_awaited, report, ended, beat, log, closed

Both ends have the same version, because the supervisor starts the worker; with the version in every
message, a mixed installation is reported instead of misread.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from dualface_client.errors import DualfaceError

PROTOCOL = 1
#: A stream's last report, with its history, is the longest message, and far shorter.
LINE_LIMIT_BYTES = 4 << 20

T = TypeVar("T")


class ProtocolError(DualfaceError):
    """The other end said something that this version does not understand."""


def encode(kind: str, **fields: Any) -> bytes:
    """One message as a line.

    Args:
        kind: What it is.
        fields: Values of dataclasses, numbers, texts, paths, and containers of them.

    Raises:
        ProtocolError: It is too long.
    """
    data = {"v": PROTOCOL, "kind": kind, **{key: plain(value) for key, value in fields.items()}}
    line = json.dumps(data).encode() + b"\n"
    if len(line) > LINE_LIMIT_BYTES:
        raise ProtocolError(f"message {kind!r} has {len(line)} bytes; limit {LINE_LIMIT_BYTES}")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """A line as its fields, `kind` among them.

    Raises:
        ProtocolError: It is not a message of this version, or is cut short.
    """
    try:
        data = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"not a message: {line[:80]!r}") from error
    if not isinstance(data, dict) or data.get("v") != PROTOCOL or "kind" not in data:
        raise ProtocolError(f"not a message of version {PROTOCOL}: {line[:80]!r}")
    return data


def plain(value: Any) -> Any:
    """A value in terms of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def build(kind: type[T], data: Any) -> T:
    """The value that `plain` took apart.

    Args:
        kind: A dataclass whose fields are annotated with what `plain` can take.
        data: From JSON.

    Raises:
        ProtocolError: The data do not describe this class.
    """
    try:
        built: T = _build(kind, data)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ProtocolError(f"not a {kind.__name__}: {error}") from error
    return built


def _build(kind: Any, data: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = next(one for one in arguments if one is not type(None))
        return None if data is None else _build(inner, data)
    if origin is not None:
        return _build_container(origin, arguments, data)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{key: _build(hints[key], item) for key, item in data.items()})
    if isinstance(kind, type) and issubclass(kind, Enum | Path | int | float | str):
        return data if isinstance(data, kind) else kind(data)
    return data


def _build_container(origin: Any, arguments: tuple[Any, ...], data: Any) -> Any:
    if issubclass(origin, Mapping):
        key_kind, item_kind = arguments
        return {_build(key_kind, key): _build(item_kind, item) for key, item in data.items()}
    if issubclass(origin, tuple):
        kinds = arguments[:1] * len(data) if arguments[-1] is ... else arguments
        return tuple(_build(one, item) for one, item in zip(kinds, data, strict=True))
    return [_build(arguments[0], item) for item in data]
