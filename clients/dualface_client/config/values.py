"""Values of settings and where each of them comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Characters of a value that a message repeats.
_LONGEST = 100
#: Layers from the lowest to the highest; a higher one wins.
LAYERS = (
    *("default", "fallback", "auto_detected", "manual", "environment"),
    *("command line", "program"),
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was given.

    Attributes:
        layer: One of `LAYERS`, or `stream` for an entry of a streams file.
        place: What a user looks for: a file, a variable, an option; empty for a default.
        line: Line in the file, from 1; 0 for none.
    """

    layer: str
    place: str = ""
    line: int = 0

    def __str__(self) -> str:
        if not self.place:
            return self.layer
        return f"{self.place}:{self.line}" if self.line else self.place


@dataclass(frozen=True, slots=True)
class Given:
    """A value that some layer gives.

    Attributes:
        value: As `Setting.kind` reads it.
        origin: Where.
    """

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Attributes:
        origin: Where it is.
        text: The value, what was expected and what to do.
    """

    origin: Origin
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gives.

    Attributes:
        name: One of `LAYERS`.
        values: By key.
        problems: What is wrong with it; a layer with problems is not used.
    """

    name: str
    values: dict[str, Given]
    problems: tuple[Problem, ...] = ()


def quoted(text: str) -> str:
    """A text for a message: quoted only if the reader could not see where it ends."""
    if len(text) > _LONGEST:
        return f"{text[:_LONGEST]!r}... ({len(text)} characters)"
    return text if text and text == text.strip() and text.isprintable() else repr(text)
