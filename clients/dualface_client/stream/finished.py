"""Whether an output is finished: it can be read to its end and has all of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualface_client.errors import SourceError
from dualface_client.observe.report import StreamStatus
from dualface_client.stream.job import Job
from dualface_client.video.check import readable_frames


def take_finished(job: Job, status: StreamStatus) -> bool:
    """Sets a stream to `done` if its worker died when the output was already complete.

    Args:
        job: One with an output that this run has made.
        status: Its own, as the worker last reported.

    Returns:
        Whether the output is verified.
    """
    assert job.output is not None  # noqa: S101 - the caller asks only about such jobs
    told = status.snapshot()
    entry: dict[str, Any] = {}
    if told.decode_errors:  # such an output has fewer frames than its input has packets
        entry = {"state": "done", "input": told.input, "source": identity(job.input)}
        entry["frames_out"] = told.frames_out
    frames, problem = verify_output(job.input, job.output, entry)
    if not problem:
        status.update(
            state="done",
            frames_in=max(told.frames_in, frames),
            frames_out=frames,
            partial_output="",
        )
    return not problem


def verify_output(source: Path, output: Path, entry: Mapping[str, Any]) -> tuple[int, str]:
    """Frames of the output, and what is wrong with it, empty for nothing."""
    try:
        frames = readable_frames(output)
        if _is_of(entry, source):
            wanted, whose = int(entry["frames_out"]), "the run that made it wrote"
        else:
            wanted, whose = readable_frames(source), "its input has"
    except SourceError as error:
        return 0, str(error)
    return frames, "" if frames == wanted else f"it has {frames} frames, {whose} {wanted}"


def _is_of(entry: Mapping[str, Any], source: Path) -> bool:
    """Whether a finished stream's record is about this very input."""
    return (
        entry.get("state") == "done"
        and entry.get("input") == str(source)
        and entry.get("source") == identity(source)
    )


def identity(path: Path) -> dict[str, Any]:
    """What distinguishes a file from a later one with its name; empty if there is none."""
    try:
        status = path.stat()
    except OSError:  # the docstring's empty
        return {}
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
