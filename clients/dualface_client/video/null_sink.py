"""The output of a run that writes no video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dualface_client.types import Frame


def never() -> bool:
    """Nobody asks to stop."""
    return False


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
