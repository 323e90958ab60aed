"""What a look at one thing found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dualface_client.errors import DualfaceError

OK, NOTE, FAIL = "ok", "note", "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        state: `ok`, `note` (works, but know this) or `FAIL`.
        name: What was looked at.
        detail: What was found.
        remedy: What to do, empty where there is nothing to do.
    """

    state: str
    name: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<5} {self.name}: {self.detail}"


def attempt(name: str, look: Callable[[], str]) -> Finding:
    """A look that says what it found, or raises an error with the remedy in it."""
    try:
        return Finding(OK, name, look())
    except DualfaceError as error:
        return Finding(FAIL, name, str(error))
