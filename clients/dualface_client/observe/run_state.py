"""What a run is doing right now: one value for both the state file and the health page."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dualface_client.histogram import Histogram
from dualface_client.observe.report import (
    FINAL_STATES,
    KEPT_FIGURES,
    StreamReport,
    StreamStatus,
)
from dualface_client.settings.addresses import scheme_of

#: Of the JSON; a reader refuses another one.
STATE_VERSION = 1
_STALL_S = 120.0
#: It takes this long to write what was answered before the server went away.
_AFTERMATH_S = 5.0


@dataclass(frozen=True, slots=True)
class SlotFigures:
    """Slots of one model in a worker's region.

    Attributes:
        capacity: How many there are.
        leased: Those out now, quarantined ones included.
        quarantined: Those that a request without an answer may still be using.
        wait_s: Time that streams waited for one so far, seconds.
    """

    capacity: int
    leased: int
    quarantined: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker process.

    Attributes:
        number: 1-based, constant over restarts.
        pid: Of the process that runs now, 0 while none does.
        restarts: How often it was restarted.
        streams: Names of the streams it works on.
        slots: Its region's slots by model.
        requests: How long the server took to answer, by model.
        place: Where it runs, such as `GPU 0`; empty where there is only one place.
    """

    number: int
    pid: int
    restarts: int
    streams: tuple[str, ...]
    slots: Mapping[str, SlotFigures] = field(default_factory=dict)
    requests: Mapping[str, Histogram] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True, slots=True)
class PlaceState:
    """A server with its workers, of which a run may have several.

    Attributes:
        name: Such as `GPU 0`.
        server: The server's address; empty if it never ran.
        lost: Why nothing more is run there, empty as long as something is.
    """

    name: str
    server: str
    lost: str = ""


