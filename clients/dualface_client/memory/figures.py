"""What is known about a pool's slots: figures per class, leaks, where a lease was taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

#: `1` makes every lease remember the lines of code that took it.
DEBUG_VARIABLE = "DUALFACE_DEBUG_LEASES"
_OWN_ROOMS = tuple(f"{Path(__file__).parents[1] / room}/" for room in ("memory", "triton"))
_LINES = 3


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """What one size class went through.

    Attributes:
        capacity: How many slots there are.
        leased: Slots out now, quarantined ones included.
        quarantined: Slots that a request without an answer may still be using.
        peak: Most slots out at once.
        grants: Leases given so far.
        reuses: Leases of a slot that had been used before.
        waits: Leases that had to wait.
        wait_s: Time spent waiting, seconds.
    """

    capacity: int
    leased: int
    quarantined: int
    peak: int
    grants: int
    reuses: int
    waits: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Leak:
    """A lease that is out for longer than allowed.

    Attributes:
        size_class: Its class.
        label: Purpose and thread of the lessee.
        age_s: Seconds since the lease was given.
        offset: Slot's first byte in the region.
        quarantined: Whether it is kept on purpose, because its request never got an answer.
        place: Lines of code that took it, innermost first; empty without `DUALFACE_DEBUG_LEASES`.
        under_way: Whether only a request without an answer holds it; the lessee has released it.
    """

    size_class: str
    label: str
    age_s: float
    offset: int
    quarantined: bool = False
    place: str = ""
    under_way: bool = False


@dataclass(frozen=True, slots=True)
class PoolReport:
    """A worker's region, for the run's summary.

    Attributes:
        region: Its name.
        byte_size: Its size.
        classes: Figures by size class.
        leaks: Leases that outlived their limit or the streams.
    """

    region: str
    byte_size: int
    classes: Mapping[str, SlotCounts]
    leaks: tuple[Leak, ...]


def debug_leases(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `DUALFACE_DEBUG_LEASES` asks for the places of leases.

    Args:
        environ: Environment variables; None reads this process's.
    """
    value = (os.environ if environ is None else environ).get(DEBUG_VARIABLE, "")
    return value.lower() not in ("", "0", "no", "false", "off")


def caller_place() -> str:
    """The lines of code that led here, as `file:line function`, innermost first.

    Frames of this package's memory and server rooms are left out, as they lease for others.
    """
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < _LINES:
        path = frame.f_code.co_filename
        if not path.startswith(_OWN_ROOMS):
            short = "/".join(path.split("/")[-2:])
            found.append(f"{short}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found)
