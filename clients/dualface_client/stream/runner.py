"""Runs the jobs of one process: opens, loops and closes each stream, and keeps failures apart."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from dualface_client.decisions.pool import Deciders
from dualface_client.errors import DeciderLostError, DualfaceError, EncoderError, StoppedError
from dualface_client.fibers import Fibers, task_name
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.observe.stage_clock import StageClock
from dualface_client.observe.traces import Traces
from dualface_client.observe.track_log import TrackLog
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.controls import Outside
from dualface_client.stream.device import Device, StreamDevice
from dualface_client.stream.job import Job, ending, finished
from dualface_client.stream.live import (
    LiveFigures,
    connection_teller,
    live_decoder,
    live_input,
    live_settings,
    live_targets,
    make_directories,
    open_live_sink,
)
from dualface_client.stream.look import Look, Seating, seating
from dualface_client.stream.loop import StreamLoop, StreamParts
from dualface_client.stream.overlay import DebugOverlay, overlay_path
from dualface_client.stream.pacing import Pacing, Unpaced
from dualface_client.stream.pins import PinnedPhotos
from dualface_client.stream.rehearsal import (
    BlackSource,
    black_picture,
    one_face_px,
    picture_by_picture,
)
from dualface_client.stream.seams import FaceDetector, FaceEmbedder, FrameSink, FrameSource
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.staging import StagedJob, staged
from dualface_client.stream.stop import Stop
from dualface_client.stream.turns import Turns
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.live_source import LiveSource
from dualface_client.video.null_sink import NullSink

#: How often a stream that is held back asks again.
_ADMIT_POLL_S = 0.2
_WAIT_S = 1.0
#: Frames of a stack trace, the innermost ones.
_TRACE_LIMIT = -40
#: Who sits where in a stream; the first call finds it out.
_Seats = Callable[[], Seating]


@dataclass(frozen=True, slots=True)
class LiveModels:
    """The models for streams that do not wait."""

    detector: FaceDetector
    embedder: FaceEmbedder


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a worker, shared by its streams.

    Attributes:
        detector: Finds faces.
        embedder: Recognises them.
        photos: Of people who are pinned.
        live: The same models for live streams; None if there is no difference.
    """

    detector: FaceDetector
    embedder: FaceEmbedder
    photos: PinnedPhotos = field(default_factory=PinnedPhotos)
    live: LiveModels | None = None


@dataclass(frozen=True, slots=True)
class StreamRun:
    """One stream being processed.

    Attributes:
        job: What to do.
        status: Kept up to date.
        stop: Asked from outside to end early.
        settings: How to process.
        device: Its share of the device.
        clock: Gets the time of each stage.
        outside: What people outside want of it.
        prepared: To be called when everything that it needs was tried.
    """

    job: Job
    status: StreamStatus
    stop: Stop
    settings: StreamSettings
    device: StreamDevice
    clock: StageClock
    outside: Outside
    prepared: Callable[[], None]

    def warn(self, event: str, text: str) -> None:
        """Adds a note to the report and the log."""
        self.status.warn(text)
        log_event(event, text, stream=self.job.name, level=logging.WARNING)


