"""Kinds of setting values: how each is read from text, checked and shown.

YAML files, environment variables and command lines all carry text, and all go through `read`: what
is accepted, and what is said about the rest, is the same everywhere.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_COLORS = {"black": "000000", "white": "FFFFFF", "gray": "808080"}
_CAST = "cast:"
# Python's own; it refuses thousands of digits with a message of another kind.
_WHOLE = re.compile(r"[-+]?(0|[1-9](_?[0-9]){0,99})")
_WITH_UNIT = re.compile(r"[-+]?[\d.,]+\s*(%|[A-Za-z]+)")


class Kind(Protocol):
    """What one setting may hold."""

    @property
    def expected(self) -> str:
        """What is accepted, to follow the word "expected"."""

    def read(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            ValueError: It stands for no value; the message says what was expected and what to do.
        """

    def show(self, value: Any) -> str:
        """The text that `read` turns into this value."""


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number.

    Attributes:
        low: Smallest.
        high: Largest, None for any.
    """

    low: int
    high: int | None = None

    @property
    def expected(self) -> str:
        """What is accepted."""
        upper = "or more" if self.high is None else f"to {self.high}"
        return f"a whole number, {self.low} {upper}"

    def read(self, text: str) -> int:
        """The number; see `Kind.read`."""
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"expected {self.expected}{_hint(text, whole=True)}")
        value = int(text)
        if value < self.low or (self.high is not None and value > self.high):
            raise ValueError(f"expected {self.expected}")
        return value

    def show(self, value: int) -> str:
        """As digits."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Real:
    """A number, finite.

    Attributes:
        low: Smallest.
        high: Largest, None for any.
    """

    low: float
    high: float | None = None

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"a number, {self.low:g} {'or more' if self.high is None else f'to {self.high:g}'}"

    def read(self, text: str) -> float:
        """The number; see `Kind.read`."""
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"expected {self.expected}{_hint(text, whole=False)}") from None
        high = math.inf if self.high is None else self.high
        if not (math.isfinite(value) and self.low <= value <= high):
            raise ValueError(f"expected {self.expected}")
        return value

    def show(self, value: float) -> str:
        """In the fewest digits that read back as the same number."""
        short = f"{value:g}"
        return short if float(short) == value else repr(value)


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "true or false"

    def read(self, text: str) -> bool:
        """True or false; see `Kind.read`."""
        word = text.lower()
        if word not in _TRUE + _FALSE:
            raise ValueError(f"expected {self.expected}")
        return word in _TRUE

    def show(self, value: bool) -> str:
        """As YAML 1.2 writes it."""
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words.

    Attributes:
        options: The words.
        other_words: What people say for one of them, each with the one; refused with a hint.
    """

    options: tuple[str, ...]
    other_words: tuple[tuple[str, str], ...] = ()

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"one of {', '.join(self.options)}"

    def read(self, text: str) -> str:
        """The word; see `Kind.read`."""
        if text not in self.options:
            meant = dict(self.other_words).get(text.lower())
            hint = f"; did you mean {meant}?" if meant else did_you_mean(text, self.options)
            raise ValueError(f"expected {self.expected}{hint}")
        return text

    def show(self, value: str) -> str:
        """The word itself."""
        return value


@dataclass(frozen=True, slots=True)
class Words:
    """Words with commas between them.

    Attributes:
        example: For messages.
    """

    example: str

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"words with commas between them, such as {self.example}"

    def read(self, text: str) -> tuple[str, ...]:
        """The words in lower case; see `Kind.read`."""
        words = tuple(word.strip().lower() for word in text.split(","))
        if not all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", word) for word in words):
            raise ValueError(f"expected {self.expected}")
        return words

    def show(self, value: tuple[str, ...]) -> str:
        """With commas between them."""
        return ",".join(value)


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs, or instances of split ones (MIG), as NVML counts them."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return (
            "all, or GPUs with commas between them, such as 0,2; each as nvidia-smi counts it, "
            "0:1 for an instance of a split one, or a UUID"
        )

    def read(self, text: str) -> tuple[str, ...]:
        """The GPUs as they were named; see `Kind.read`."""
        if text == "all":
            return (text,)
        named = tuple(part.strip() for part in text.split(","))
        if not all(re.fullmatch(r"\d{1,3}(:\d{1,2})?|(GPU|MIG)-[0-9A-Za-z/-]+", n) for n in named):
            raise ValueError(f"expected {self.expected}")
        if len(set(named)) < len(named):
            raise ValueError(f"expected {self.expected}; one is named twice")
        return named

    def show(self, value: tuple[str, ...]) -> str:
        """With commas between them."""
        return ",".join(value)


@dataclass(frozen=True, slots=True)
class VariableName:
    """The name of an environment variable."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "the name of an environment variable such as CAMERA_LOGIN"

    def read(self, text: str) -> str:
        """The name; see `Kind.read`."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
            raise ValueError(f"expected {self.expected}")
        return text

    def show(self, value: str) -> str:
        """The name itself."""
        return value


@dataclass(frozen=True, slots=True)
class Size:
    """`WIDTHxHEIGHT` in pixels, as 4:2:0 needs it."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "WIDTHxHEIGHT such as 1920x1080, two even numbers from 16 to 16384"

    def read(self, text: str) -> tuple[int, int]:
        """Width and height; see `Kind.read`."""
        match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if size[0] % 2 or size[1] % 2 or not all(16 <= side <= 16384 for side in size):
            nearest = f"; nearest: {_nearest_size(size)}" if match else ""
            raise ValueError(f"expected {self.expected}{nearest}")
        return size

    def show(self, value: tuple[int, int]) -> str:
        """As `WIDTHxHEIGHT`."""
        return f"{value[0]}x{value[1]}"


