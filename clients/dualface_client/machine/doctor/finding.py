"""What a check found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dualface_client.errors import DualfaceError

OK, NOTE, FAIL = "ok", "note", "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        state: `ok`, `note` (works, but worth knowing) or `FAIL`.
        name: What was checked.
        detail: What was found.
        remedy: What to do, empty for nothing.
    """

    state: str
    name: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<5} {self.name}: {self.detail}"


def attempt(name: str, look: Callable[[], str]) -> Finding:
    """Runs a check that returns what it found, or raises an error that contains the remedy."""
    try:
        return Finding(OK, name, look())
    except DualfaceError as error:
        return Finding(FAIL, name, str(error))
