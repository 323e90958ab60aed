"""Runs the jobs of one process: opens, loops and closes each stream, and keeps failures apart."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualface_client.errors import DualfaceError, EncoderError, ServerError
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.observe.stage_clock import StageClock
from dualface_client.observe.track_log import TrackLog
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.device import Device
from dualface_client.stream.job import Job
from dualface_client.stream.loop import StreamLoop, StreamParts
from dualface_client.stream.overlay import DebugOverlay, overlay_path
from dualface_client.stream.pacing import Pacing, Unpaced
from dualface_client.stream.pins import embed_pins
from dualface_client.stream.seams import FaceDetector, FaceEmbedder, FrameSink, FrameSource
from dualface_client.types import VideoInfo
from dualface_client.video.disk_wait import DiskWait

#: How often a stream that is held back asks again.
_ADMIT_POLL_S = 0.2
_WAIT_S = 1.0
#: Frames of a stack trace, the innermost ones.
_TRACE_LIMIT = -40


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a worker, shared by its streams."""

    detector: FaceDetector
    embedder: FaceEmbedder


class Runner:
    """Runs jobs, several at a time.

    Args:
        device: Makes sources, sinks and pixel work.
        models: Connected models.
        settings: How to process.
        tracks: Where tracks go: a file for one job, a directory for several, None for nowhere.
        pacing: Says whether streams may start and how many requests they keep under way.
        overlay: Where debug overlays go, as `tracks`.
    """

    def __init__(
        self,
        device: Device,
        models: Models,
        settings: StreamSettings,
        tracks: Path | None = None,
        pacing: Pacing | None = None,
        overlay: Path | None = None,
    ) -> None:
        self._device = device
        self._models = models
        self._settings = settings
        self._tracks = tracks
        self._overlay = overlay
        self._pacing = pacing or Unpaced()
        self._starting = threading.Lock()
        self._running = 0

    def run(
        self,
        jobs: Sequence[Job],
        statuses: Sequence[StreamStatus],
        stop: threading.Event,
        streams: int,
    ) -> None:
        """Runs every job that may be tried; failures end up in the statuses, never here.

        Args:
            jobs: From `jobs_of_inputs`.
            statuses: From `new_statuses`, kept up to date.
            stop: Set from outside to end early: streams leave playable partial files. Set here
                too where an exception such as `KeyboardInterrupt` ends the wait for them.
            streams: How many run at a time.
        """
        with ThreadPoolExecutor(streams, thread_name_prefix="stream") as pool:
            futures = []
            try:
                for job, status in zip(jobs, statuses, strict=True):
                    if status.snapshot().state not in FINAL_STATES:
                        futures.append(pool.submit(self.run_job, job, status, stop))
                _wait_all(futures)
            except BaseException:  # Ctrl-C in a program that has no handler of its own
                stop.set()
                _wait_all(futures)
                raise
        for future in futures:
            future.result()

    def run_job(self, job: Job, status: StreamStatus, stop: threading.Event) -> None:
        """Runs one job; how it ended is in its status.

        Args:
            job: One that may be tried.
            status: Its own, kept up to date.
            stop: Set from outside to end early.
        """
        if not self._may_start(status, stop):
            status.update(state="stopped")
            return
        try:
            self._run_started(job, status, stop)
        finally:
            with self._starting:
                self._running -= 1

    def _may_start(self, status: StreamStatus, stop: threading.Event) -> bool:
        """Waits while the pacing holds streams back; one stream runs in any case. False to stop."""
        while not stop.is_set():
            with self._starting:
                if self._running == 0 or self._pacing.admit():
                    self._running += 1
                    return True
            status.warn("started later than it could have been: the machine was at its limit")
            stop.wait(_ADMIT_POLL_S)
        return False

    def _run_started(self, job: Job, status: StreamStatus, stop: threading.Event) -> None:
        threading.current_thread().name = f"stream {job.name}"  # leases are reported by it
        started = time.monotonic()
        clock = StageClock()
        status.update(state="running")
        try:
            outcome: dict[str, Any] = {"state": self._process_again(job, status, stop, clock)}
        except DualfaceError as error:
            servers = isinstance(error, ServerError)
            outcome = {"state": "failed", "error": str(error), "error_is_servers": servers}
        except Exception as error:  # a stream must never take the others with it
            outcome = {"state": "failed", **self._unexpected(job, error)}
        # One change, so that whoever sees the end sees all of it.
        status.update(**outcome, elapsed_s=time.monotonic() - started, stages=clock.totals())

    def _process_again(
        self, job: Job, status: StreamStatus, stop: threading.Event, clock: StageClock
    ) -> str:
        """Processes the job; where the device's memory is full, frees its caches and tries again.

        Once: what is full then is full of others' work, and this stream alone fails.
        """
        try:
            return self._process_with(job, status, stop, clock)
        except Exception as error:
            if not self._device.is_out_of_memory(error):
                raise
            text = f"the device's memory was full ({error}); started again from its beginning"
        # Behind the handler: the error's traceback held the first attempt's frames.
        self._device.free_caches()
        status.warn(text)
        log_event("out_of_memory", text, stream=job.name, level=logging.WARNING)
        return self._process_with(job, status, stop, clock)

    def _unexpected(self, job: Job, error: Exception) -> dict[str, str]:
        if self._device.is_out_of_memory(error):
            text = (
                f"{job.input}: the device's memory is full, also after its caches were freed "
                f"({error}). Remedy: fewer --streams, --on-oom queue, a lower --vram-limit"
            )
            return {"error": text}
        trace = "".join(traceback.format_exception(error, limit=_TRACE_LIMIT))
        return {"error": f"{job.input}: unexpected {error!r}", "trace": trace}

    def _process_with(
        self, job: Job, status: StreamStatus, stop: threading.Event, clock: StageClock
    ) -> str:
        """Processes the job; with another encoder where the first one fails, once."""
        output = self._settings_of(job).output
        try:
            return self._process(job, status, stop, clock, output)
        except EncoderError as error:
            # One thread, so that an x264 that failed is not started in the same way again.
            other = replace(output, encoder="x264", encoder_threads=1)
            text = f"{error}; started again from its beginning with x264"
            status.warn(text)
            log_event("encoder_failed", text, stream=job.name, level=logging.WARNING)
            return self._process(job, status, stop, clock, other)

    def _process(
        self,
        job: Job,
        status: StreamStatus,
        stop: threading.Event,
        clock: StageClock,
        output: OutputSettings,
    ) -> str:
        """Opens, loops, closes; returns the final state."""
        source = self._device.open_source(job.input)
        try:
            status.update(frames_expected=source.info.frame_count)
            for note in source.info.notes:
                status.warn(note)
            patience = DiskWait(output.disk_wait_s, stop, _disk_teller(job, status, output))
            sink = self._device.open_sink(job, source.info, output, patience)
            return self._drain(job, StreamEnds(source, sink), status, stop, clock)
        finally:
            source.close()

    def _drain(
        self,
        job: Job,
        ends: StreamEnds,
        status: StreamStatus,
        stop: threading.Event,
        clock: StageClock,
    ) -> str:
        tracks: TrackLog | None = None
        overlay: DebugOverlay | None = None
        complete = False
        try:
            tracks = TrackLog(self._tracks_path(job)) if self._tracks else None
            settings = self._settings_of(job)
            pins = embed_pins(
                settings.tracking,
                self._device.imaging,
                self._models.detector,
                self._models.embedder,
            )
            overlay = self._open_overlay(job, ends.source.info, status)
            parts = StreamParts(
                ends.source,
                ends.sink,
                self._device.imaging,
                self._models.detector,
                self._models.embedder,
                tracks,
                self._pacing,
                overlay,
                pins,
            )
            StreamLoop(parts, settings, status, stop, clock).run()
            if not stop.is_set():
                with clock.stage("finish"):
                    complete = ends.sink.close(stop.is_set)
        finally:
            if not complete:
                ends.sink.abort()
            if overlay is not None:
                overlay.close(complete=complete)
            if tracks is not None:
                tracks.close()
            _add_notes(status, ends)
        return "done" if complete else "stopped"

    def _settings_of(self, job: Job) -> StreamSettings:
        return job.settings or self._settings

    def _open_overlay(self, job: Job, info: VideoInfo, status: StreamStatus) -> DebugOverlay | None:
        if self._overlay is None:
            return None
        path = overlay_path(self._overlay, job)
        return DebugOverlay(path, info, self._device.download, status.warn)

    def _tracks_path(self, job: Job) -> Path:
        assert self._tracks is not None  # noqa: S101 - asked only where tracks are wanted
        return self._tracks / f"{job.name}.txt" if self._tracks.is_dir() else self._tracks


def _wait_all(futures: Sequence[Future[None]]) -> None:
    # A wait without a limit would keep Ctrl-C waiting too on some systems.
    while wait(futures, _WAIT_S).not_done:
        pass


@dataclass(frozen=True, slots=True)
class StreamEnds:
    """Both ends of a stream."""

    source: FrameSource
    sink: FrameSink


def _disk_teller(job: Job, status: StreamStatus, output: OutputSettings) -> Callable[[bool], None]:
    def tell(full: bool) -> None:
        if full:
            text = (
                f"{job.output}: no space is left; waiting up to {output.disk_wait_s:g} s for some"
            )
            status.warn(text)
            log_event("disk_full", text, stream=job.name, level=logging.WARNING)
        else:
            text = f"{job.output}: there is space again"
            log_event("disk_has_space", text, stream=job.name, level=logging.WARNING)

    return tell


def _add_notes(status: StreamStatus, ends: StreamEnds) -> None:
    notes = (*status.snapshot().warnings, *ends.source.warnings, *ends.sink.warnings)
    partial = ends.sink.partial_path
    status.update(
        warnings=tuple(dict.fromkeys(notes)),
        partial_output=str(partial) if partial else "",
    )
