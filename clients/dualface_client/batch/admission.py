"""Admits only streams that fit in the GPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dualface_client.errors import SourceError
from dualface_client.memory.vram import (
    Card,
    StreamLoad,
    StreamShape,
    VramLimit,
    admit,
    stream_terms,
)
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job
from dualface_client.video.header import read_header

#: What a live stream is taken for before it is connected to: cameras and calls are seldom larger.
_LIVE_WH_PX = (1920, 1080)


def shape_of(job: Job, settings: StreamSettings) -> StreamShape | None:
    """What a stream's memory depends on; None for a file that cannot be opened.

    Args:
        job: Of the stream.
        settings: Of a job without settings of its own.
    """
    if job.address:
        return StreamShape(job.name, *_LIVE_WH_PX)
    try:
        header = read_header(job.input, (job.settings or settings).input.video_track)
    except SourceError:  # its own error comes in its turn
        return None
    return StreamShape(job.name, header.width_px, header.height_px, header.codec, header.bit_depth)


def needs_of(
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    load: StreamLoad,
    settings: StreamSettings,
) -> list[tuple[str, dict[str, int]]]:
    """GPU memory that each stream needs, by name.

    A video that cannot be opened needs nothing.

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
        if (shape := shape_of(job, settings)) is not None:
            needs.append((job.name, stream_terms(shape, load)))
    return needs


@dataclass(frozen=True, slots=True)
class Room:
    """What a GPU's memory allows.

    Attributes:
        streams: How many run at a time, at least 1.
        vram: How far the memory may be filled, None for no limit.
        refused: Why streams do not fit, by name.
    """

    streams: int
    vram: VramLimit | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


def room_on(
    card: Card,
    needs: Sequence[tuple[str, dict[str, int]]],
    at_a_time: int,
    processes_bytes: Callable[[int], int],
    *,
    queue: bool,
) -> Room:
    """Which streams fit on a GPU, and how many of them at a time.

    Args:
        card: The GPU before the first stream.
        needs: From `needs_of`.
        at_a_time: Streams that were asked for at a time.
        processes_bytes: What the processes for a number of streams at a time still add.
        queue: Whether streams wait for others to end instead of being refused.
    """
    found = admit(needs, card, at_a_time, processes_bytes, queue=queue)
    sizes = [sum(terms.values()) for name, terms in needs if name not in found.refused]
    limit = VramLimit(card.limit_bytes, max(sizes, default=0))
    return Room(max(1, found.at_a_time), limit, found.refused)


def refuse_unfit(
    jobs: Sequence[Job], statuses: Sequence[StreamStatus], rooms: Sequence[Room]
) -> None:
    """Fails the streams that fit on no GPU, by name and with the figures.

    Args:
        jobs: Of the run.
        statuses: Theirs.
        rooms: Of each GPU.
    """
    for job, status in zip(jobs, statuses, strict=True):
        if all(job.name in room.refused for room in rooms):
            text = f"{job.input}: {rooms[0].refused[job.name]}"
            status.update(state="failed", error=text, exit_code=1)
