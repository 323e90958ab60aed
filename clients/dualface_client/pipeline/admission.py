"""Lets only those streams start that fit into the GPU's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualface_client.errors import SourceError
from dualface_client.memory.vram import (
    Admission,
    Card,
    StreamLoad,
    StreamShape,
    VramGuard,
    admit,
    stream_terms,
)
from dualface_client.observe.gpus import read_gpus, used_gpu
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.pipeline.jobs import Job
from dualface_client.pipeline.parts import Guard, Unguarded
from dualface_client.pipeline.stream import composed_at_once
from dualface_client.pipeline.worker import slot_plans
from dualface_client.settings.run import RunSettings
from dualface_client.triton.client import SlotLayout
from dualface_client.triton.description import MODELS
from dualface_client.video.header import read_header


def card_of(limit: float) -> Card | None:
    """The GPU in use as NVML shows it now, None where it cannot tell.

    Args:
        limit: Share of it that may be used by all.
    """
    gpu = used_gpu(read_gpus())
    return None if gpu is None else Card(gpu.memory_total_bytes, gpu.memory_used_bytes, limit)


def load_of(settings: RunSettings, frames_held: int) -> StreamLoad:
    """What the settings make of a stream.

    Args:
        settings: Of the stream.
        frames_held: Frames that its loop may hold.
    """
    plans = slot_plans(settings, 1)
    slots = sum(
        plans[spec.name].count * SlotLayout.of(spec, plans[spec.name].batch).byte_size
        for spec in MODELS
    )
    output = settings.output
    behind = settings.queues.frames_behind
    drawn = composed_at_once(settings)
    return StreamLoad(frames_held, slots, output.canvas_wh_px, behind, drawn)


def needs_of(
    jobs: Sequence[Job], statuses: Sequence[StreamStatus], load: StreamLoad
) -> list[tuple[str, dict[str, int]]]:
    """GPU memory of each stream that is to run, by name.

    A video that cannot be opened needs nothing: its own error comes when its turn comes.

    Args:
        jobs: From `plan_jobs`.
        statuses: From `new_statuses`.
        load: How they are run.
    """
    needs = []
    for job, status in zip(jobs, statuses, strict=True):
        if status.snapshot().state in FINAL_STATES:
            continue
        try:
            header = read_header(job.input)
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
        jobs: From `plan_jobs`.
        statuses: Theirs; refused ones have failed afterwards.
        needs: From `needs_of`.
        card: The GPU before the first stream.
        at_a_time: Streams that were asked for at a time.
        processes_bytes: What the processes for so many streams at a time still add.
        queue: Whether streams wait for others to end instead of being refused.
    """
    found = admit(needs, card, at_a_time, processes_bytes, queue=queue)
    for job, status in zip(jobs, statuses, strict=True):
        if job.name in found.refused:
            status.update(state="failed", error=f"{job.input}: {found.refused[job.name]}")
    return found


@dataclass(frozen=True, slots=True)
class VramLimit:
    """What a worker is told of the GPU's memory.

    Attributes:
        limit_bytes: Of the card, for everybody.
        need_bytes: Of the largest stream.
    """

    limit_bytes: int
    need_bytes: int


def guarded(limit: VramLimit | None, inner: Guard | None = None) -> Guard:
    """A guard that also looks at the GPU's memory before each stream.

    Args:
        limit: None where there is no limit.
        inner: Another guard, which must agree; None for none.
    """
    inner = inner or Unguarded()
    return inner if limit is None else _MemoryGuard(inner, limit)


class _MemoryGuard:
    def __init__(self, inner: Guard, limit: VramLimit) -> None:
        self._inner = inner
        self._vram = VramGuard(
            self._used_bytes, limit.limit_bytes, limit.need_bytes, time.monotonic
        )

    def admit(self) -> bool:
        return self._inner.admit() and self._vram.admit()

    def requests(self, in_flight: int, frames: int) -> tuple[int, int]:
        return self._inner.requests(in_flight, frames)

    def _used_bytes(self) -> int | None:
        card = card_of(1.0)
        return card.used_bytes if card is not None else None
