"""One video to process, its files, and its status."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualface_client.errors import DualfaceError, StoppedError
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.settings.addresses import shown
from dualface_client.settings.stream import StreamSettings
from dualface_client.video.outfile import partial_path_of

OUTPUT_TAG = "_dualface"
OUTPUT_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv"))


@dataclass(frozen=True, slots=True)
class Job:
    """One video to process.

    Attributes:
        name: Short, unique in the run.
        input: The video.
        output: What to write, None to write nothing.
        problem: Why it cannot be processed, empty if it may be tried.
        settings: Its own way of processing, None for the run's.
        address: Of a live input, without secrets; empty for a file.
        outputs: Where a live stream goes, without secrets: directories, files, playlists,
            addresses. Other streams have an `output`.
        input_url: Of the object in a store that is read; then `input` is only its name.
        output_url: Of the object that is written; then there is no `output` until the job runs.
        listed_as: The input relative to the argument that it was found by; decides its shard.
    """

    name: str
    input: Path
    output: Path | None
    problem: str = ""
    settings: StreamSettings | None = None
    address: str = ""
    outputs: tuple[str, ...] = ()
    input_url: str = ""
    output_url: str = ""
    listed_as: str = ""

    @property
    def shown_input(self) -> str:
        """What is read, for people."""
        return shown(self.address) if self.address else self.input_url or str(self.input)

    @property
    def shown_output(self) -> str:
        """What is written, for people; empty for nothing."""
        return ", ".join(map(shown, self.outputs)) or self.output_url or str(self.output or "")

    def is_live(self, settings: StreamSettings) -> bool:
        """Whether its frames do not wait.

        Args:
            settings: Of the run.
        """
        own = (self.settings or settings).input
        return bool(self.address) or own.live or own.realtime


def written_by(job: Job) -> list[Path]:
    """The files a job makes: its output, and the partial file that becomes it."""
    return [] if job.output is None else [job.output, partial_path_of(job.output)]


def _real(path: Path) -> Path:
    """As `Path.resolve`, which before Python 3.13 raises an error for a link to itself."""
    return Path(os.path.realpath(path))


class RealPaths:
    """Paths without symbolic links, of many files in few directories, which are looked up once."""

    def __init__(self) -> None:
        self._directories: dict[Path, Path] = {}

    def of(self, path: Path) -> Path:
        """The path; of a file that does not exist, where it would be."""
        if path.name in ("", "..") or os.path.islink(path):
            return _real(path)
        directory = path.parent
        if directory not in self._directories:
            self._directories[directory] = _real(directory)
        return self._directories[directory] / path.name


def new_statuses(jobs: Sequence[Job]) -> list[StreamStatus]:
    """One status per job; a job that cannot be tried has already failed."""
    return [
        StreamStatus(
            StreamReport(
                job.name,
                job.shown_input,
                job.shown_output,
                state="failed" if job.problem else "waiting",
                error=job.problem,
                exit_code=1 if job.problem else 0,
            )
        )
        for job in jobs
    ]


def ending(error: DualfaceError | None) -> dict[str, Any]:
    """How the report of a stream ends that was not processed to its end.

    Args:
        error: What kept it from that; None or a `StoppedError` if somebody wanted to stop.
    """
    if error is None or isinstance(error, StoppedError):
        return {"state": "stopped"}
    return {
        "state": "failed",
        "error": str(error),
        "exit_code": error.exit_code,
        "failure": type(error).__name__,
    }


def finished(missing: str) -> dict[str, Any]:
    """How the report of a stream ends whose output is finished.

    Args:
        missing: What the input lacked of what it promised, empty for nothing.
    """
    if not missing:
        return {"state": "done"}
    return {"state": "incomplete", "error": missing, "exit_code": 1}


def fail_unstarted(statuses: Sequence[StreamStatus], error: DualfaceError) -> None:
    """Tells the streams that are still waiting why they never ran.

    Args:
        statuses: From `new_statuses`.
        error: What kept the worker from running, a stop or a failure.
    """
    for status in statuses:
        if status.snapshot().state == "waiting":
            status.update(**ending(error))
