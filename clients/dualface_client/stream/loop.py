"""One stream's loop: frames in, tiles out.

    source -> [reader thread] -> detect -> decide -> compose -> [writer thread] -> sink

Decoding, inference in flight, composing and encoding overlap; order is kept; every queue is
bounded. The loop does not know the device: it is given parts (`stream.seams`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import TypeVar

from dualface_client.decisions.decider import (
    Brief,
    CloserLook,
    Deciding,
    Decision,
    Inline,
    Seen,
)
from dualface_client.decisions.window import MAX_LOOKAHEAD_FRAMES
from dualface_client.errors import (
    InferenceFailedError,
    InferenceTimeoutError,
    LeaseTimeoutError,
    ServerError,
    SourceError,
    StaleOutputError,
    StoppedError,
)
from dualface_client.fibers import is_fiber, task_name
from dualface_client.observe.latency import LatencyMeter
from dualface_client.observe.report import StreamStatus
from dualface_client.observe.stage_clock import StageClock
from dualface_client.observe.traces import FrameTraces
from dualface_client.observe.track_log import TrackLog
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.canvases import CanvasMaker
from dualface_client.stream.controls import Controls
from dualface_client.stream.gaps import Gaps, frames_per_look, longest_s, strides
from dualface_client.stream.load import composed_at_once, frames_that_may_wait
from dualface_client.stream.look import Seating
from dualface_client.stream.overlay import DebugOverlay
from dualface_client.stream.pacing import Pacing, Unpaced
from dualface_client.stream.preview import PreviewTap
from dualface_client.stream.seams import (
    FaceDetector,
    FaceEmbedder,
    FrameSink,
    FrameSource,
    Imaging,
    LiveReporting,
    PendingFaces,
)
from dualface_client.stream.threads import AtOnce, Reader, Spawned, Writer
from dualface_client.stream.turns import Turn, Turns
from dualface_client.types import (
    ByteArray,
    Embeddings,
    Faces,
    FloatArray,
    Frame,
    IntArray,
    Nv12Image,
    Side,
)

T = TypeVar("T")

_REPORT_EVERY_S = 0.1
#: How long a frame of a live stream waits where newer ones wait, too: in frames' time, at least.
#: Neighbours take 60 ms now and then, and a decoder that is opened 150.
_LIVE_WAIT_FRAMES, _LIVE_WAIT_S = 1.5, 0.15
#: Frames per second of a live stream that does not say.
_USUAL_RATE = 25
#: Frames of a live stream that the server may refuse one after the other.
_MISSED_LIMIT = 100


@dataclass(frozen=True, slots=True)
class StreamParts:
    """Everything a loop works with; it owns none of it.

    Attributes:
        source: Opened source.
        sink: Opened sink.
        imaging: Pixel work of the frames' device.
        detector: Shared by the worker's streams.
        embedder: Shared by the worker's streams.
        tracks: Where tracks are written, None for nowhere.
        pacing: Says how many requests to keep under way.
        overlay: Where what was decided is drawn on the source, None for nowhere.
        seating: Who sits where from the first frame on.
        live: What is known of a live source; None for a file, which waits for its frames.
        deciders: Opens the stream's decisions.
        controls: What somebody wants to be changed while it runs.
        tap: Where somebody who looks sees it.
        download: Brings a picture to the host, for the tap.
        traces: Of some of its frames.
        turns: Reads sources that are short to read; None gives each a thread of its own.
    """

    source: FrameSource
    sink: FrameSink
    imaging: Imaging
    detector: FaceDetector
    embedder: FaceEmbedder
    tracks: TrackLog | None = None
    pacing: Pacing = field(default_factory=Unpaced)
    overlay: DebugOverlay | None = None
    seating: Seating = field(default_factory=Seating)
    live: LiveReporting | None = None
    deciders: Callable[[Brief, StageClock, Callable[[], None]], Deciding] = Inline
    controls: Controls = field(default_factory=Controls)
    tap: PreviewTap = field(default_factory=PreviewTap)
    download: Callable[[Nv12Image], Nv12Image] = lambda image: image
    traces: FrameTraces = field(default_factory=FrameTraces)
    turns: Turns | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    strides: list[list[Frame]]
    pending: PendingFaces


@dataclass(frozen=True, slots=True)
class _Detected:
    frames: list[Frame]
    faces: list[Faces]
    thumbnails: list[ByteArray]


@dataclass(frozen=True, slots=True)
class _Framed:
    frame: Frame
    decision: Decision


class StreamLoop:
    """Runs one stream to its end, its failure or a stop.

    Args:
        parts: What to work with.
        settings: How.
        status: Kept up to date while the loop runs.
        stop: Set from outside to end early; the sink is then left to the caller.
        clock: Gets the time of each stage.
    """

    def __init__(
        self,
        parts: StreamParts,
        settings: StreamSettings,
        status: StreamStatus,
        stop: threading.Event,
        clock: StageClock,
    ) -> None:
        self._parts = parts
        self._settings = settings
        self._status = status
        self._stop = stop
        self._clock = clock
        layout = settings.output.tile_layout
        self._decider = parts.deciders(self._brief(), clock, self._check)
        self._canvases = CanvasMaker(parts.imaging, layout, settings.framing.missing, status.warn)
        every, rate = self._frames_per_look(), parts.source.info.frame_rate
        self._live_wait_s, self._live_waiting = live_wait(float(rate or _USUAL_RATE))
        self._gaps = None if every == 1 else Gaps(settings.tracking.scene, longest_s(every, rate))
        self._counts: Counter[str] = Counter()
        self._reid_causes: set[str] = set()
        self._latency, self._traces = LatencyMeter(), parts.traces
        self._told = (0, 0)  # who sits left and right
        self._missed_in_a_row = 0
        self._closing = False
        self._started = self._report_at_s = time.monotonic()

    def run(self) -> None:
        """Processes every frame; returns early if `stop` is set.

        Raises:
            DualfaceError: The source, the server or the sink failed. Frames before the failure
                have been handed to the sink.
        """
        queues = self._settings.queues
        decoded = self._clock.timed("decode", self._traces.decoding(self._parts.source))
        info = self._parts.source.info
        ahead = min(queues.frames_ahead, frames_that_may_wait(info.width_px, info.height_px))
        reader: Reader[Frame] | Turn[Frame]
        if self._parts.live is None:
            reader = self._reader(decoded, ahead)
        else:
            reader = Reader(
                self._entered(decoded),
                ahead=min(self._live_waiting, frames_that_may_wait(info.width_px, info.height_px)),
                name="decode",
                dropped=self._fell_behind,
                is_stale=self._is_stale,
            )
        writer: Writer[Frame] | AtOnce[Frame]
        if self._parts.sink.is_short_to_write:
            writer = AtOnce(self._encode)
        else:
            writer = Writer(self._encode, behind=queues.frames_behind, name="encode")
        detected = self._ahead(self._detected(self._counted(reader)))
        try:
            framed = self._framed(detected)
            limit = frames_that_may_wait(info.width_px, info.height_px)
            drawn_at_once = min(composed_at_once(self._settings), limit)
            for frames in _runs(framed, lambda: drawn_at_once):
                for canvas in self._drawn(frames):
                    writer.put(canvas)
                self._report_now_and_then()
            writer.finish()
        except StoppedError:
            writer.finish()  # a wait for the server was interrupted: keep what is composed
        except SourceError:
            writer.finish()  # of what could be read nothing is lost
            raise
        finally:
            self._closing = True
            reader.close()
            detected.close()
            writer.close()
            self._traces.close()
            self._count_stopped()
            self._report()
            try:
                self._tell_account()
            finally:
                self._decider.close()

    def _tell_account(self) -> None:
        told = self._decider.account()
        self._status.update(timeline=told.timeline)
        for note in told.notes:
            self._status.warn(note)

    def _reader(self, decoded: Iterable[Frame], ahead: int) -> Reader[Frame] | Turn[Frame]:
        source, turns = self._parts.source, self._parts.turns
        if turns is None or not source.is_short_to_read:
            return Reader(decoded, ahead=ahead, name="decode")
        return turns.read(decoded, ahead=ahead, is_short=lambda: source.is_short_to_read)

    def _ahead(self, detected: Generator[_Detected]) -> Spawned[_Detected] | Generator[_Detected]:
        """Detects one request ahead of what is decided, where that costs no thread."""
        return Spawned(detected, task_name()) if is_fiber() else detected

    def _check(self) -> None:
        """Ends a wait that takes long, where somebody wants to stop.

        Raises:
            StoppedError: Somebody does.
        """
        if self._stop.is_set():
            raise StoppedError("stopped while waiting for decisions")

    def _counted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if self._stop.is_set():
                return
            if self._parts.live is None:
                self._counts["in"] += 1
                self._latency.enter(frame.index)
            yield frame

    def _entered(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Frames of a live source, on its thread: their time runs while they wait, too."""
        for frame in frames:
            self._counts["in"] += 1
            self._latency.enter(frame.index)
            yield frame

    def _fell_behind(self, frame: Frame) -> None:
        """A newer frame of a live source came before this one was taken."""
        self._counts["behind"] += 1
        self._latency.forget(frame.index)
        self._traces.end(frame.index, "behind")

    def _is_stale(self, frame: Frame) -> bool:
        return self._latency.age_s(frame.index) > self._live_wait_s

    def _reach(self, frames: Iterable[Frame], stage: str) -> None:
        for frame in frames:
            self._traces.reach(frame.index, stage)

    def _count_stopped(self) -> None:
        """Counts the live frames that were on their way when the stream ended."""
        if self._parts.live is not None:
            written_or_not = self._counts["out"] + self._counts["behind"]
            self._counts["stopped"] = self._counts["in"] - written_or_not

    def _detected(self, frames: Iterable[Frame]) -> Generator[_Detected]:
        """Keeps requests in flight and yields their frames with the faces, in order."""
        in_flight: deque[_Batch] = deque()
        every = self._frames_per_look()
        batches = _runs(strides(frames, every), lambda: self._requests()[1])
        error: Exception | None = None
        while True:
            try:
                batch = next(batches)
            except StopIteration:  # the source has ended
                break
            except Exception as failure:  # raised after the answers that are on their way
                error = failure
                break
            for frame in (frame for stride in batch for frame in stride):
                self._latency.send(frame.index)
                self._traces.reach(frame.index, "detect")
            in_flight.append(_Batch(batch, self._submitted([stride[-1] for stride in batch])))
            while len(in_flight) >= self._requests()[0]:
                yield self._finished(in_flight.popleft())
        # Requests left behind by a stop or an error keep their slots until they are answered.
        # A live stream has no other end than a stop, and only one request.
        is_live = self._parts.live is not None
        while in_flight and not self._closing and (is_live or not self._stop.is_set()):
            yield self._finished(in_flight.popleft())
        if error is not None:
            raise error

    def _submitted(self, frames: Sequence[Frame]) -> PendingFaces:
        indices = [frame.index for frame in frames]
        with self._clock.stage("letterbox"), self._traces.carried_by(indices):
            images = [frame.image for frame in frames]
            return self._parts.detector.submit(images, self._parts.imaging)

    def _frames_per_look(self) -> int:
        """Of how many frames one goes to the detector."""
        if self._parts.live is not None:
            return 1  # nothing may wait for the next look
        info = self._parts.source.info
        limit = frames_that_may_wait(info.width_px, info.height_px)
        every = self._settings.detection.every or frames_per_look(info.frame_rate, limit)
        return min(every, limit)

    def _requests(self) -> tuple[int, int]:
        detection = self._settings.detection
        return self._parts.pacing.requests(detection.in_flight, detection.batch)

    def _finished(self, batch: _Batch) -> _Detected:
        try:
            results = self._answer(batch.pending)
        except (InferenceFailedError, InferenceTimeoutError) as error:
            self._miss(batch, error)
            return _Detected([], [], [])
        self._missed_in_a_row = 0
        found = _Detected([], [], [])
        found.frames.extend(frame for stride in batch.strides for frame in stride)
        self._reach(found.frames, "decide")
        images = [frame.image for frame in found.frames]
        found.thumbnails.extend(self._parts.imaging.thumbnails(images))
        first = 0
        for stride, faces in zip(batch.strides, results, strict=True):
            thumbnails = found.thumbnails[first : first + len(stride)]
            found.faces.extend((*self._filled(stride, thumbnails, faces), faces))
            first += len(stride)
        return found

    def _answer(self, pending: PendingFaces) -> list[Faces]:
        with self._clock.stage("wait"):
            results = pending.result()
        if pending.resends:
            self._counts["resends"] += pending.resends
            self._status.warn(
                "the server was restarted, or it or this program was suspended; what it had not "
                "answered was sent again"
            )
        self._counts["looked_at"] += len(results)
        self._counts["detections"] += sum(map(len, results))
        return results

    def _filled(
        self, stride: Sequence[Frame], thumbnails: Sequence[ByteArray], faces: Faces
    ) -> list[Faces]:
        """Faces of a stride's frames before the last, which was looked at."""
        if self._gaps is None:
            return []

        def look(rows: Sequence[int]) -> list[Faces]:
            size = self._requests()[1]
            wanted = [stride[row] for row in rows]
            parts = [wanted[first : first + size] for first in range(0, len(wanted), size)]
            return [each for part in parts for each in self._answer(self._submitted(part))]

        return self._gaps.fill([frame.time_s for frame in stride], thumbnails, faces, look)

    def _miss(self, batch: _Batch, error: ServerError) -> None:
        """Drops live frames that the server refused: it does so when it is too late for them.

        Raises:
            ServerError: The stream is not live, or too many were refused in a row.
        """
        self._missed_in_a_row += 1
        if self._parts.live is None or self._missed_in_a_row > _MISSED_LIMIT:
            raise error
        for frame in (frame for stride in batch.strides for frame in stride):
            self._fell_behind(frame)
        if self._missed_in_a_row == 1:  # the first one represents all
            self._status.warn("the server refused frames that came too late for it")

    def _brief(self) -> Brief:
        info, seating = self._parts.source.info, self._parts.seating
        return Brief(
            self._settings,
            (info.width_px, info.height_px),
            min(MAX_LOOKAHEAD_FRAMES, frames_that_may_wait(info.width_px, info.height_px)),
            seating.pins,
            seating.members,
            seating.join_s,
        )

    def _framed(self, detected: Iterable[_Detected]) -> Iterator[_Framed]:
        """Frames with what their canvases show, as soon as that is final."""
        waiting: deque[Frame] = deque()
        failure: SourceError | None = None
        try:
            for each in detected:
                self._parts.controls.obey_all(self._decider.obey)
                waiting.extend(each.frames)
                for decision in self._decided(each):
                    yield self._final(waiting.popleft(), decision)
        except SourceError as error:  # raised below: frames still wait for later ones
            failure = error
        for decision in self._decider.finish():
            yield self._final(waiting.popleft(), decision)
        if failure is not None:
            raise failure

    def _decided(self, detected: _Detected) -> Iterator[Decision]:
        preview = self._parts.imaging.preview
        seen = [
            Seen(frame.time_s, faces, thumbnail, partial(preview, frame.image))
            for frame, faces, thumbnail in zip(
                detected.frames, detected.faces, detected.thumbnails, strict=True
            )
        ]
        return self._decider.decide(seen, partial(self._look_closer, detected))

    def _final(self, frame: Frame, decision: Decision) -> _Framed:
        """Records what no later frame can change any more."""
        self._counts["scene_cuts"] += decision.scene_cut
        self._tell_sides(decision.identities)
        if self._parts.tracks is not None:
            self._parts.tracks.add(frame.index, decision.assignment)
        if self._parts.overlay is not None:
            with self._clock.stage("overlay"):
                self._parts.overlay.add(frame, decision.assignment, decision.plan.views)
        return _Framed(frame, decision)

    def _drawn(self, frames: Sequence[_Framed]) -> list[Frame]:
        images, plans = (
            [each.frame.image for each in frames],
            [each.decision.plan for each in frames],
        )
        on_their_way = [each.frame for each in frames]
        self._reach(on_their_way, "compose")
        with self._clock.stage("compose"):
            canvases = self._canvases.draw(images, plans)
        self._reach(on_their_way, "encode")
        if self._parts.tap.is_due:
            self._show(frames[-1], canvases[-1])
        pairs = zip(frames, canvases, strict=True)
        return [replace(each.frame, image=canvas) for each, canvas in pairs]

    def _show(self, framed: _Framed, canvas: Nv12Image) -> None:
        """Shows a frame to somebody who looks, which is no reason for a stream to fail."""
        download, tap = self._parts.download, self._parts.tap
        try:
            with self._clock.stage("preview"):
                tap.show(download(framed.frame.image), download(canvas), framed.decision.assignment)
        except Exception as error:
            self._status.warn(f"the live picture failed: {error}")

    def _look_closer(self, detected: _Detected, index: int, rows: IntArray) -> CloserLook:
        """Embeds faces of one frame."""
        frame, faces = detected.frames[index], detected.faces[index]
        with self._clock.stage("reid"):
            found = self._embed(frame, faces.landmarks_px[rows])
            values = self._parts.imaging.sharpness(frame.image, faces.boxes_xyxy_px[rows])
        return CloserLook(found, values)

    def _embed(self, frame: Frame, landmarks_px: FloatArray) -> Embeddings | None:
        """Embeddings, or None if the server could not provide them: motion then decides."""
        self._counts["reid_frames"] += 1
        self._counts["reid_faces"] += len(landmarks_px)
        try:
            with self._traces.carried_by([frame.index]):
                return self._parts.embedder.embed(frame.image, landmarks_px, self._parts.imaging)
        except StaleOutputError:
            raise  # a server whose answers are empty cannot be trusted at all
        except (ServerError, LeaseTimeoutError) as error:
            self._counts["reid_failures"] += 1
            # Messages of one cause differ only in figures: the first one represents all.
            if (cause := type(error).__name__) not in self._reid_causes:
                self._reid_causes.add(cause)
                self._status.warn(f"ReID failed, motion decides: {error}")
            return None

    def _encode(self, canvas: Frame) -> None:
        with self._clock.stage("encode"):
            self._parts.sink.write(canvas)
        self._latency.leave(canvas.index)
        self._traces.end(canvas.index)
        self._counts["out"] += 1

    def _tell_sides(self, identities: tuple[int, int]) -> None:
        if identities == self._told or not any(identities):
            return
        self._told = identities
        pairs = zip(identities, Side, strict=True)
        self._status.update(sides={one: side.value for one, side in pairs if one > 0})

    def _report_now_and_then(self) -> None:
        if time.monotonic() >= self._report_at_s:
            self._report_at_s = time.monotonic() + _REPORT_EVERY_S
            self._report()

    def _report(self) -> None:
        p50_s, p95_s, p99_s = self._latency.quantiles_s()
        latency, queue = self._latency.histograms()
        self._status.update(
            frames_in=self._counts["in"],
            frames_out=self._counts["out"],
            frames_looked_at=self._counts["looked_at"],
            detections=self._counts["detections"],
            reid_frames=self._counts["reid_frames"],
            reid_faces=self._counts["reid_faces"],
            reid_failures=self._counts["reid_failures"],
            scene_cuts=self._counts["scene_cuts"],
            compose_failures=self._canvases.failures,
            resends=self._counts["resends"],
            decode_errors=self._parts.source.decode_errors,
            elapsed_s=time.monotonic() - self._started,
            latency_p50_s=p50_s,
            latency_p95_s=p95_s,
            latency_p99_s=p99_s,
            latency=latency,
            queue=queue,
        )
        if self._parts.live is not None:
            own = {"behind": self._counts["behind"], "stopped": self._counts["stopped"]}
            self._status.update(**self._parts.live.report(self._counts["in"], own))


def live_wait(rate: float) -> tuple[float, int]:
    """How long a frame of a live stream may wait, seconds, and how many may at a time.

    Args:
        rate: Frames per second.
    """
    wait_s = max(_LIVE_WAIT_S, _LIVE_WAIT_FRAMES / rate)
    return wait_s, min(MAX_LOOKAHEAD_FRAMES, 1 + ceil(wait_s * rate))


def _runs(items: Iterable[T], size: Callable[[], int]) -> Iterator[list[T]]:
    """Consecutive lists of `size`, which may change meanwhile; the last may be shorter.

    Raises:
        Exception: What `items` raised, after the items before it.
    """
    run: list[T] = []
    try:
        for item in items:
            run.append(item)
            if len(run) >= size():
                yield run
                run = []
    except Exception:
        if run:
            yield run
        raise
    if run:
        yield run
