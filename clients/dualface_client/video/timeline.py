"""Time stamps that only go forward, changed as little as possible."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

# A step back by more than this is a new time origin (joined streams), not a disordered stamp.
JUMP_S = Fraction(1, 4)
# Without a new picture for so long, somebody who watches takes a video for broken.
PAUSE_S = Fraction(60)


class Timeline:
    """Places the time stamps of one stream: increasing, gaps kept.

    A missing stamp is set one step after the previous one. A stamp that does not increase is moved
    right behind the previous one. After a jump back by more than `JUMP_S`, everything is moved
    so that the stream continues one step later.

    Attributes:
        filled: Missing stamps so far.
        bumped: Stamps moved by disorder or repetition so far.
        jumps: New time origins so far.
        pauses: Steps forward of a minute or more so far.
        longest_pause_s: The longest of them, in seconds; 0 if there is none.
    """

    def __init__(
        self, time_base: Fraction, step: int, *, may_repeat: bool = False, least: int = 1
    ) -> None:
        """Starts a stream.

        Args:
            time_base: Seconds per unit.
            step: Units from one picture or packet to the next, at least 1.
            may_repeat: Whether equal stamps stay equal, as those of packets that are shorter than
                a unit; moving each of them would delay the next ones more and more.
            least: Units by which a stamp that steps back is put behind the one before: a container
                with coarser units refuses what becomes equal in them.
        """
        self._jump = max(1, int(JUMP_S / time_base))
        self._pause = ceil(PAUSE_S / time_base)
        self._step = max(1, step)
        self._may_repeat = may_repeat
        self._least = least
        self._last: int | None = None
        self._offset = 0
        self.filled = 0
        self.bumped = 0
        self.jumps = 0
        self.pauses = 0
        self.longest_pause_s = Fraction(0)
        self._time_base = time_base

    def place(self, stamp: int | None, duration: int = 0) -> int:
        """The stamp to use.

        Args:
            stamp: What the source says, None if it says nothing.
            duration: Units until the next stamp; 0 if unknown, which means one step.
        """
        placed = self._forward(stamp)
        if self._last is not None and placed - self._last >= self._pause:
            self.pauses += 1
            pause_s = (placed - self._last) * self._time_base
            self.longest_pause_s = max(self.longest_pause_s, pause_s)
        self._last = placed
        self._next = placed + (duration or self._step)
        return placed

    def _forward(self, stamp: int | None) -> int:
        if self._last is None:
            self.filled += stamp is None
            return stamp or 0
        if stamp is None:
            self.filled += 1
            return self._next
        if stamp + self._offset < self._last - self._jump:
            self.jumps += 1
            self._offset = self._next - stamp
        placed = stamp + self._offset
        if placed > self._last or (self._may_repeat and placed == self._last):
            return placed
        self.bumped += 1
        return self._last + self._least
