"""Jobs of live streams: their addresses, and where they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dualface_client.errors import UsageError
from dualface_client.settings.addresses import name_of, problem_of, scheme_of, shown
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job
from dualface_client.video.live_targets import TargetOptions, target_of

#: Of files that a live stream is written to.
LIVE_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".m3u8"))


def job_of_address(text: str) -> Job:
    """A job for the stream of an address, without outputs.

    Args:
        text: The address.
    """
    name = name_of(text)
    return Job(name, Path(name), None, address=text)


def check_live(jobs: Sequence[Job], settings: StreamSettings) -> None:
    """Refuses addresses and outputs of live streams that cannot be used.

    Args:
        jobs: Of the run; those that are not live are passed over.
        settings: Of the run; a job may have its own.

    Raises:
        UsageError: One is not allowed, holds credentials, exists, or is written by two streams.
    """
    live = [job for job in jobs if job.is_live(settings) and not job.problem]
    places = Counter(place for job in live for place in map(place_of, job.outputs) if place)
    for place, count in places.items():
        if count > 1:
            raise UsageError(
                f"-o {shown(place)}: is one output for {count} streams; name a directory"
            )
    for job in live:
        own = job.settings or settings
        if job.address and (problem := problem_of(job.address, own.input.schemes, "input")):
            raise UsageError(problem)
        for text in job.outputs:
            _check_output(text, job.name, own)


def place_of(text: str) -> str:
    """What only one stream can write to, empty for a directory."""
    return text if scheme_of(text) or (Path(text).suffix and not Path(text).is_dir()) else ""


def _check_output(text: str, name: str, settings: StreamSettings) -> None:
    if not text or "\0" in text or text == "-":
        raise UsageError(f"-o {text!r}: expected a directory, a file or an address")
    if scheme_of(text):
        if problem := problem_of(text, settings.output.schemes, "output"):
            raise UsageError(problem)
        target_of(text, text, name, TargetOptions())
        return
    path = Path(text)
    suffix = path.suffix.lower()
    is_directory = path.is_dir() or text.endswith("/") or not suffix
    if not is_directory and suffix not in LIVE_SUFFIXES:
        raise UsageError(
            f"-o {text}: {suffix} cannot be written; expected one of "
            f"{' '.join(sorted(LIVE_SUFFIXES))}, a directory, or an address"
        )
    if is_directory and path.exists() and not path.is_dir():
        raise UsageError(f"-o {text}: is not a directory")
    if not path.parent.is_dir() and not path.parent.parent.is_dir():
        raise UsageError(f"-o {text}: {path.parent} does not exist; create it first")
    if is_directory or suffix == ".m3u8" or settings.output.overwrite:
        return
    if path.exists():
        raise UsageError(f"{path}: exists; choose another name or allow --overwrite")
