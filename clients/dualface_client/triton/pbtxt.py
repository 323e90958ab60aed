"""Writes protobuf text format, as much of it as a `config.pbtxt` needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Token:
    """A word that stands without quotes: the name of an enum value."""

    text: str


Value: TypeAlias = "str | int | float | bool | Token | Message | Sequence[Value]"
#: Fields in the order they are written. A sequence is a repeated field.
Message: TypeAlias = Mapping[str, "Value"]


def render(message: Message) -> str:
    """The text of a message.

    Args:
        message: Field names and values.

    Returns:
        Lines, the last one ended.
    """
    return "".join(f"{line}\n" for line in _fields(message, ""))


def string_map(entries: Mapping[str, str]) -> list[Message]:
    """Model parameters: a map from string to `ModelParameter`.

    Args:
        entries: Parameter names and values.
    """
    return [{"key": key, "value": {"string_value": value}} for key, value in entries.items()]


def _fields(message: Message, indent: str) -> Iterable[str]:
    for name, value in message.items():
        if isinstance(value, Mapping):
            yield from _block(name, value, indent)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _repeated(name, value, indent)
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _repeated(name: str, values: Sequence[Value], indent: str) -> Iterable[str]:
    scalars = [value for value in values if not isinstance(value, Mapping)]
    if scalars:
        yield f"{indent}{name}: [ {', '.join(_scalar(value) for value in scalars)} ]"
        return
    for value in values:
        if isinstance(value, Mapping):
            yield from _block(name, value, indent)


def _block(name: str, message: Message, indent: str) -> Iterable[str]:
    yield f"{indent}{name} {{"
    yield from _fields(message, indent + "  ")
    yield f"{indent}}}"


def _scalar(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Token(text):
            return text
        case str():
            return _quoted(value)
        case int() | float():
            return repr(value)
        case _:
            raise TypeError(f"{value!r} is no scalar of a config.pbtxt")


def _quoted(text: str) -> str:
    # Octal escapes of the UTF-8 bytes: what every protobuf parser reads the same way.
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
