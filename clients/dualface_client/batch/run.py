"""One run: what was asked for, and what becomes known on its way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dualface_client import __version__
from dualface_client.batch.server import ServerChoice
from dualface_client.batch.shards import Shard
from dualface_client.config.streams_file import StreamEntry
from dualface_client.location import HERE, Location
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.report import FINAL_STATES, RunSummary, StreamStatus
from dualface_client.observe.run_state import RunState
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job
from dualface_client.triton.embedded import EmbeddedServer


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to do.

    Attributes:
        inputs: Videos, directories, patterns.
        output: File or directory, for live streams also an address; None to write nothing.
        program: How. Its records are for whoever shows the run.
        entries: Streams of a file, instead of inputs and output.
        tracks: File or directory for tracks, None for nowhere.
        overlay: File or directory for debug overlays, None for nowhere.
        resume: Whether videos whose outputs are finished and verified are skipped.
        recorded: State of the earlier run, empty without one.
        held: An embedded server that runs already and is used, None for none.
        further_outputs: More outputs of live streams.
        shard: Which share of the inputs is processed, None for all.
        locations: Where servers and workers are started; none for where the settings say.
    """

    inputs: tuple[str, ...]
    output: str | None
    program: ProgramSettings = field(default_factory=ProgramSettings)
    entries: tuple[StreamEntry, ...] = ()
    tracks: Path | None = None
    overlay: Path | None = None
    resume: bool = False
    recorded: Mapping[str, Any] = field(default_factory=dict)
    held: EmbeddedServer | None = None
    further_outputs: tuple[str, ...] = ()
    shard: Shard | None = None
    locations: tuple[Location, ...] = ()


@dataclass(slots=True)
class Run:
    """A planned run: its videos, and what becomes known while they are processed.

    Attributes:
        request: What was asked for.
        settings: Of the streams, with what the device decides.
        choice: Which server; its device is where pixels live, `cpu` or `cuda`.
        jobs: One per video.
        statuses: One per video, kept up to date.
        notes: What the user should know before the start.
        state: Where the run stands.
        streams: How many run at a time.
        locations: Where servers and workers are started.
        peaks_bytes: Largest resident size seen, by process.
        regions: Figures of each process's shared memory, by process.
        hardware: What the hardware monitor saw.
        server_pids: Return process ids of embedded servers, by name.
    """

    request: RunRequest
    settings: StreamSettings
    choice: ServerChoice
    jobs: list[Job]
    statuses: list[StreamStatus]
    notes: list[str]
    state: RunState
    streams: int
    locations: tuple[Location, ...] = (HERE,)
    peaks_bytes: dict[str, int] = field(default_factory=dict)
    regions: dict[str, PoolReport] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    server_pids: dict[str, Callable[[], int]] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether no stream is left to run."""
        return all(status.snapshot().state in FINAL_STATES for status in self.statuses)

    def processes(self) -> dict[str, int]:
        """Ids of the run's processes by name."""
        servers = {name: pid() for name, pid in self.server_pids.items()}
        workers = self.state.workers()
        return {
            "client": os.getpid(),
            **servers,
            **{f"worker {worker.number}": worker.pid for worker in workers if worker.pid},
        }

    def summary(self, elapsed_s: float) -> RunSummary:
        """What has become known so far.

        Args:
            elapsed_s: Seconds since the run was asked for.
        """
        return RunSummary(
            __version__,
            self.state.server or "none",
            tuple(status.snapshot() for status in self.statuses),
            elapsed_s,
            self.peaks_bytes,
            _plain(self.regions),
            self.hardware,
            tuple(asdict(place) for place in self.state.places),
        )


def _plain(regions: Mapping[str, PoolReport]) -> dict[str, Any]:
    """The one region of this process, or those of workers by name."""
    plain = {name: asdict(region) for name, region in regions.items()}
    return plain.get("client", plain)
