"""Admits only streams that fit in the GPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dualface_client.errors import SourceError
from dualface_client.memory.vram import (
    Admission,
    Card,
    StreamLoad,
    StreamShape,
    admit,
    stream_terms,
)
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job
from dualface_client.video.header import read_header


def needs_of(
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    load: StreamLoad,
    settings: StreamSettings,
) -> list[tuple[str, dict[str, int]]]:
    """GPU memory that each stream needs, by name.

    A video that cannot be opened needs nothing: its own error comes in its turn.

    Args:
        jobs: From `jobs_of_inputs`.
        statuses: From `new_statuses`.
        load: How they are run.
        settings: Of jobs without settings of their own.
    """
    needs = []
    for job, status in zip(jobs, statuses, strict=True):
        # What lies in a store has no size before it is fetched: pacing holds it back if need be.
        if status.snapshot().state in FINAL_STATES or job.input_url:
            continue
        try:
            header = read_header(job.input, (job.settings or settings).input.video_track)
        except SourceError:  # see above
            continue
        shape = StreamShape(
            job.name, header.width_px, header.height_px, header.codec, header.bit_depth
        )
        needs.append((job.name, stream_terms(shape, load)))
    return needs


def admit_streams(
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    needs: Sequence[tuple[str, dict[str, int]]],
    card: Card,
    at_a_time: int,
    processes_bytes: Callable[[int], int],
    *,
    queue: bool,
) -> Admission:
    """Fails the streams that do not fit, by name and with the figures.

    Args:
        jobs: From `jobs_of_inputs`.
        statuses: Theirs; afterwards, refused ones have failed.
        needs: From `needs_of`.
        card: The GPU before the first stream.
        at_a_time: Streams that were asked for at a time.
        processes_bytes: What the processes for a number of streams at a time still add.
        queue: Whether streams wait for others to end instead of being refused.
    """
    found = admit(needs, card, at_a_time, processes_bytes, queue=queue)
    for job, status in zip(jobs, statuses, strict=True):
        if job.name in found.refused:
            text = f"{job.input}: {found.refused[job.name]}"
            status.update(state="failed", error=text, exit_code=1)
    return found
