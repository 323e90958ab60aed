"""Whether one more stream fits in the GPU's memory, by the estimate that `run` and `plan` use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dualface_client.batch.admission import shape_of
from dualface_client.memory.vram import WORKER_BYTES, Card, VramLimit, admit, stream_terms
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job
from dualface_client.stream.load import frames_held, load_of

#: What every stream is expected to need at least, for those that the file of streams brings.
_USUAL = Job("live", Path("live"), None, address="rtsp://live")


class GpuRoom:
    """The room on one GPU for streams that come while others run.

    Args:
        card: Returns the GPU as it is now, None if nothing can tell.
        settings: Of streams without settings of their own.
    """

    def __init__(self, card: Callable[[], Card | None], settings: StreamSettings) -> None:
        self._card = card
        self._settings = settings

    def limit(self) -> VramLimit | None:
        """What workers look at before they start a stream; None if nothing can tell."""
        card = self._card()
        needed = sum(self._terms(_USUAL).values())
        return None if card is None else VramLimit(card.limit_bytes, needed)

    def refusal(self, job: Job) -> str:
        """Why a stream does not fit beside what is in use now, empty if it does.

        Args:
            job: One that is about to be added; it may need a further worker.
        """
        card, terms = self._card(), self._terms(job)
        if card is None or not terms:
            return ""
        found = admit([(job.name, terms)], card, 1, lambda streams: WORKER_BYTES, queue=False)
        return found.refused.get(job.name, "")

    def _terms(self, job: Job) -> dict[str, int]:
        settings = job.settings or self._settings
        shape = shape_of(job, settings)
        load = load_of(settings, frames_held(settings))
        return {} if shape is None else stream_terms(shape, load)


def refusal_of_all(rooms: Sequence[GpuRoom], job: Job) -> str:
    """Why a stream fits on no GPU, empty if it fits on one or there is none.

    Args:
        rooms: One for each GPU.
        job: One that is about to be added.
    """
    refusals = [room.refusal(job) for room in rooms]
    return refusals[0] if refusals and all(refusals) else ""