class RunState:
    """Phase, server, workers and streams of one run; safe to use from several threads.

    Args:
        version: Of this program.
        statuses: One per stream, in the order of the inputs.
        inputs: Identity of each input by stream name, see `batch.resume`.
        stall_s: A running stream without progress for this long makes the run unhealthy.
    """

    def __init__(
        self,
        version: str,
        statuses: Sequence[StreamStatus],
        inputs: Mapping[str, Mapping[str, Any]] | None = None,
        stall_s: float = _STALL_S,
    ) -> None:
        self._version = version
        self._statuses = tuple(statuses)
        self._inputs = dict(inputs or {})
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._phase = "starting"
        self._server = ""
        self._workers: dict[int, WorkerState] = {}
        self._places: dict[str, PlaceState] = {}
        self._started_unix_s = time.time()
        self._pool_fallbacks: dict[str, int] = {}
        self._pool_fault = ""
        self._past_errors: Counter[str] = Counter()
        self._awaited_since_s: float | None = None
        self._patient_until_s = 0.0
        self._seen: dict[str, tuple[tuple[str, int, int], float]] = {}

    def set_phase(self, phase: str) -> None:
        """Moves on: `starting`, `running`, `stopping`, `ended`."""
        with self._lock:
            self._phase = phase

    def set_streams(self, statuses: Sequence[StreamStatus]) -> None:
        """Says which streams there are now."""
        with self._lock:
            self._statuses = tuple(statuses)
            names = {status.snapshot().name for status in self._statuses}
            self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def set_server(self, server: str) -> None:
        """Says which inference server is used."""
        with self._lock:
            self._server = server

    def set_places(self, places: Sequence[PlaceState]) -> None:
        """Says which places there are, where there are several."""
        with self._lock:
            self._places = {place.name: place for place in places}

    def lose_place(self, name: str, why: str) -> None:
        """Says that a place is left out from now on."""
        with self._lock:
            before = self._places.get(name, PlaceState(name, ""))
            self._places[name] = replace(before, lost=why)

    @property
    def places(self) -> tuple[PlaceState, ...]:
        """Every place as it is now; none where there is only one."""
        with self._lock:
            return tuple(self._places.values())

    def set_worker(self, worker: WorkerState) -> None:
        """Says what a worker does now; its figures stay those that were said last."""
        with self._lock:
            before = self._workers.get(worker.number)
            if before is not None and before.pid == worker.pid:
                worker = replace(worker, slots=before.slots, requests=before.requests)
            self._workers[worker.number] = worker

    def set_figures(
        self, number: int, slots: Mapping[str, SlotFigures], requests: Mapping[str, Histogram]
    ) -> None:
        """Says how a worker's memory and requests are doing."""
        with self._lock:
            before = self._workers.get(number)
            if before is not None:
                self._workers[number] = replace(before, slots=slots, requests=requests)

    def add_error(self, failure: str) -> None:
        """Counts the failure of a stream that is forgotten; `failure` is as in its report."""
        with self._lock:
            self._past_errors[failure] += 1

    def errors(self) -> dict[str, int]:
        """Failures of streams so far, by class."""
        now = Counter(report.failure for report in self.reports() if report.failure)
        with self._lock:
            return dict(now + self._past_errors)

    def reports(self) -> tuple[StreamReport, ...]:
        """Every stream as it is now."""
        with self._lock:
            statuses = self._statuses
        return tuple(status.snapshot() for status in statuses)

    def workers(self) -> tuple[WorkerState, ...]:
        """Every worker as it is now."""
        with self._lock:
            return tuple(worker for _, worker in sorted(self._workers.items()))

    @property
    def pool_fallbacks(self) -> dict[str, int]:
        """Lines of the server's log that say a pool was not enough, by kind."""
        with self._lock:
            return dict(self._pool_fallbacks)

    def set_pool(self, fallbacks: Mapping[str, int], fault: str) -> None:
        """Says how the server's memory pools are doing.

        Args:
            fallbacks: Lines of its log that say a pool was not enough, by kind.
            fault: What makes results doubtful or slow, empty while all is well.
        """
        with self._lock:
            self._pool_fallbacks = dict(fallbacks)
            self._pool_fault = fault

    def await_server(self, wait_s: float, now_s: float | None = None) -> None:
        """Says that the server went away: until a stream moves, the run is not ready but healthy.

        Args:
            wait_s: How long the run waits for it; streams that stand still then have not stalled.
            now_s: Monotonic time, None for now.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self._awaited_since_s = now_s
            self._patient_until_s = now_s + wait_s

    @property
    def server_awaited(self) -> bool:
        """Whether the server went away and no stream has moved since."""
        with self._lock:
            return self._awaited_since_s is not None

    @property
    def pool_fault(self) -> str:
        """What is wrong with the server's memory pools, empty while all is well."""
        with self._lock:
            return self._pool_fault

    @property
    def phase(self) -> str:
        """Where the run stands."""
        with self._lock:
            return self._phase

    @property
    def is_ready(self) -> bool:
        """Whether the run has its server and works on streams."""
        return self.phase == "running" and not self.server_awaited

    def stalled(self, now_s: float | None = None) -> tuple[str, ...]:
        """Running streams without progress for longer than the limit.

        Call it regularly: progress is what has changed since the last call.

        Args:
            now_s: Monotonic time, None for now.
        """
        now_s = time.monotonic() if now_s is None else now_s
        names = []
        with self._lock:
            for status in self._statuses:
                report = status.snapshot()
                mark = report.state, report.frames_in, report.frames_out
                before = self._seen.get(report.name)
                if before is None or before[0] != mark:
                    self._seen[report.name] = mark, now_s
                    if before is not None and before[0][2] != report.frames_out:
                        self._moved(now_s)
                elif report.state == "running" and self._is_stall(before[1], now_s):
                    names.append(report.name)
        return tuple(names)

    def _moved(self, now_s: float) -> None:
        since_s = self._awaited_since_s
        if since_s is not None and now_s - since_s > _AFTERMATH_S:
            self._awaited_since_s = None

    def _is_stall(self, moved_s: float, now_s: float) -> bool:
        return now_s - max(moved_s, self._patient_until_s) > self._stall_s

    @property
    def server(self) -> str:
        """Which inference server is used, empty until it is known."""
        with self._lock:
            return self._server

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**self.head(), "streams": list(self.streams())}

    def streams(self) -> Iterator[dict[str, Any]]:
        """Every stream, for JSON, made when its turn comes."""
        return (self._stream(status.snapshot()) for status in self._statuses)

    def head(self) -> dict[str, Any]:
        """Everything but the streams, for JSON."""
        with self._lock:
            workers = [_plain(worker) for _, worker in sorted(self._workers.items())]
            head = {
                "state_version": STATE_VERSION,
                "version": self._version,
                "pid": os.getpid(),
                "phase": self._phase,
                "server": self._server,
                "server_awaited": self._awaited_since_s is not None,
                "pool_fallbacks": dict(self._pool_fallbacks),
                "pool_fault": self._pool_fault,
                "started_unix_s": round(self._started_unix_s, 3),
                "updated_unix_s": round(time.time(), 3),
            }
        places = {"places": [asdict(place) for place in self.places]} if self._places else {}
        return {**head, **places, "workers": workers}

    def _stream(self, report: StreamReport) -> dict[str, Any]:
        return {
            "name": report.name,
            "state": report.state,
            "input": report.input,
            "output": report.output,
            "frames_expected": report.frames_expected,
            "frames_in": report.frames_in,
            "frames_out": report.frames_out,
            "elapsed_s": round(report.elapsed_s, 3),
            "fps": round(report.fps, 3),
            "decode_errors": report.decode_errors,
            "attempts": report.attempts,
            **({"place": report.place} if report.place else {}),
            **(_live(report) if report.live else {}),
            "error": report.error,
            "partial_output": report.partial_output,
            "resumed": report.resumed,
            **_kept(report),
            **({"source": self._inputs[report.name]} if report.name in self._inputs else {}),
        }

    def output_space(self) -> dict[str, int]:
        """Free bytes where the outputs are written, by directory."""
        places = {place for s in self._statuses for place in _places_of(s.snapshot())}
        free = {}
        for place in sorted(places):
            with suppress(OSError):  # not made yet, or gone
                free[place] = shutil.disk_usage(place).free
        return free

    @property
    def is_over(self) -> bool:
        """Whether every stream has ended."""
        return all(status.snapshot().state in FINAL_STATES for status in self._statuses)