@dataclass(frozen=True, slots=True)
class Color:
    """A colour as hexadecimal R, G, B, or by name."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"six hexadecimal digits such as 1A2B3C, or one of {', '.join(_COLORS)}"

    def read(self, text: str) -> tuple[int, int, int]:
        """R, G, B, each 0 to 255; see `Kind.read`."""
        digits = _COLORS.get(text.lower(), text.removeprefix("#"))
        if not re.fullmatch(r"[0-9A-Fa-f]{6}", digits):
            raise ValueError(f"expected {self.expected}{did_you_mean(text, _COLORS)}")
        red, green, blue = bytes.fromhex(digits)
        return red, green, blue

    def show(self, value: tuple[int, int, int]) -> str:
        """The name if there is one, else the digits."""
        digits = bytes(value).hex().upper()
        return next((name for name, known in _COLORS.items() if known == digits), digits)


@dataclass(frozen=True, slots=True)
class Address:
    """`HOST:PORT`, or `unix:PATH`."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "HOST:PORT such as 127.0.0.1:8001, or unix:PATH as `serve` prints it"

    def read(self, text: str) -> str:
        """The address; see `Kind.read`."""
        if text.startswith("unix:/") and len(text) > len("unix:/") and text[6] != "/":
            return text
        if "://" in text:
            scheme = text.partition("://")[0]
            raise ValueError(f"expected {self.expected}; leave out {scheme}://")
        host, colon, port = text.rpartition(":")
        if not (host and colon and re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
            raise ValueError(f"expected {self.expected}; Triton's gRPC port is usually 8001")
        return text

    def show(self, value: str) -> str:
        """The address itself."""
        return value


@dataclass(frozen=True, slots=True)
class WebAddress:
    """`http://` or `https://` with a host."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "an address such as http://127.0.0.1:4318, without user and password"

    def read(self, text: str) -> str:
        """The address; see `Kind.read`."""
        if not re.fullmatch(r"https?://[A-Za-z0-9._\[\]:-]+(/[^\s?#@]*)?", text):
            raise ValueError(f"expected {self.expected}")
        return text

    def show(self, value: str) -> str:
        """The address itself."""
        return value


@dataclass(frozen=True, slots=True)
class Host:
    """A host's name or address, to listen on."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "a host such as 127.0.0.1 or 0.0.0.0, without a port"

    def read(self, text: str) -> str:
        """The host; see `Kind.read`."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:]+\]?", text):
            raise ValueError(f"expected {self.expected}")
        return text

    def show(self, value: str) -> str:
        """The host itself."""
        return value


@dataclass(frozen=True, slots=True)
class ExistingFile:
    """A file that exists."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "an existing file"

    def read(self, text: str) -> Path:
        """The path, `~` expanded; see `Kind.read`."""
        path = Path(text).expanduser()
        if not path.is_file():
            near = difflib.get_close_matches(path.name, _names_in(path.parent), 1)
            hint = f"; did you mean {path.parent / near[0]}?" if near else "; check the path"
            raise ValueError(f"expected {self.expected}{hint}")
        return path

    def show(self, value: Path) -> str:
        """The path itself."""
        return str(value)


@dataclass(frozen=True, slots=True)
class ExistingDirectory:
    """A directory that is there."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return "an existing directory"

    def read(self, text: str) -> Path:
        """Its path; see `Kind.read`."""
        path = Path(text).expanduser()
        if not text or not path.is_dir():
            raise ValueError(f"expected {self.expected}; create it, or check the path")
        return path

    def show(self, value: Path) -> str:
        """Its path."""
        return str(value)


@dataclass(frozen=True, slots=True)
class PhotoOrNumber:
    """A photo of a person, or `cast:N`, the number that `dualface-client cast` shows."""

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"{ExistingFile().expected}, or cast:NUMBER such as cast:2"

    def read(self, text: str) -> str:
        """The path, `~` expanded, or the number's text; see `Kind.read`."""
        if not text.startswith(_CAST):
            return str(ExistingFile().read(text))
        if cast_number(text) is None:
            raise ValueError(f"expected {self.expected}")
        return text

    def show(self, value: str) -> str:
        """The text itself."""
        return value


def cast_number(pin: str) -> int | None:
    """The number of a person in a value of `PhotoOrNumber`, None if it is a photo."""
    match = re.fullmatch(rf"{_CAST}([1-9]\d{{0,3}})", pin)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Or:
    """Another kind's values, or a word that leaves the choice to the program.

    Attributes:
        word: Read as None.
        kind: The others.
    """

    word: str
    kind: Kind

    @property
    def expected(self) -> str:
        """What is accepted."""
        return f"{self.word}, or {self.kind.expected}"

    def read(self, text: str) -> Any:
        """None for the word; see `Kind.read`."""
        if text == self.word:
            return None
        try:
            return self.kind.read(text)
        except ValueError as error:
            text = str(error).replace("expected ", f"expected {self.word}, or ", 1)
            raise ValueError(text) from None

    def show(self, value: Any) -> str:
        """The word for None."""
        return self.word if value is None else self.kind.show(value)


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """`; did you mean X?` with the nearest known word, whatever its case, or nothing.

    Args:
        word: What was written.
        known: The known words.
        cutoff: Likeness that counts as near, 0 to 1 (see `difflib.get_close_matches`).
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, 1, cutoff)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def _hint(text: str, *, whole: bool) -> str:
    """What is probably wrong with something that should have been a number."""
    if _WITH_UNIT.fullmatch(text):
        return "; write a bare number, without a unit"
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"; write {text.replace(',', '.')}, with a point"
    if whole and re.fullmatch(r"[-+]?0\d+", text):
        return "; write it without leading zeros"
    if whole and re.fullmatch(r"[-+]?\d*\.\d*", text):
        return "; write it without a fraction"
    return ""


def _nearest_size(size: tuple[int, int]) -> str:
    width, height = (min(16384, max(16, side)) for side in size)
    return f"{width - width % 2}x{height - height % 2}"


def _names_in(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except OSError:  # only for the hint "did you mean"
        return []


#: A share of something.
SHARE = Real(0, 1)
#: A time in seconds, up to an hour.
SECONDS = Real(0, 3600)
#: A rate per second.
RATE = Real(0.01, 1000)
