"""One worker: a session with the server, shared by the streams of this process."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dualface_client.decisions.pool import Deciders
from dualface_client.errors import StoppedError
from dualface_client.memory.figures import PoolReport
from dualface_client.models.faces import FaceDetector, FaceEmbedder, ModelAccess
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.observe.traces import Traces
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device import Device
from dualface_client.stream.job import Job
from dualface_client.stream.leaks import LeakMonitor, longest_lease_s
from dualface_client.stream.load import REID_BATCH, slot_groups
from dualface_client.stream.pacing import Pacing
from dualface_client.stream.runner import LiveModels, Models, Runner
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.access import OPEN_ACCESS
from dualface_client.triton.description import PRIORITY_LIVE
from dualface_client.triton.recovery import Endurance
from dualface_client.triton.session import Session

#: A stopped stream leaves requests behind; slots still leased after their answers are leaks.
LAST_ANSWERS_S = 2.0
_SWITCH_INTERVAL_S = 0.0005


def _nothing() -> None:
    """Nobody listens."""


def settle_interpreter() -> None:
    """For a process that runs streams and then ends: fewer waits for Python's lock."""
    # Threads take turns after 0.5 ms instead of 5: most steps of a frame leave Python for a moment,
    # and each return waits for whoever has the lock by then.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What was imported stays; looking through it again and again takes 7 % of a loop's time.
    gc.collect()
    gc.freeze()


def run_worker(
    setup: WorkerSetup,
    device: Device,
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    stop: Stop,
    pacing: Pacing | None = None,
    server_awaited: Callable[[], None] = _nothing,
) -> PoolReport:
    """Connects, runs every job and disconnects.

    Args:
        setup: How.
        device: Lends the streams their shares.
        jobs: Of the run.
        statuses: From `new_statuses`, kept up to date; a stream's failure ends up there.
        stop: Asked from outside to end early.
        pacing: May hold streams back; None for nothing.
        server_awaited: Called each time the server has gone away, before the wait for it.

    Returns:
        Figures of the worker's region, taken when the streams had ended.

    Raises:
        ServerError: The server is not there, not ready, or serves something else.
        MemoryRegionError: No shared memory, or the server refuses it.
        StoppedError: `stop` was asked during the wait for the server.
        UsageError: A pinned photo does not show exactly one usable face.
    """
    # Slots only for as many streams as there are: each takes shared memory.
    waiting = sum(status.snapshot().state not in FINAL_STATES for status in statuses)
    setup = replace(setup, streams=max(1, min(setup.streams, waiting)))
    with open_runner(setup, device, stop, pacing, server_awaited) as (runner, session):
        runner.run(jobs, statuses, stop)
        session.client.wait_idle(LAST_ANSWERS_S)
        return session.pool.report()


@contextmanager
def open_runner(
    setup: WorkerSetup,
    device: Device,
    stop: Stop,
    pacing: Pacing | None = None,
    server_awaited: Callable[[], None] = _nothing,
) -> Iterator[tuple[Runner, Session]]:
    """A runner on a session of its own; arguments and errors as in `run_worker`."""
    settings = setup.settings
    with open_models(setup, device, stop, server_awaited) as (models, session):
        _look_at_photos(setup, device, models)
        with (
            LeakMonitor(session.pool, longest_lease_s(settings)),
            Deciders(setup.deciders) as deciders,
            Traces(setup.trace) as traces,
        ):
            yield Runner(setup, device, models, pacing, deciders, traces), session


@contextmanager
def open_models(
    setup: WorkerSetup,
    device: Device,
    stop: Stop,
    server_awaited: Callable[[], None] = _nothing,
) -> Iterator[tuple[Models, Session]]:
    """The models, connected by a session of its own; arguments and errors as in `run_worker`."""
    settings = setup.settings

    def check() -> None:
        if stop.is_asked:
            raise StoppedError(f"stopped while waiting for the server {setup.address}")

    def tell(event: str, text: str) -> None:
        if event == "server_awaited":
            server_awaited()
        log_event(event, text, level=logging.WARNING)

    timeout_s = settings.detection.timeout_s
    with Session(
        setup.address,
        slot_groups(settings, setup.streams),
        access=OPEN_ACCESS if setup.open_access else None,
        check=check,
        endurance=Endurance(settings.server_wait_s, tell),
        request_timeout_s=timeout_s,
        make_region=device.make_region,
        outputs_in_region=device.outputs_in_region,
        transport=setup.transport,
    ) as session:
        detector = FaceDetector(ModelAccess(session, timeout_s), settings.detection.score_threshold)
        embedder = FaceEmbedder(ModelAccess(session, settings.reid_timeout_s), REID_BATCH)
        yield Models(detector, embedder, live=_live_models(session, settings)), session


def _live_models(session: Session, settings: StreamSettings) -> LiveModels:
    """The models for streams that do not wait: the server answers them first."""
    priority = PRIORITY_LIVE if settings.detection.live_first else 0
    detection = ModelAccess(session, settings.detection.timeout_s, priority)
    reid = ModelAccess(session, settings.reid_timeout_s, priority)
    return LiveModels(
        FaceDetector(detection, settings.detection.score_threshold),
        FaceEmbedder(reid, REID_BATCH),
    )


def _look_at_photos(setup: WorkerSetup, device: Device, models: Models) -> None:
    """Unusable photos are the user's mistake, which ends the run before its first stream."""
    tracking = setup.settings.tracking
    if tracking.sides.pin_left is None and tracking.sides.pin_right is None:
        return
    with device.lend_stream() as share:
        models.photos.pins(tracking, share.imaging, models.detector, models.embedder)
