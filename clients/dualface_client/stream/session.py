"""One worker: a session with the server, shared by the streams of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dualface_client.errors import StoppedError
from dualface_client.memory.figures import PoolReport
from dualface_client.models.faces import FaceDetector, FaceEmbedder, ModelAccess
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device import Device
from dualface_client.stream.job import Job
from dualface_client.stream.leaks import LeakMonitor
from dualface_client.stream.load import REID_BATCH, slot_groups
from dualface_client.stream.pacing import Pacing
from dualface_client.stream.pins import embed_pins
from dualface_client.stream.runner import Models, Runner
from dualface_client.triton.access import Access
from dualface_client.triton.recovery import Endurance
from dualface_client.triton.session import Session

#: A stopped stream leaves requests behind; what is leased after their answers is a leak.
LAST_ANSWERS_S = 2.0


def run_worker(  # noqa: PLR0913 - what a worker is given, optional parts by name
    address: str,
    device: Device,
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    settings: StreamSettings,
    stop: threading.Event,
    *,
    streams: int,
    tracks: Path | None = None,
    access: Access | None = None,
    pacing: Pacing | None = None,
    overlay: Path | None = None,
) -> PoolReport:
    """Connects, runs every job and disconnects.

    Args:
        address: `HOST:PORT` of Triton's gRPC endpoint.
        device: Makes the streams' parts.
        jobs: From `jobs_of_inputs`.
        statuses: From `new_statuses`, kept up to date; a stream's failure ends up there.
        settings: How to process.
        stop: Set from outside to end early.
        streams: How many run at a time.
        tracks: File or directory for tracks, None for nowhere.
        access: Key and certificates; None for those that the environment names.
        pacing: May hold streams back; None for nobody.
        overlay: File or directory for debug overlays, None for nowhere.

    Returns:
        Figures of the worker's region, taken when the streams had ended.

    Raises:
        ServerError: The server is not there, not ready, or serves something else.
        MemoryRegionError: No shared memory, or the server refuses it.
        StoppedError: `stop` was set while the server was awaited.
    """
    # Slots for streams that there are: a place in shared memory for each.
    waiting = sum(status.snapshot().state not in FINAL_STATES for status in statuses)
    streams = max(1, min(streams, waiting))
    with open_runner(
        address,
        device,
        settings,
        streams,
        tracks,
        stop,
        pacing=pacing,
        access=access,
        overlay=overlay,
    ) as (runner, session):
        runner.run(jobs, statuses, stop, streams)
        session.client.wait_idle(LAST_ANSWERS_S)
        return session.pool.report()


@contextmanager
def open_runner(  # noqa: PLR0913 - what a worker is given, optional parts by name
    address: str,
    device: Device,
    settings: StreamSettings,
    streams: int,
    tracks: Path | None,
    stop: threading.Event,
    *,
    access: Access | None = None,
    pacing: Pacing | None = None,
    overlay: Path | None = None,
) -> Iterator[tuple[Runner, Session]]:
    """A runner on a session of its own; arguments and errors as of `run_worker`."""

    def check() -> None:
        if stop.is_set():
            raise StoppedError(f"stopped while the server {address} was awaited")

    def tell(event: str, text: str) -> None:
        log_event(event, text, level=logging.WARNING)

    groups = slot_groups(settings, streams)
    timeout_s = settings.detection.timeout_s
    with Session(
        address,
        groups,
        access=access,
        check=check,
        endurance=Endurance(settings.server_wait_s, tell),
        request_timeout_s=timeout_s,
        make_region=device.make_region,
        outputs_in_region=device.outputs_in_region,
    ) as session:
        calls = ModelAccess(session, device.imaging, timeout_s, device.synchronize)
        models = Models(
            FaceDetector(calls, settings.detection.score_threshold),
            FaceEmbedder(replace(calls, timeout_s=settings.reid_timeout_s), REID_BATCH),
        )
        # Photos that do not fit are the user's mistake: it ends the run before its first stream.
        embed_pins(settings.tracking, device.imaging, models.detector, models.embedder)
        # Sent again after the server was away, a request lasts so long at most, and its answer
        # may wait for its turn as long again.
        limit_s = 2 * timeout_s + settings.server_wait_s
        with LeakMonitor(session.pool, limit_s):
            yield Runner(device, models, settings, tracks, pacing, overlay), session
