"""What a stream and the process that decides for it say to each other."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualface_client.decisions.commands import Command
from dualface_client.decisions.decider import Decision
from dualface_client.observe.stage_clock import StageTime
from dualface_client.observe.timeline import Timeline
from dualface_client.types import ByteArray, Faces, IntArray

#: Frames whose pictures have a place in a stream's memory at once.
PLACES = 16
#: Bytes of a place: a thumbnail and the largest preview, see `imaging.geometry`.
_THUMBNAIL_BYTES, _PREVIEW_BYTES = 36 * 64 * 3, 320 * 320
_PLACE_BYTES = _THUMBNAIL_BYTES + _PREVIEW_BYTES
MEMORY_BYTES = PLACES * _PLACE_BYTES


@dataclass(frozen=True, slots=True)
class Take:
    """Consecutive frames whose pictures lie in the first places of the memory, in order.

    Attributes:
        times_s: Presentation time of each.
        faces: What was detected in each.
        thumbnail_shape: Of all of them.
        preview_shape: Of all of them.
    """

    times_s: tuple[float, ...]
    faces: tuple[Faces, ...]
    thumbnail_shape: tuple[int, ...]
    preview_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The stream ends: what still waits is final."""


@dataclass(frozen=True, slots=True)
class Obey:
    """Somebody wants something; a `Final` without decisions is the answer."""

    command: Command


@dataclass(frozen=True, slots=True)
class LookCloser:
    """Some faces of a frame of the last `Take` need ReID; a `CloserLook` is the answer."""

    index: int
    rows: IntArray


@dataclass(frozen=True, slots=True)
class Final:
    """The answer to `Take`, `Obey` and `Finish`.

    Attributes:
        decisions: About the frames that became final, in order.
        timeline: Of the whole stream, at its end only.
        notes: To tell the user, at the end only.
        stages: Where the time went, at the end only.
        problem: Why a command cannot be obeyed, empty otherwise.
    """

    decisions: tuple[Decision, ...]
    timeline: Timeline | None = None
    notes: tuple[str, ...] = ()
    stages: tuple[tuple[str, StageTime], ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that nobody expected.

    Attributes:
        error: Its `repr`.
        trace: Its stack trace.
    """

    error: str
    trace: str


class Places:
    """The pictures of consecutive frames in memory that two processes share.

    Args:
        fd: Of `MEMORY_BYTES`; stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, MEMORY_BYTES)
        self._bytes: ByteArray = np.frombuffer(self._map, np.uint8).reshape(PLACES, _PLACE_BYTES)

    def thumbnail(self, index: int, shape: Sequence[int]) -> ByteArray:
        """A view of one place's thumbnail."""
        return self._bytes[index, : int(np.prod(shape))].reshape(shape)

    def preview(self, index: int, shape: Sequence[int]) -> ByteArray:
        """A view of one place's preview."""
        part = self._bytes[index, _THUMBNAIL_BYTES:]
        return part[: int(np.prod(shape))].reshape(shape)
