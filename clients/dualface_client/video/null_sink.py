"""The output of a run that writes no video, and what outputs on the host have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dualface_client.types import Frame


def never() -> bool:
    """Nobody asks to stop."""
    return False


class HostSink(Protocol):
    """Takes canvases on the host: `PyavSink`, `LiveSink`."""

    @property
    def frame_count(self) -> int:
        """Frames taken so far."""

    @property
    def is_short_to_write(self) -> bool:
        """False: the canvas is encoded."""

    @property
    def partial_path(self) -> Path | None:
        """Path of the unfinished file."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was changed, for the user."""

    def write(self, frame: Frame) -> None:
        """Takes one canvas on the host and keeps nothing of it."""

    def close(self, stopped: Callable[[], bool] = ...) -> bool:
        """Finishes the file, or ends it early if `stopped`; returns whether it is complete."""

    def abort(self) -> None:
        """Stops early."""


class NullSink:
    """Takes frames and writes nothing: for measurements, or when only tracks are wanted."""

    def __init__(self) -> None:
        """Starts at no frame."""
        self._frame_count = 0

    @property
    def frame_count(self) -> int:
        """Frames taken so far."""
        return self._frame_count

    @property
    def is_short_to_write(self) -> bool:
        """True: nothing is written."""
        return True

    @property
    def partial_path(self) -> Path | None:
        """Always None: there is no file."""
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Always empty."""
        return ()

    def write(self, frame: Frame) -> None:
        """Counts one canvas."""
        del frame
        self._frame_count += 1

    def close(self, stopped: Callable[[], bool] = never) -> bool:
        """Does nothing; always complete."""
        del stopped
        return True

    def abort(self) -> None:
        """Does nothing."""