class Runner:
    """Runs jobs, several at a time.

    Args:
        setup: What the worker was told.
        device: Lends a share to each stream.
        models: Connected models.
        pacing: Says whether streams may start and how many requests they keep under way.
        deciders: Opens the streams' decisions; on their own threads if not given.
        traces: Where traces of frames go; nowhere if not given.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        device: Device,
        models: Models,
        pacing: Pacing | None = None,
        deciders: Deciders | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._setup = setup
        self._device = device
        self._models = models
        self._pacing = pacing or Unpaced()
        self._deciders = deciders or Deciders(0)
        self._traces = traces or Traces(setup.trace)
        self._turns, self._fibers = Turns(), Fibers()
        self._starting = threading.Lock()
        self._running = self._rehearsed = self._preparing = 0

    def run(self, jobs: Sequence[Job], statuses: Sequence[StreamStatus], stop: Stop) -> None:
        """Runs every job that may be tried; failures end up in the statuses, never here.

        Args:
            jobs: Of the run.
            statuses: From `new_statuses`, kept up to date.
            stop: Asked from outside to end early: streams leave playable partial files. Also asked
                here if an exception such as `KeyboardInterrupt` ends the wait for them.
        """
        with ThreadPoolExecutor(self._setup.streams, thread_name_prefix="stream") as pool:
            futures = []
            try:
                for job, status in zip(jobs, statuses, strict=True):
                    if status.snapshot().state not in FINAL_STATES:
                        futures.append(pool.submit(self.run_job, job, status, stop))
                _wait_all(futures)
            except BaseException:  # Ctrl-C in a program without a handler of its own
                stop.ask()
                _wait_all(futures)
                raise
        for future in futures:
            future.result()

    def run_job(
        self, job: Job, status: StreamStatus, stop: Stop, outside: Outside | None = None
    ) -> None:
        """Runs one job; how it ended is in its status.

        Args:
            job: One that may be tried.
            status: Its own, kept up to date.
            stop: Asked from outside to end early.
            outside: What people outside want of it; its controls are closed at the end.
        """
        outside = outside or Outside()
        try:
            self._run_job(job, status, stop, outside)
        finally:
            outside.controls.close()

    def _run_job(self, job: Job, status: StreamStatus, stop: Stop, outside: Outside) -> None:
        if not self._may_start(status, stop):
            status.update(**ending(stop.error))
            return
        try:
            self._run_started(job, status, stop, outside)
        finally:
            with self._starting:
                self._running -= 1

    def _may_start(self, status: StreamStatus, stop: Stop) -> bool:
        """Waits while streams are held back; one stream runs in any case. False to stop."""
        while not stop.is_asked:
            with self._starting:
                is_admitted = self._running == 0 or self._pacing.admit()
                self._running += is_admitted
                running = self._running
            if is_admitted:
                self._deciders.expect(running)
                return True
            status.warn("started later than it could have been: the machine was at its limit")
            stop.event.wait(_ADMIT_POLL_S)
        return False

    def _run_started(self, job: Job, status: StreamStatus, stop: Stop, outside: Outside) -> None:
        threading.current_thread().name = f"stream {job.name}"  # leases are reported by this name
        started = time.monotonic()
        clock = StageClock()
        status.update(state="running")
        settings = job.settings or self._setup.settings
        is_live = job.is_live(settings)
        if is_live:
            settings = live_settings(settings)
        try:
            with (
                self._in_preparation(is_live=is_live) as prepared,
                staged(job, stop) as local,
                self._device.lend_stream() as device,
            ):
                run = StreamRun(local.job, status, stop, settings, device, clock, outside, prepared)
                # Once, and not before the source is open, however often the stream starts again.
                seats = functools.cache(functools.partial(self._seating, run))
                missing = self._process_staged(local, run, seats)
            outcome = ending(stop.error) if missing is None else finished(missing)
        except StoppedError as error:
            outcome = ending(stop.error or error)
        except DualfaceError as error:
            outcome = ending(error)
        except Exception as error:  # a stream must never take the others with it
            outcome = {"state": "failed", "exit_code": 1, **self._unexpected(job, error)}
        # One change, so that nobody sees half of the end.
        status.update(**outcome, elapsed_s=time.monotonic() - started, stages=clock.totals())

    @contextmanager
    def _in_preparation(self, *, is_live: bool) -> Iterator[Callable[[], None]]:
        """Counts a live stream as one that is being prepared until it says that it is."""
        with ExitStack() as counted:
            if is_live:
                counted.callback(self._count_preparing, -1)
                self._count_preparing(1)
            yield counted.close

    def _count_preparing(self, step: int) -> None:
        with self._starting:
            self._preparing += step

    def _process_staged(self, local: StagedJob, run: StreamRun, seats: _Seats) -> str | None:
        """Processes the job and publishes its output where that belongs into a store."""
        try:
            missing = self._process_again(run, seats)
            if missing is not None:
                local.publish(replace=run.settings.output.overwrite)
        except DualfaceError as error:
            error.args = (local.in_the_users_words(str(error)),)
            raise
        finally:
            if local.given.output_url:
                run.status.update(partial_output="")
        return missing

    def _process_again(self, run: StreamRun, seats: _Seats) -> str | None:
        """Processes the job; if the device's memory is full, frees its caches and tries again.

        Only once: if it is full then, others fill it, and only this stream fails. The same where
        the process that decides for a file dies; a live stream fails, as it has no beginning.
        """
        try:
            return self._process_with(run, seats)
        except DeciderLostError as error:
            if run.stop.is_asked:
                raise StoppedError(f"stopped; {error}") from error
            if run.job.is_live(run.settings):
                raise
            event, text = "decider_lost", f"{error}; started again from the beginning"
        except Exception as error:
            if not self._device.is_out_of_memory(error):
                raise
            event = "out_of_memory"
            text = f"the device's memory was full ({error}); started again from the beginning"
        # After the handler, because the error's traceback held the first attempt's frames.
        self._device.free_caches()
        run.warn(event, text)
        return self._process_with(run, seats)

    def _unexpected(self, job: Job, error: Exception) -> dict[str, str]:
        if self._device.is_out_of_memory(error):
            text = (
                f"{job.shown_input}: the device's memory is full, even after its caches were freed "
                f"({error}). Remedy: fewer --streams, --on-oom queue, a lower --vram-limit"
            )
            return {"error": text, "failure": "OutOfMemory"}
        trace = "".join(traceback.format_exception(error, limit=_TRACE_LIMIT))
        return {
            "error": f"{job.shown_input}: unexpected {error!r}",
            "trace": trace,
            "failure": type(error).__name__,
        }

    def _process_with(self, run: StreamRun, seats: _Seats) -> str | None:
        """Processes the job; once more with another encoder if the first one fails."""
        try:
            return self._process(run, run.settings.output, seats)
        except EncoderError as error:
            run.warn("encoder_failed", f"{error}; started again from the beginning with x264")
            # One thread, so that an x264 that failed is not started in the same way again.
            other = replace(run.settings.output, encoder="x264", encoder_threads=1)
            return self._process(run, other, seats)

    def _process(self, run: StreamRun, output: OutputSettings, seats: _Seats) -> str | None:
        """Opens, loops, closes.

        Returns:
            None for an output that was not finished; else what the input lacked, usually nothing.
        """
        if run.job.is_live(run.settings):
            return self._process_live(run, output, seats)
        track = run.settings.input.video_track
        with closing(run.device.open_source(run.job.input, track)) as source:
            run.status.update(frames_expected=source.info.frame_count)
            for note in source.info.notes:
                run.status.warn(note)
            patience = DiskWait(output.disk_wait_s, run.stop.event, _disk_teller(run, output))
            sink = run.device.open_sink(run.job, source.info, output, patience)
            return self._to_end(run, source, sink, seats)

    def _process_live(self, run: StreamRun, output: OutputSettings, seats: _Seats) -> str | None:
        """The same for a live stream, whose outputs are whole however it ends."""
        place, targets = live_input(run.job, run.settings.input), live_targets(run.job, output)
        run.status.update(live=True, phase="preparing")
        self._prepare_live(run)
        run.status.update(phase="connecting")
        decoder, tell = live_decoder(run, place), connection_teller(run)
        with closing(LiveSource(place, run.stop.event, tell, device=decoder)) as live:
            source = run.device.to_device(live)
            for note in source.info.notes:
                run.status.warn(note)
            if output.encoder == "none" or not targets:
                return self._to_end(run, source, NullSink(), seats, LiveFigures(live, None))
            make_directories(run.job)
            sink = open_live_sink(run, live, targets, output)
            figures = LiveFigures(live, sink)
            return self._to_end(run, source, run.device.to_host(sink), seats, figures)

    def _prepare_live(self, run: StreamRun) -> None:
        """Tries everything that a live stream needs, unless others have tried as much of it.

        Returns when no live stream of the process is being prepared: a camera that was connected
        meanwhile would lose pictures to what compilers and allocations hold up.
        """
        with self._starting:
            is_needed = self._running > self._rehearsed
            self._rehearsed += is_needed
        if is_needed:
            self._rehearse(run)
        run.prepared()
        while self._preparing and not run.stop.is_asked:
            run.stop.event.wait(_ADMIT_POLL_S)

    def _rehearse(self, run: StreamRun) -> None:
        """Nothing of it is counted as the stream's, and what is wrong the stream itself says."""
        settings, stop, imaging = run.settings, run.stop, run.device.imaging
        detector, embedder = self._models.detector, self._models.embedder
        with contextlib.suppress(Exception):  # the stream fails in the same way, or does not
            picture = black_picture()
            sink = (
                NullSink() if settings.output.encoder == "none" else run.device.to_host(NullSink())
            )
            with closing(run.device.to_device(BlackSource(picture))) as source:
                parts = StreamParts(
                    source, sink, imaging, detector, embedder, deciders=self._deciders.open
                )
                status = StreamStatus(StreamReport(run.job.name, "", ""))
                settings = picture_by_picture(settings)
                StreamLoop(parts, settings, status, stop.event, StageClock()).run()
            if settings.tracking.reid != "never" and not stop.is_asked:
                embedder.embed(imaging.upload_tile(picture), one_face_px(), imaging)
        with contextlib.suppress(Exception):  # the CPU decodes then, which the stream says
            if not stop.is_asked:
                run.device.rehearse_decoding()

    def _to_end(
        self,
        run: StreamRun,
        source: FrameSource,
        sink: FrameSink,
        seats: _Seats,
        live: LiveFigures | None = None,
    ) -> str | None:
        """Takes every frame from source to sink and ends the sink; returns as `_process`."""
        complete = False
        try:
            complete = self._drain(run, source, sink, seats, live)
        finally:
            if not complete:
                sink.abort()
            _add_notes(run.status, source, sink)
            if live is not None:
                run.status.update(outputs=live.outputs, phase="")
        return source.incomplete if complete else None

    def _drain(
        self,
        run: StreamRun,
        source: FrameSource,
        sink: FrameSink,
        seats: _Seats,
        live: LiveFigures | None,
    ) -> bool:
        """Takes every frame from source to sink; returns whether the output is complete."""
        models = (live and self._models.live) or self._models
        with ExitStack() as stack:
            tracks = None
            if self._setup.tracks is not None:
                tracks = TrackLog(_tracks_path(self._setup.tracks, run.job))
                stack.callback(tracks.close)
            seating = seats()
            overlay = self._open_overlay(run, source)
            parts = StreamParts(
                source,
                sink,
                run.device.imaging,
                models.detector,
                models.embedder,
                tracks=tracks,
                pacing=self._pacing,
                overlay=overlay,
                seating=seating,
                live=live,
                deciders=self._deciders.open,
                controls=run.outside.controls,
                tap=run.outside.tap,
                download=run.device.download,
                traces=self._traces.of(run.job.name),
                turns=self._turns,
            )
            complete = False
            try:
                loop = StreamLoop(parts, run.settings, run.status, run.stop.event, run.clock)
                self._run_loop(run, loop, source)
                if not run.stop.is_asked:
                    with run.clock.stage("finish"):
                        complete = sink.close(run.stop.event.is_set)
            finally:
                if overlay is not None:
                    overlay.close(complete=complete)
        return complete

    def _run_loop(self, run: StreamRun, loop: StreamLoop, source: FrameSource) -> None:
        """Runs a loop to its end: side by side with others where it leaves the thread little to do.

        That is where the GPU decodes its file and another process decides.
        """

        def current() -> None:
            run.device.make_current()
            loop.run()

        is_light = self._deciders.count > 0 and self._setup.overlay is None
        if is_light and source.is_short_to_read and not run.job.is_live(run.settings):
            self._fibers.run(current, task_name())
        else:
            loop.run()

    def _seating(self, run: StreamRun) -> Seating:
        """Who sits where from the first frame on: by photos, and by a look through the file."""
        models, tracking = self._models, run.settings.tracking
        imaging = run.device.imaging
        pins = models.photos.pins(tracking, imaging, models.detector, models.embedder)
        if not run.settings.cast.enabled or tracking.reid == "never":
            return Seating(pins=pins)
        look = Look(imaging, models.detector, models.embedder, run.settings, run.stop.event.is_set)
        run.status.update(phase="looking")
        try:
            with run.clock.stage("look"), ExitStack() as stack:
                track = run.settings.input.video_track
                file = stack.enter_context(closing(run.device.open_glimpses(run.job.input, track)))
                seats = seating(look.through(file), tracking, pins)
        except StoppedError:
            raise
        except Exception as error:
            if self._device.is_out_of_memory(error):
                raise
            # What the look would have told is found out while the frames pass.
            text = f"the look for the people of the video failed: {error}"
            run.warn("look_failed", f"{text}; it is processed without it")
            return Seating(pins=pins)
        finally:
            run.status.update(phase="")
        for note in seats.notes:
            run.status.warn(note)
        return seats

    def _open_overlay(self, run: StreamRun, source: FrameSource) -> DebugOverlay | None:
        if self._setup.overlay is None:
            return None
        path = overlay_path(self._setup.overlay, run.job)
        layout = run.settings.output.tile_layout
        return DebugOverlay(path, source.info, layout, run.device.download, run.status.warn)


def _tracks_path(tracks: Path, job: Job) -> Path:
    return tracks / f"{job.name}.txt" if tracks.is_dir() else tracks


def _wait_all(futures: Sequence[Future[None]]) -> None:
    # On some systems, a wait without a limit would also keep Ctrl-C waiting.
    while wait(futures, _WAIT_S).not_done:
        pass


def _disk_teller(run: StreamRun, output: OutputSettings) -> Callable[[bool], None]:
    def tell(full: bool) -> None:
        if full:
            run.warn(
                "disk_full",
                f"{run.job.output}: no space is left; waiting up to {output.disk_wait_s:g} s for "
                "some",
            )
        else:
            text = f"{run.job.output}: there is space again"
            log_event("disk_has_space", text, stream=run.job.name, level=logging.WARNING)

    return tell


def _add_notes(status: StreamStatus, source: FrameSource, sink: FrameSink) -> None:
    notes = (*status.snapshot().warnings, *source.warnings, *sink.warnings)
    partial = sink.partial_path
    status.update(
        warnings=tuple(dict.fromkeys(notes)), partial_output=str(partial) if partial else ""
    )
