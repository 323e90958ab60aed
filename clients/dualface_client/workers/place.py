"""A server with the workers that use it, of which a run may have several: one on each GPU."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from dualface_client.errors import DualfaceError
from dualface_client.location import HERE, Location
from dualface_client.observe.report import StreamReport
from dualface_client.stream.job import Job
from dualface_client.stream.setup import WorkerSetup

#: Places that failed outside of the supervisor, by name, from any thread.
Losses = queue.SimpleQueue[tuple[str, DualfaceError]]

#: A place is left out after so many streams that failed there were made at another.
FAILURES = 3
#: Exit code of errors of the server.
_SERVER_FAILED = 3
#: Failures of memory, which another GPU may have.
_NO_MEMORY = frozenset(("OutOfMemory", "MemoryRegionError", "LeaseTimeoutError"))


@dataclass(slots=True, eq=False)
class Place:
    """Server, workers and limits on one GPU, or of the whole machine.

    Attributes:
        setup: What each worker is told.
        workers: How many processes.
        location: Where they are started.
        unfit: Names of streams that do not fit in its GPU's memory.
        ever_ready: Whether a worker has had its session.
        refusals: Workers in a row that got none.
        failures: Streams that failed here and were made elsewhere, since the last one made here.
        lost: Why nothing more is run here, empty as long as something is.
    """

    setup: WorkerSetup
    workers: int
    location: Location = HERE
    unfit: frozenset[str] = frozenset()
    ever_ready: bool = field(default=False, init=False)
    refusals: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    lost: str = field(default="", init=False)

    @property
    def name(self) -> str:
        """For people; empty where there is only one."""
        return self.location.name


class Choosing:
    """Says which streams may run where.

    Args:
        places: All of them.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        #: When, by monotonic time; streams that failed last are at the end.
        self._failed_at: dict[str, dict[Place, float]] = {}

    def living(self) -> list[Place]:
        """Places that are not lost."""
        return [place for place in self._places if not place.lost]

    def fitting(self, job: Job) -> list[Place]:
        """Living places with room for a stream, if need be after others have ended."""
        return [place for place in self.living() if job.name not in place.unfit]

    def may_run(self, job: Job, place: Place) -> bool:
        """Whether a stream may be started at a place.

        One that failed at some goes to the others; one that failed at all may be anywhere.
        """
        fitting = self.fitting(job)
        return place in (self._untried(job, fitting) or fitting)

    def preferred(self, job: Job) -> list[Place]:
        """Where a stream is best started that may be tried without end.

        One that failed at all places is tried again where that was longest ago.
        """
        fitting = self.fitting(job)
        if untried := self._untried(job, fitting):
            return untried
        return sorted(fitting, key=self._failed_at.get(job.name, {}).__getitem__)[:1]

    def note_failure(self, job: Job, place: Place) -> bool:
        """Remembers that a stream failed at a place; returns whether another one is left to try."""
        failed_at = self._failed_at.pop(job.name, {})
        failed_at[place] = time.monotonic()
        self._failed_at[job.name] = failed_at
        return bool(self._untried(job, self.fitting(job)))

    def note_success(self, job: Job, place: Place) -> list[Place]:
        """Remembers that a stream was made at a place.

        Returns:
            Places whose own fault it must be that streams fail there.
        """
        place.failures = 0
        blamed = [other for other in self._failed_at.pop(job.name, ()) if other is not place]
        for other in blamed:
            other.failures += 1
        return [other for other in blamed if other.failures >= FAILURES and not other.lost]

    def forgive(self, name: str, place: Place) -> None:
        """Forgets that a stream failed at a place: it has run well there since."""
        if name in self._failed_at:
            self._failed_at[name].pop(place, None)

    def forget_older(self, than_s: float, limit: int) -> None:
        """Forgets failures of long ago, and those of the oldest of many streams.

        Args:
            than_s: Monotonic time.
            limit: Streams to remember at most.
        """
        for name, failed_at in list(self._failed_at.items()):
            recent = {place: at_s for place, at_s in failed_at.items() if at_s > than_s}
            if recent and len(self._failed_at) <= limit:
                self._failed_at[name] = recent
            else:
                del self._failed_at[name]

    def _untried(self, job: Job, places: Sequence[Place]) -> list[Place]:
        failed_at = self._failed_at.get(job.name, ())
        return [place for place in places if place not in failed_at]


def may_be_the_places_fault(report: StreamReport) -> bool:
    """Whether a stream's failure may be its server's or GPU's, so that another may do better."""
    if report.state != "failed":
        return False
    return report.exit_code == _SERVER_FAILED or report.failure in _NO_MEMORY or bool(report.trace)
