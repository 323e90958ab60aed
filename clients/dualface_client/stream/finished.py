"""Whether an output is finished: it can be read to its end and has all of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualface_client.errors import DualfaceError, SourceError
from dualface_client.objects.store import ObjectStore
from dualface_client.observe.report import KEPT_FIGURES, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job, finished
from dualface_client.video.check import readable_frames


def take_finished(job: Job, status: StreamStatus, settings: StreamSettings) -> bool:
    """Sets a stream to `done` if its worker died when the output was already complete.

    Args:
        job: One with an output that this run has made.
        status: Its own, as the worker last reported.
        settings: How it was processed, if the job has no settings of its own.

    Returns:
        Whether the output is verified.
    """
    told = status.snapshot()
    entry: dict[str, Any] = {}
    if told.decode_errors:  # such an output has fewer frames than its input has packets
        entry = {"state": "done", "input": told.input, "source": identity(job.input)}
        entry["frames_out"] = told.frames_out
    frames, problem = verify_output(job, entry, settings)
    if not problem:
        status.update(
            state="done",
            frames_in=max(told.frames_in, frames),
            frames_out=frames,
            partial_output="",
        )
    return not problem


def take_published(job: Job, status: StreamStatus, store: ObjectStore | None = None) -> bool:
    """The same for an output in an object store, where nothing is there in part.

    Args:
        job: One with an address of an output that did not exist before.
        status: Its own, as the worker last reported.
        store: Where to look, None for the usual one.

    Returns:
        Whether the output is there.
    """
    try:
        found = (store or ObjectStore()).look_at(job.output_url)
    except DualfaceError:  # made again; publishing it says what is wrong
        return False
    if found is not None:
        status.update(state="done", partial_output="")
    return found is not None


def verify_output(job: Job, entry: Mapping[str, Any], settings: StreamSettings) -> tuple[int, str]:
    """Frames of the output, and what is wrong with it, empty for nothing.

    Args:
        job: One with an output.
        entry: What an earlier run recorded about it, empty for nothing.
        settings: How it was processed, if the job has no settings of its own.
    """
    assert job.output is not None  # noqa: S101 - the callers ask only about such jobs
    try:
        frames = readable_frames(job.output)
        if _is_of(entry, job.input):
            wanted, whose = int(entry["frames_out"]), "the run that made it wrote"
        else:
            track = (job.settings or settings).input.video_track
            wanted, whose = readable_frames(job.input, track), "its input has"
    except SourceError as error:
        return 0, str(error)
    return frames, "" if frames == wanted else f"it has {frames} frames, {whose} {wanted}"


def ended_before(job: Job, entry: Mapping[str, Any]) -> dict[str, Any]:
    """How the report ends of a stream whose output an earlier run finished, with its figures.

    Args:
        job: One whose output is verified.
        entry: What the earlier run recorded about it, empty for nothing.
    """
    return ended_before_as(entry, _is_of(entry, job.input))


def ended_before_as(entry: Mapping[str, Any], is_of_input: bool) -> dict[str, Any]:
    """The same where it is known whether the record is about the stream's input."""
    if not is_of_input or entry.get("state") not in ("done", "incomplete"):
        return finished("")
    kept = {name: entry[name] for name in KEPT_FIGURES if name in entry}
    if "sides" in kept:  # JSON's keys are text
        kept["sides"] = {int(identity): side for identity, side in kept["sides"].items()}
    return {
        **finished(entry.get("error", "") if entry["state"] == "incomplete" else ""),
        **kept,
        "frames_in": int(entry["frames_in"]),
        "elapsed_s": float(entry["elapsed_s"]),
        "decode_errors": int(entry["decode_errors"]),
    }


def _is_of(entry: Mapping[str, Any], source: Path) -> bool:
    """Whether a finished stream's record is about this very input."""
    return (
        entry.get("state") in ("done", "incomplete")
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
