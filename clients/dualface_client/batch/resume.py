"""Resumes a batch that was interrupted: finished outputs are verified and not made again.

An output appears under its name only when it is complete, so a batch that is interrupted at any
moment, even by `kill -9`, has complete outputs and partial files; the latter are made again. An
output counts as finished if it can be read to its end and has as many frames as the run that wrote
it recorded in its state file for this very input, or, without such a record, as its input has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.finished import ended_before, identity, verify_output
from dualface_client.stream.job import Job


def identities(jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """What distinguishes an input from a later file of its name, by stream; for the state file."""
    return {job.name: found for job in jobs if (found := identity(job.input))}


def skip_finished(
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    recorded: Mapping[str, Any],
    settings: StreamSettings,
) -> None:
    """Sets streams with finished outputs to `done`, or to `incomplete` if they were that.

    A stream whose output exists and is not verified fails, unless it may be replaced.

    Args:
        jobs: Of the run.
        statuses: From `new_statuses`.
        recorded: State of the earlier run, empty without one.
        settings: Of jobs without settings of their own.
    """
    earlier = {entry.get("output"): entry for entry in recorded.get("streams", ())}
    for job, status in zip(jobs, statuses, strict=True):
        if job.output is None or status.snapshot().state in FINAL_STATES:
            continue
        if not job.output.is_file():
            continue
        entry = earlier.get(str(job.output), {})
        frames, problem = verify_output(job, entry, settings)
        if not problem:
            status.update(
                **{"frames_in": frames, **ended_before(job, entry)},
                resumed=True,
                frames_expected=frames,
                frames_out=frames,
            )
        elif not (job.settings or settings).output.overwrite:
            status.update(
                state="failed",
                exit_code=1,
                error=f"{job.output}: exists and is not the finished output of {job.input}: "
                f"{problem}; move it away, or allow --overwrite",
            )