def _live(report: StreamReport) -> dict[str, Any]:
    """What is known of a live stream only."""
    return {
        "phase": report.phase,
        "latency_p50_s": round(report.latency_p50_s, 4),
        "latency_p99_s": round(report.latency_p99_s, 4),
        "dropped": dict(report.dropped),
        "reconnects": report.reconnects,
        "sound_drift_s": round(report.sound_drift_s, 4),
        "sound_corrected_s": round(report.sound_corrected_s, 2),
        "outputs": [asdict(output) for output in report.outputs],
    }


def _places_of(report: StreamReport) -> set[str]:
    """Directories that a stream writes to; a live one says its outputs when they are open."""
    targets = [output.target for output in report.outputs] or [report.output]
    files = [target for target in targets if target and not scheme_of(target)]
    return {path if os.path.isdir(path) else os.path.dirname(path) or "." for path in files}


def _kept(report: StreamReport) -> dict[str, Any]:
    """Figures for a later run, which needs them only of finished outputs."""
    if report.state not in ("done", "incomplete"):
        return {}
    return {name: getattr(report, name) for name in KEPT_FIGURES}


def _plain(worker: WorkerState) -> dict[str, Any]:
    """For JSON; figures are for Prometheus."""
    return {
        "number": worker.number,
        "pid": worker.pid,
        "restarts": worker.restarts,
        "streams": worker.streams,
        **({"place": worker.place} if worker.place else {}),
    }
