"""One clock for all connections of a live stream, and for all of its tracks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

#: Units of the clock in a second, as in MPEG and RTP.
UNITS_PER_S = 90_000
TIME_BASE = Fraction(1, UNITS_PER_S)
# Times that step by more than this begin a new part: a clock was set, or a server joined videos.
_JUMP_BACK = UNITS_PER_S // 2
_JUMP_AHEAD = 3 * UNITS_PER_S


@dataclass(slots=True)
class _Track:
    """What was last seen of a track.

    Attributes:
        offset: What its current part is moved by.
        end: Where it ends so far, moved.
    """

    offset: int
    end: int


class LiveClock:
    """Moves the times of each connection to where it begins on the stream's own clock.

    That clock starts with the first packet and goes on while nothing is connected. All tracks of a
    connection are moved by one offset, so that sound and picture stay in sync. Where the times jump
    within a connection, a new part begins in the same way.

    Args:
        now_s: A clock that never steps, seconds.

    Attributes:
        parts: Begun so far.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._started_s: float | None = None
        self._tracks: dict[int, _Track] = {}
        self._offset: int | None = None
        self._end = 0
        self.parts = 0

    def connected(self) -> None:
        """Another connection begins; its times have nothing to do with those before."""
        self._tracks.clear()
        self._offset = None

    def offset(self, track: int, decoded_at: int, duration: int) -> int:
        """What the times of a packet are moved by.

        Args:
            track: Of the packet, any number.
            decoded_at: When it is decoded, in units of the source's clock (1/90000 s).
            duration: In the same units, 0 if unknown.
        """
        if self._offset is None:
            self._begin_part(decoded_at)
        assert self._offset is not None  # noqa: S101 - a part has begun
        seen = self._tracks.get(track)
        if seen is None:
            seen = self._tracks[track] = _Track(self._offset, decoded_at + self._offset)
        elif self._leaves_part(decoded_at, seen):
            # Another track may have begun the next one already.
            joins = seen.offset != self._offset
            if not joins or _jumps(decoded_at + self._offset, self._end):
                self._begin_part(decoded_at)
            seen.offset = self._offset
            seen.end = decoded_at + seen.offset
        seen.end = max(seen.end, decoded_at + seen.offset + duration)
        self._end = max(self._end, seen.end)
        return seen.offset

    def wait_s(self, placed_at: int) -> float:
        """How long until a packet is due, seconds; negative if it is late.

        Args:
            placed_at: When it is decoded, on the stream's clock.
        """
        if self._started_s is None:
            return 0.0
        return self._started_s + placed_at / UNITS_PER_S - self._now_s()

    def _leaves_part(self, decoded_at: int, track: _Track) -> bool:
        """Whether a packet does not go on with its track's part.

        A track that has paused, as the sound of a muted microphone, goes on where the others are.
        """
        placed_at = decoded_at + track.offset
        is_behind = track.offset != self._offset  # another track has left the part
        return _jumps(placed_at, track.end) and (is_behind or _jumps(placed_at, self._end))

    def _begin_part(self, decoded_at: int) -> None:
        now_s = self._now_s()
        if self._started_s is None:
            self._started_s = now_s
        elapsed = round((now_s - self._started_s) * UNITS_PER_S)
        self._offset = max(elapsed, self._end) - decoded_at
        self.parts += 1


def _jumps(placed_at: int, end: int) -> bool:
    return not -_JUMP_BACK <= placed_at - end <= _JUMP_AHEAD
