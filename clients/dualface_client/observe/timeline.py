"""Who sat where, what the canvas was and when ReID ran, over a stream's time; bounded in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings NumPy, for which no help text waits
    from dualface_client.types import SeatAssignment

_BINS = 240
_SEATINGS = 2000


@dataclass(frozen=True, slots=True)
class SeatingChange:
    """Who sits where from one moment until the next.

    Attributes:
        start_s: Source time.
        left: Identity on the left, 0 for nobody.
        right: Identity on the right, 0 for nobody.
    """

    start_s: float
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class LayoutChange:
    """What the canvas is from one moment until the next.

    Attributes:
        start_s: Source time.
        layout: `pair`, `solo`, `together` or `wide`.
    """

    start_s: float
    layout: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """One stream's history.

    Attributes:
        seatings: Changes, in order; the first 2000.
        layouts: Changes of the canvas, in order; the first 2000.
        reid_frames: Frames that cost a ReID request, per bin.
        bin_s: Length of a bin in seconds of the source.
        start_s: Source time of the first frame.
        end_s: Source time of the last frame.
    """

    seatings: tuple[SeatingChange, ...] = ()
    layouts: tuple[LayoutChange, ...] = ()
    reid_frames: tuple[int, ...] = ()
    bin_s: float = 1.0
    start_s: float = 0.0
    end_s: float = 0.0


class TimelineRecorder:
    """Collects a `Timeline`, frame by frame."""

    def __init__(self) -> None:
        self._seatings: list[SeatingChange] = []
        self._layouts: list[LayoutChange] = []
        self._bins: list[int] = []
        self._bin_s = 0.25
        self._start_s: float | None = None
        self._end_s = 0.0

    def add(self, time_s: float, assignment: SeatAssignment, layout: str) -> None:
        """Takes one frame.

        Args:
            time_s: Source time, not before the previous one.
            assignment: Who sits where in it.
            layout: What the canvas is.
        """
        if self._start_s is None:
            self._start_s = time_s
        self._end_s = time_s
        pair = assignment.left.identity, assignment.right.identity
        last = self._seatings[-1] if self._seatings else None
        changed = last is None or (last.left, last.right) != pair
        if changed and len(self._seatings) < _SEATINGS:
            self._seatings.append(SeatingChange(time_s, *pair))
        changed = not self._layouts or self._layouts[-1].layout != layout
        if changed and len(self._layouts) < _SEATINGS:
            self._layouts.append(LayoutChange(time_s, layout))
        if assignment.reid_ran:
            self._count(time_s - self._start_s)

    def _count(self, since_start_s: float) -> None:
        while int(since_start_s / self._bin_s) >= _BINS:
            self._bins = _in_pairs(self._bins)
            self._bin_s *= 2
        index = int(since_start_s / self._bin_s)
        self._bins += [0] * (index + 1 - len(self._bins))
        self._bins[index] += 1

    def timeline(self) -> Timeline:
        """What was collected so far."""
        return Timeline(
            tuple(self._seatings),
            tuple(self._layouts),
            tuple(self._bins),
            self._bin_s,
            self._start_s or 0.0,
            self._end_s,
        )


def _in_pairs(counts: Sequence[int]) -> list[int]:
    return [sum(counts[i : i + 2]) for i in range(0, len(counts), 2)]
