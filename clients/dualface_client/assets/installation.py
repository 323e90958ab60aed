"""What one set-up of the cache directory works with: the place, who hears, and how it may end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dualface_client.errors import StoppedError


def _tell_nobody(line: str) -> None:
    """Nobody wants to hear it."""


class ShowDownload(Protocol):
    """Shows one download while the body of the context runs."""

    def __call__(
        self, what: str, size_bytes: int, so_far_bytes: Callable[[], int]
    ) -> AbstractContextManager[object]:
        """Begins.

        Args:
            what: Name and version of the package.
            size_bytes: Of the whole download; 0 if what has come cannot be seen.
            so_far_bytes: Says how much has come; may be called on any thread.
        """


def show_nobody(
    what: str, size_bytes: int, so_far_bytes: Callable[[], int]
) -> AbstractContextManager[object]:
    """Nobody wants to see it."""
    del what, size_bytes, so_far_bytes
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Installation:
    """One set-up.

    Attributes:
        home: Cache directory.
        tell: Gets progress lines.
        stop: Set it from elsewhere to end early.
        show: Shows a download while it runs, for people who wait.
        offline: Whether nothing may be downloaded.
    """

    home: Path
    tell: Callable[[str], None] = _tell_nobody
    stop: threading.Event = field(default_factory=threading.Event)
    show: ShowDownload = show_nobody
    offline: bool = False

    @property
    def models(self) -> Path:
        """Directory of the exported models."""
        return self.home / "models"

    @property
    def sources(self) -> Path:
        """Directory of the fetched weights."""
        return self.home / "sources"

    def check_stop(self) -> None:
        """Ends the set-up here if that was asked for.

        Raises:
            StoppedError: It was.
        """
        if self.stop.is_set():
            raise StoppedError(
                f"the set-up was stopped; what is complete stays in {self.home}, and the next "
                "set-up fetches the rest"
            )
