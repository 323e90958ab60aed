"""From a file of streams to one job for each."""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.batch.inputs import refuse_inputs_as_outputs
from dualface_client.config.stack import build
from dualface_client.config.streams_file import StreamEntry
from dualface_client.errors import UsageError
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import OUTPUT_SUFFIXES, Job


def jobs_of_streams(entries: Sequence[StreamEntry], settings: StreamSettings) -> list[Job]:
    """A job for each stream of a file, in the order in which they start.

    A missing input becomes a job with a `problem`, so that the others go on.

    Args:
        entries: From `config.streams_file.read_streams`.
        settings: Of the run; a stream's own win over them.

    Raises:
        UsageError: An output cannot be written, or is an input.
    """
    jobs = []
    for entry in entries:
        output = entry.output
        own = build(entry.overrides, ProgramSettings(stream=settings)).stream
        if entry.is_live(own.input):
            jobs.append(_live_job(entry, own if entry.overrides else None))
            continue
        if len(entry.outputs) > 1:
            raise UsageError(f"{entry.origin}: output: a video that is not live has one output")
        if output is not None and output.suffix.lower() not in OUTPUT_SUFFIXES:
            raise UsageError(
                f"{entry.origin}: output: {output}: expected a name that ends in "
                f"{', '.join(sorted(OUTPUT_SUFFIXES))}"
            )
        missing = f"{entry.origin}: input: {entry.input}: no such file; check the path"
        jobs.append(
            Job(
                entry.name,
                entry.input,
                output,
                "" if entry.input.exists() else missing,
                own if entry.overrides else None,
            )
        )
    refuse_inputs_as_outputs(jobs)
    return jobs


def _live_job(entry: StreamEntry, own: StreamSettings | None) -> Job:
    missing = f"{entry.origin}: input: {entry.input}: no such file; check the path"
    there = bool(entry.address) or entry.input.exists()
    problem = "" if there else missing
    return Job(entry.name, entry.input, None, problem, own, entry.address, entry.outputs)
