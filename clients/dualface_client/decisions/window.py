"""Frames that wait to be framed, and what later ones reveal about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from dualface_client.framing.moment import Moment
from dualface_client.tracking.hindsight import reseated, revised
from dualface_client.tracking.links import Relink
from dualface_client.types import PictureFacts, SeatAssignment, Side

#: Most frames that wait to be composed, which bounds memory for very high frame rates.
MAX_LOOKAHEAD_FRAMES = 24


@dataclass(frozen=True)
class Decided:
    """A frame that waits to be framed.

    Attributes:
        time_s: Presentation time in seconds.
        assignment: Who sits where in it.
        picture: What is known of it besides its faces.
        relinks: What it says about the tracks of earlier frames.
        seats: Who holds the sides of earlier frames too, if a photo was recognised in it.
    """

    time_s: float
    assignment: SeatAssignment
    picture: PictureFacts
    relinks: tuple[Relink, ...] = ()
    seats: Mapping[Side, int] = field(default_factory=dict)

    @cached_property
    def moment(self) -> Moment:
        """What framing needs of it; the same one for as long as nothing in it changes."""
        return Moment(self.time_s, self.assignment, self.picture)


class Lookahead:
    """Holds frames back until those that follow them within some time are known.

    Args:
        lookahead_s: How far a frame's window reaches, seconds.
        most_frames: That wait, whatever their times are.
    """

    def __init__(self, lookahead_s: float, most_frames: int = MAX_LOOKAHEAD_FRAMES) -> None:
        self._lookahead_s = lookahead_s
        self._most = most_frames
        self._waiting: deque[Decided] = deque()

    def add(self, entry: Decided) -> Iterator[list[Decided]]:
        """Takes the next frame; yields the windows that are complete with it.

        What it reveals about the tracks of frames that still wait is corrected in them.
        """
        if entry.relinks or entry.seats:
            self._waiting = deque(_with_hindsight(each, entry) for each in self._waiting)
        self._waiting.append(entry)
        while self._waiting and (
            entry.time_s - self._waiting[0].time_s >= self._lookahead_s
            or len(self._waiting) > self._most
        ):
            yield list(self._waiting)
            self._waiting.popleft()

    def rest(self) -> Iterator[list[Decided]]:
        """The windows of the frames that still wait, at the end of the stream."""
        while self._waiting:
            yield list(self._waiting)
            self._waiting.popleft()


def windows(
    decided: Iterable[Decided], lookahead_s: float, most_frames: int = MAX_LOOKAHEAD_FRAMES
) -> Iterator[list[Decided]]:
    """Each frame together with those that follow it, see `Lookahead`."""
    waiting = Lookahead(lookahead_s, most_frames)
    for entry in decided:
        yield from waiting.add(entry)
    yield from waiting.rest()


def _with_hindsight(entry: Decided, later: Decided) -> Decided:
    assignment = revised(entry.assignment, entry.time_s, later.relinks)
    if later.seats:
        assignment = reseated(assignment, later.seats)
    return entry if assignment is entry.assignment else replace(entry, assignment=assignment)
