"""The loop with plain stand-ins at its seams: an iterator of frames, a fake detector, a list."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dualface_client.decisions.decider import Brief, Deciding, Inline
from dualface_client.decisions.pool import Deciders
from dualface_client.errors import (
    EncoderError,
    InferenceFailedError,
    InferenceTimeoutError,
    LeaseTimeoutError,
    PlatformError,
    SinkError,
    SourceError,
    StoppedError,
)
from dualface_client.fibers import Fibers, task_name
from dualface_client.observe.progress import result_lines
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.observe.stage_clock import StageClock
from dualface_client.observe.traces import FrameTraces, Traces
from dualface_client.observe.track_log import TrackLog
from dualface_client.request_headers import request_headers
from dualface_client.settings.program import TraceSettings
from dualface_client.settings.stream import (
    DetectionSettings,
    InputSettings,
    OutputSettings,
    QueueSettings,
    StreamSettings,
)
from dualface_client.stream.controls import Controls, Outside
from dualface_client.stream.device import Device, StreamDevice
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.live import live_decoder, live_input, live_settings
from dualface_client.stream.loop import StreamLoop, StreamParts, live_wait
from dualface_client.stream.preview import PreviewTap
from dualface_client.stream.runner import LiveModels, Models, Runner, StreamRun
from dualface_client.stream.seams import FrameSink, FrameSource, Glimpses, LiveReporting
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.stream.turns import Turns
from dualface_client.types import (
    ByteArray,
    Embeddings,
    Faces,
    FloatArray,
    Frame,
    Letterbox,
    Nv12Image,
    Rect,
    TileLayout,
    VideoInfo,
    View,
)
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.live_input import LiveInput
from dualface_client.video.null_sink import HostSink
from tests.media import Clip, make
from tests.processes import wait_until

SOURCE_WH = (320, 180)


def picture(index: int) -> Nv12Image:
    width, height = SOURCE_WH
    return Nv12Image(
        np.full((height, width), index % 256, np.uint8),
        np.full((height // 2, width // 2, 2), 128, np.uint8),
    )


@dataclass
class FakeSource:
    count: int
    fail_at: int = -1
    info: VideoInfo = field(
        default_factory=lambda: VideoInfo(*SOURCE_WH, Fraction(25), Fraction(1, 25))
    )
    decode_errors: int = 0
    is_short_to_read: bool = False
    incomplete: str = ""
    warnings: tuple[str, ...] = ("seen by the source",)
    closed: bool = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if index == self.fail_at:
                raise SourceError("the tape tore")
            yield Frame(index, index, Fraction(1, 25), picture(index))

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeSink:
    fail_at: int = -1
    frames: list[Frame] = field(default_factory=list)
    ended: str = ""
    is_short_to_write: bool = False
    partial_path: Path | None = None
    warnings: tuple[str, ...] = ()
    error: Exception = field(default_factory=lambda: SinkError("the disk melted"))

    def write(self, frame: Frame) -> None:
        if len(self.frames) == self.fail_at:
            raise self.error
        self.frames.append(frame)

    def close(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        self.ended = "cut short" if stopped() else "closed"
        return not stopped()

    def abort(self) -> None:
        self.ended = "aborted"


#: The thumbnail of a shot that does not change.
DETAILED = np.random.default_rng(90).integers(0, 256, (36, 64, 3), np.uint8)


class FakeImaging:
    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.previews = 0

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: Any
    ) -> None:
        raise AssertionError("the fake detector does not letterbox")

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: Any) -> None:
        raise AssertionError("the fake embedder does not cut chips")

    def thumbnail(self, image: Nv12Image) -> ByteArray:
        return DETAILED

    def thumbnails(self, images: Sequence[Nv12Image]) -> list[ByteArray]:
        return [self.thumbnail(image) for image in images]

    def preview(self, image: Nv12Image) -> ByteArray:
        self.previews += 1
        return np.full((180, 320), 90, np.uint8)

    def compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], canvas: TileLayout
    ) -> list[Nv12Image]:
        self.drawn.append(len(images))
        return list(images)

    def sharpness(self, image: Nv12Image, boxes_xyxy_px: FloatArray) -> FloatArray:
        return np.ones(len(boxes_xyxy_px), np.float32)

    def copy_tile(self, canvas: Nv12Image, area: Rect) -> Nv12Image:
        return canvas

    def put_tile(self, canvas: Nv12Image, area: Rect, tile: Nv12Image) -> None:
        raise AssertionError("no tile is missing here")

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        return tile

    def synchronize(self) -> None:
        pass


def without_size(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """All but the note on the fakes' small pictures."""
    return tuple(each for each in warnings if "a larger source" not in each)


def two_faces() -> Faces:
    boxes = np.array([[40, 40, 90, 110], [220, 40, 270, 110]], np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    landmarks = boxes[:, None, :2] + points * (boxes[:, 2:] - boxes[:, :2])[:, None, :]
    return Faces(boxes, np.full(2, 0.9, np.float32), landmarks)


@dataclass
class FakePending:
    faces: list[Faces]
    error: Exception | None
    resends: int = 0

    def result(self) -> list[Faces]:
        if self.error is not None:
            raise self.error
        return self.faces


@dataclass
class FakeDetector:
    fail_at: int = -1
    error: Exception = field(default_factory=lambda: InferenceFailedError("the model fainted"))
    seen: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
        error = self.error if len(self.batches) == self.fail_at else None
        self.seen += [int(image.y[0, 0]) for image in images]
        self.batches.append(len(images))
        return FakePending([two_faces() for _ in images], error)


@dataclass
class FakeEmbedder:
    fails: bool = False
    errors: Iterator[Exception] = field(default_factory=lambda: iter(()))
    model_version: str = "fake/1"
    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return len(self.asked)

    def embed(self, image: Nv12Image, landmarks_px: FloatArray, imaging: object) -> Embeddings:
        self.asked.append((len(landmarks_px), image.y.shape))
        for error in self.errors:
            raise error
        if self.fails:
            raise InferenceFailedError("no embedding today")
        vectors = np.zeros((len(landmarks_px), 128), np.float32)
        for row, points in zip(vectors, landmarks_px, strict=True):
            row[int(points[0, 0] > SOURCE_WH[0] / 2)] = 1.0
        return Embeddings(vectors, self.model_version)


@dataclass
class Stage:
    """A loop and all its stand-ins."""

    source: FakeSource
    sink: FakeSink = field(default_factory=FakeSink)
    detector: FakeDetector = field(default_factory=FakeDetector)
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)
    stop: threading.Event = field(default_factory=threading.Event)
    status: StreamStatus = field(default_factory=lambda: StreamStatus(StreamReport("s", "i", "o")))
    tracks: TrackLog | None = None
    imaging: FakeImaging = field(default_factory=FakeImaging)
    live: LiveReporting | None = None
    controls: Controls = field(default_factory=Controls)
    tap: PreviewTap = field(default_factory=PreviewTap)
    deciders: Callable[[Brief, StageClock, Callable[[], None]], Deciding] = Inline
    traces: FrameTraces = field(default_factory=FrameTraces)
    turns: Turns = field(default_factory=Turns)
    fibers: Fibers = field(default_factory=Fibers)

    def run(self, settings: StreamSettings | None = None) -> None:
        parts = StreamParts(
            self.source,
            self.sink,
            self.imaging,
            self.detector,
            self.embedder,
            self.tracks,
            controls=self.controls,
            tap=self.tap,
            traces=self.traces,
        )
        parts = replace(parts, live=self.live, deciders=self.deciders, turns=self.turns)
        loop = StreamLoop(parts, settings or StreamSettings(), self.status, self.stop, StageClock())
        if self.source.is_short_to_read:
            self.fibers.run(loop.run, "s")
        else:
            loop.run()


def with_detection(**changes: Any) -> StreamSettings:
    return StreamSettings(detection=replace(DetectionSettings(), **{"every": 1, **changes}))


#: As a thread of its own, and as one of the fibers of a thread.
WAYS = pytest.mark.parametrize("is_fiber", [False, True], ids=["thread", "fiber"])


@WAYS
@pytest.mark.parametrize(("size", "depth"), [(1, 1), (1, 4), (4, 1), (3, 2), (16, 8)])
def test_every_frame_comes_out_once_and_in_order(size: int, depth: int, is_fiber: bool) -> None:
    stage = Stage(FakeSource(50, is_short_to_read=is_fiber))
    stage.run(with_detection(frames_per_request=size, requests_in_flight=depth))
    assert [frame.index for frame in stage.sink.frames] == list(range(50))
    assert [frame.pts for frame in stage.sink.frames] == list(range(50))
    assert stage.detector.seen == list(range(50))
    assert max(stage.detector.batches) == size
    report = stage.status.snapshot()
    assert (report.frames_in, report.frames_out, report.detections) == (50, 50, 100)
    assert report.sides == {1: "left", 2: "right"}
    assert 38 <= stage.imaging.previews < 50  # of a still camera not every one after 1.5 s


def test_results_do_not_depend_on_batch_or_depth(tmp_path: Path) -> None:
    logs = []
    for size, depth, is_fiber in ((1, 1, False), (7, 5, False), (7, 1, True)):
        path = tmp_path / "tracks.txt"
        stage = Stage(FakeSource(40, is_short_to_read=is_fiber), tracks=TrackLog(path))
        stage.run(with_detection(frames_per_request=size, requests_in_flight=depth))
        assert stage.tracks is not None
        stage.tracks.close()
        logs.append(path.read_text())
    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0].splitlines()) == 80


def test_canvases_of_one_answer_are_drawn_together() -> None:
    stage = Stage(FakeSource(60))
    stage.run(with_detection(frames_per_request=8))
    assert stage.imaging.drawn == [8] * 7 + [4]
    single = Stage(FakeSource(5))
    single.run(with_detection(frames_per_request=1))
    assert single.imaging.drawn == [1] * 5
    many = Stage(FakeSource(17))
    many.run(with_detection(frames_per_request=16))
    assert many.imaging.drawn == [8, 8, 1]


def test_frames_that_wait_to_be_drawn_together_survive_a_failure() -> None:
    stage = Stage(FakeSource(40), detector=FakeDetector(fail_at=3))
    settings = with_detection(frames_per_request=5, requests_in_flight=1)
    settings = replace(settings, framing=replace(settings.framing, lookahead_s=0.08))
    with pytest.raises(InferenceFailedError, match="fainted"):
        stage.run(settings)
    # Of fifteen frames with faces two were the look-ahead of the thirteenth.
    assert stage.imaging.drawn == [5, 5, 3]


@pytest.mark.parametrize(("every", "batch"), [(2, 1), (3, 1), (3, 4), (16, 2)])
def test_frames_between_looks_come_out_like_the_others(every: int, batch: int) -> None:
    stage = Stage(FakeSource(50))
    stage.run(with_detection(every=every, frames_per_request=batch))
    assert [frame.index for frame in stage.sink.frames] == list(range(50))
    looked_at = sorted({0, *range(every, 50, every), 49})
    assert stage.detector.seen == looked_at
    report = stage.status.snapshot()
    assert (report.frames_in, report.frames_out) == (50, 50)
    assert report.frames_looked_at == len(looked_at)
    assert report.sides == {1: "left", 2: "right"}


def test_the_frames_on_either_side_of_a_cut_are_looked_at() -> None:
    stage = Stage(FakeSource(90), imaging=ThreeShots())
    stage.run(with_detection(every=4))
    assert {29, 30} <= set(stage.detector.seen)  # the shots begin at 30 and 60
    assert {59, 60} <= set(stage.detector.seen)
    assert len(stage.detector.seen) < 32
    assert stage.status.snapshot().scene_cuts == 2
    assert [frame.index for frame in stage.sink.frames] == list(range(90))


def test_frames_before_a_damaged_one_are_kept_also_between_looks() -> None:
    stage = Stage(FakeSource(100, fail_at=20))
    with pytest.raises(SourceError):
        stage.run(with_detection(every=6))
    assert [frame.index for frame in stage.sink.frames] == list(range(20))


def test_a_file_is_looked_at_four_times_a_second_by_default() -> None:
    stage = Stage(FakeSource(50))  # of 25 frames/s
    stage.run()
    assert stage.detector.seen == [*range(0, 50, 6), 49]


@WAYS
def test_a_stop_is_heeded_while_the_process_that_decides_is_frozen(is_fiber: bool) -> None:
    stage = Stage(FakeSource(50, is_short_to_read=is_fiber))

    def opened(brief: Brief, clock: StageClock, check: Callable[[], None]) -> Deciding:
        deciding = pool.open(brief, clock, check)
        (process,) = psutil.Process().children()
        process.suspend()
        frozen.append(process)
        stage.stop.set()
        return deciding

    stage.deciders, frozen = opened, list[psutil.Process]()
    with Deciders(1) as pool:
        stage.run(with_detection(timeout_s=600.0))
        frozen[0].resume()
    assert stage.sink.frames == []


def test_the_way_of_a_frame_is_traced_and_its_requests_belong_to_it() -> None:
    class Asked(FakeDetector):
        def submit(self, images: Sequence[Nv12Image], imaging: Any) -> FakePending:
            headers.append((request_headers() or {}).get("traceparent", ""))
            return super().submit(images, imaging)

    headers: list[str] = []
    exporter = InMemorySpanExporter()
    with Traces(TraceSettings(every_s=0.0), SimpleSpanProcessor(exporter)) as traces:
        stage = Stage(FakeSource(12), detector=Asked(), traces=traces.of("door"))
        stage.run(with_detection(frames_per_request=1))
        spans = exporter.get_finished_spans()
    ways = [span for span in spans if span.parent is None]
    assert [way.attributes for way in ways] == [{"stream": "door", "frame": n} for n in range(12)]
    for way, header in zip(ways, headers, strict=True):
        parts = [s for s in spans if s.parent and s.parent.span_id == way.context.span_id]
        parts.sort(key=lambda span: span.start_time or 0)
        names = [part.name for part in parts]
        assert names == ["decode", "queue", "detect", "decide", "compose", "encode"]
        times_ns = [each or 0 for part in parts for each in (part.start_time, part.end_time)]
        assert times_ns == sorted(times_ns)
        detect = parts[2].context
        assert header.startswith(f"00-{detect.trace_id:032x}-{detect.span_id:016x}-")
    assert request_headers() is None


def test_no_frame_is_no_error() -> None:
    stage = Stage(FakeSource(0))
    stage.run()
    assert stage.sink.frames == []


def test_reid_is_rare_on_quiet_frames_and_counted() -> None:
    stage = Stage(FakeSource(100))
    stage.run()
    report = stage.status.snapshot()
    assert 0 < report.reid_frames == stage.embedder.calls <= 3


class ThreeShots(FakeImaging):
    def thumbnail(self, image: Nv12Image) -> ByteArray:
        shot = int(image.y[0, 0]) // 30
        return np.random.default_rng(shot).integers(0, 256, (36, 64, 3), np.uint8)


def test_scene_cuts_are_counted_without_the_first_frame() -> None:
    stage = Stage(FakeSource(90), imaging=ThreeShots())
    stage.run()
    assert stage.status.snapshot().scene_cuts == 2


def test_without_reid_motion_decides_and_a_note_says_so() -> None:
    stage = Stage(FakeSource(60), embedder=FakeEmbedder(fails=True))
    stage.run()
    report = stage.status.snapshot()
    assert report.frames_out == 60
    assert without_size(report.warnings) == ("ReID failed, motion decides: no embedding today",)
    assert report.reid_failures == stage.embedder.calls > 0
    assert sorted(report.sides.values()) == ["left", "right"]


def test_reid_troubles_are_noted_once_per_cause_beside_other_notes() -> None:
    troubles = [
        LeaseTimeoutError("no slot in 10 s"),
        InferenceTimeoutError("no answer in 10 s"),
        LeaseTimeoutError("no slot in 10.1 s"),
    ]
    stage = Stage(FakeSource(250), embedder=FakeEmbedder(errors=iter(troubles)))
    stage.status.warn("of the source")
    stage.run()
    report = stage.status.snapshot()
    assert report.frames_out == 250
    assert report.reid_failures == 3
    assert without_size(report.warnings) == (
        "of the source",
        "ReID failed, motion decides: no slot in 10 s",
        "ReID failed, motion decides: no answer in 10 s",
    )


def test_a_stop_while_the_output_is_finished_is_a_stop() -> None:
    device = FakeDevice({"a": FakeSource(5)})
    statuses = new_statuses([job("a")])
    models = Models(FakeDetector(), FakeEmbedder())
    stop = Stop()

    class Sink(FakeSink):
        def close(self, stopped: Callable[[], bool] = lambda: False) -> bool:
            stop.ask()  # the user, while the sound is copied
            return super().close(stopped)

    device.make_sink = Sink
    Runner(WorkerSetup("a:1", streams=1), device, models).run([job("a")], statuses, stop)
    assert device.sinks["a"].ended == "aborted"
    assert statuses[0].snapshot().state == "stopped"


@WAYS
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda stage: setattr(stage.source, "fail_at", 20), SourceError),
        (lambda stage: setattr(stage.sink, "fail_at", 20), SinkError),
        (lambda stage: setattr(stage.detector, "fail_at", 20), InferenceFailedError),
    ],
)
def test_a_failure_anywhere_ends_the_loop_at_once(
    change: Callable[[Stage], None], error: type[Exception], is_fiber: bool
) -> None:
    stage = Stage(FakeSource(10**6, is_short_to_read=is_fiber))
    change(stage)
    before = threading.active_count()
    with pytest.raises(error):
        stage.run(with_detection())
    wait_until(lambda: threading.active_count() == before)
    assert [frame.index for frame in stage.sink.frames] == list(range(len(stage.sink.frames)))
    assert len(stage.sink.frames) <= 20


def test_a_failure_does_not_wait_for_a_source_that_hangs() -> None:
    """On a fiber, whose detection waits for the source on the same thread."""
    goes_on, is_awaited = threading.Event(), threading.Event()

    class Hanging(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            yield from islice(super().__iter__(), 16)
            goes_on.wait(60)  # longer than the test waits

    class Watched(Turns):
        def relieve(self) -> None:
            is_awaited.set()
            super().relieve()

    class Failing(FakeSink):
        def write(self, frame: Frame) -> None:
            is_awaited.wait(30)
            raise self.error

    source = Hanging(40, is_short_to_read=True)
    stage = Stage(source, sink=Failing(), turns=Watched())
    settings = with_detection(frames_per_request=16, requests_in_flight=1)
    framing = replace(settings.framing, lookahead_s=0.0)
    settings = replace(settings, queues=QueueSettings(16, 1), framing=framing)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stage.run, settings)
        try:
            with pytest.raises(SinkError):
                running.result(30)
        finally:
            goes_on.set()


@WAYS
def test_stop_ends_the_loop_soon_with_the_frames_so_far(is_fiber: bool) -> None:
    stage = Stage(FakeSource(10**6, is_short_to_read=is_fiber))

    def stop() -> None:
        wait_until(lambda: stage.sink.frames)
        stage.stop.set()

    threading.Thread(target=stop).start()
    stage.run()
    assert 0 < len(stage.sink.frames) < 10**6


@WAYS
def test_a_stop_while_the_server_is_awaited_keeps_every_composed_frame(is_fiber: bool) -> None:
    stage = Stage(FakeSource(100, is_short_to_read=is_fiber))
    stage.detector.fail_at, stage.detector.error = 50, StoppedError("awaited in vain")
    stage.run(with_detection())
    # Those that were still to be composed, as their look-ahead was not over, are not.
    assert [frame.index for frame in stage.sink.frames] == list(range(37))


@dataclass
class NothingToSee:
    """A file without a picture to look at."""

    info: VideoInfo = field(default_factory=lambda: VideoInfo(*SOURCE_WH, None, Fraction(1, 25)))
    key_times_s: tuple[float, ...] = ()

    def at(self, _time_s: float) -> Frame | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


class FakeDevice(Device, StreamDevice):
    def __init__(self, sources: dict[str, FakeSource]) -> None:
        self.imaging = FakeImaging()
        self.sources = sources
        self.sinks: dict[str, FakeSink] = {}
        self.make_sink: Callable[[], FakeSink] = FakeSink
        self.make_glimpses: Callable[[Path], Glimpses] = lambda _path: NothingToSee()

    def lend_stream(self) -> AbstractContextManager[StreamDevice]:
        return nullcontext(self)

    def open_source(self, path: Path, video_track: int | None = None) -> FakeSource:
        if path.name not in self.sources:
            raise SourceError(f"{path}: is no video")
        return self.sources[path.name]

    def open_glimpses(self, path: Path, video_track: int | None = None) -> Glimpses:
        return self.make_glimpses(path)

    def open_sink(
        self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
    ) -> FakeSink:
        self.sinks[job.name] = self.make_sink()
        return self.sinks[job.name]


def job(name: str, problem: str = "") -> Job:
    return Job(name, Path(name), Path(f"{name}.mp4"), problem)


@WAYS
@pytest.mark.parametrize("streams", [1, 3])
def test_streams_fail_alone(streams: int, is_fiber: bool) -> None:
    sources = {"good": FakeSource(30), "torn": FakeSource(30, fail_at=10), "also": FakeSource(5)}
    for source in sources.values():
        source.is_short_to_read = is_fiber
    device = FakeDevice(sources)
    jobs = [job("good"), job("torn"), job("text"), job("gone", "no such file"), job("also")]
    statuses = new_statuses(jobs)
    models, setup = Models(FakeDetector(), FakeEmbedder()), WorkerSetup("a:1", streams=streams)
    with Deciders(int(is_fiber)) as deciders:
        Runner(setup, device, models, deciders=deciders).run(jobs, statuses, Stop())
    reports = {status.snapshot().name: status.snapshot() for status in statuses}
    assert {name: report.state for name, report in reports.items()} == {
        "good": "done",
        "torn": "failed",
        "text": "failed",
        "gone": "failed",
        "also": "done",
    }
    assert reports["torn"].error == "the tape tore"
    assert without_size(reports["good"].warnings) == ("seen by the source",)
    assert reports["good"].stages["compose"].calls == 30
    assert {name: sink.ended for name, sink in device.sinks.items()} == {
        "good": "closed",
        "torn": "aborted",
        "also": "closed",
    }
    assert all(source.closed for source in sources.values())


def test_an_input_that_lacks_what_it_promised_is_incomplete_and_its_output_kept() -> None:
    source = FakeSource(5, incomplete="a.mp4: is not complete: 5 of 9 pictures came")
    device = FakeDevice({"short": source})
    jobs = [job("short")]
    statuses = new_statuses(jobs)
    models = Models(FakeDetector(), FakeEmbedder())
    Runner(WorkerSetup("a:1"), device, models).run(jobs, statuses, Stop())
    report = statuses[0].snapshot()
    assert (report.state, report.exit_code, report.error) == ("incomplete", 1, source.incomplete)
    assert (device.sinks["short"].ended, report.frames_out) == ("closed", 5)
    first, second, *_, last = result_lines(report)
    assert first.startswith("short: incomplete, 5 frames in")
    assert second == f"  {source.incomplete}"
    assert last == "  -> short.mp4"


def test_tracks_that_cannot_be_written_leave_no_open_output(tmp_path: Path) -> None:
    device = FakeDevice({"a": FakeSource(5)})
    statuses = new_statuses([job("a")])
    models = Models(FakeDetector(), FakeEmbedder())
    setup = WorkerSetup("a:1", tracks=tmp_path / "no" / "t.txt")
    Runner(setup, device, models).run([job("a")], statuses, Stop())
    assert "cannot write tracks" in statuses[0].snapshot().error
    assert device.sinks["a"].ended == "aborted"


def test_streams_after_a_stop_are_not_begun() -> None:
    device = FakeDevice({"a": FakeSource(5)})
    statuses = new_statuses([job("a")])
    stop = Stop()
    stop.ask()
    models = Models(FakeDetector(), FakeEmbedder())
    Runner(WorkerSetup("a:1", streams=1), device, models).run([job("a")], statuses, stop)
    assert statuses[0].snapshot().state == "stopped"
    assert device.sinks == {}


def test_a_mistake_of_ours_fails_its_stream_alone() -> None:
    class Broken(FakeDevice):
        def open_sink(
            self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
        ) -> FakeSink:
            if job.name == "bad":
                raise ZeroDivisionError("oops")
            return super().open_sink(job, info, output, disk_wait)

    device = Broken({"bad": FakeSource(5), "good": FakeSource(5)})
    jobs = [job("bad"), job("good")]
    statuses = new_statuses(jobs)
    models = Models(FakeDetector(), FakeEmbedder())
    Runner(WorkerSetup("a:1", streams=1), device, models).run(jobs, statuses, Stop())
    bad, good = (status.snapshot() for status in statuses)
    assert bad.error == f"{jobs[0].input}: unexpected ZeroDivisionError('oops')"
    assert 'raise ZeroDivisionError("oops")' in bad.trace
    assert "in open_sink" in bad.trace
    assert good.state == "done"


class FailingEncoders(FakeDevice):
    """Its encoders fail after some frames, x264 only where it is told to."""

    def __init__(self, sources: dict[str, FakeSource], *, x264_too: bool) -> None:
        super().__init__(sources)
        self.x264_too = x264_too
        self.opened: list[str] = []

    def open_source(self, path: Path, video_track: int | None = None) -> FakeSource:
        self.sources[path.name] = replace(self.sources[path.name])
        return self.sources[path.name]

    def open_sink(
        self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
    ) -> FakeSink:
        self.opened.append(output.encoder)
        fails = output.encoder != "x264" or self.x264_too
        self.sinks[job.name] = FakeSink(4 if fails else -1, error=EncoderError("the encoder hung"))
        return self.sinks[job.name]


@pytest.mark.parametrize("x264_too", [False, True])
def test_a_failed_encoder_is_replaced_once(x264_too: bool) -> None:
    device = FailingEncoders({"a": FakeSource(20)}, x264_too=x264_too)
    statuses = new_statuses([job("a")])
    models = Models(FakeDetector(), FakeEmbedder())
    Runner(WorkerSetup("a:1", streams=1), device, models).run([job("a")], statuses, Stop())
    report = statuses[0].snapshot()
    assert device.opened == ["auto", "x264"]
    assert "the encoder hung; started again from the beginning with x264" in report.warnings
    if x264_too:
        assert (report.state, report.error) == ("failed", "the encoder hung")
    else:
        assert (report.state, report.frames_out) == ("done", 20)
        assert [frame.index for frame in device.sinks["a"].frames] == list(range(20))


class FakeLive:
    """Of a source that lost three frames itself."""

    def report(self, decoded: int, dropped: Mapping[str, int]) -> dict[str, Any]:
        return {"frames_in": decoded + 3, "dropped": {**dropped, "undecodable": 3}}


class SlowDetector(FakeDetector):
    """Takes as long as the source takes for twenty frames."""

    def __init__(self, source: FastSource) -> None:
        super().__init__()
        self.source = source

    def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
        self.source.allowed += 20
        wait_until(lambda: self.source.shown >= min(self.source.count, self.source.allowed))
        return super().submit(images, imaging)


@dataclass
class FastSource(FakeSource):
    shown: int = 0
    allowed: int = 1

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            wait_until(lambda: self.shown < self.allowed)
            self.shown += 1
            yield frame


def test_a_live_stream_that_is_behind_drops_the_oldest_frames_and_counts_them() -> None:
    source = FastSource(200)
    stage = Stage(source, detector=SlowDetector(source), live=FakeLive())
    stage.run(live_settings(StreamSettings()))
    report = stage.status.snapshot()
    written = [frame.index for frame in stage.sink.frames]
    assert written == sorted(written)
    assert written[-1] == 199  # the newest one is kept
    assert 8 <= len(written) <= 15
    assert report.frames_in == 203
    assert report.frames_in == report.frames_out + sum(report.dropped.values())
    assert report.dropped == {"behind": 200 - len(written), "stopped": 0, "undecodable": 3}


def test_a_live_frame_that_takes_longer_costs_none_of_the_next_two() -> None:
    came = threading.Event()

    class Bursts(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            yield from super().__iter__()
            came.set()

    class SlowAtFirst(FakeDetector):
        def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
            assert came.wait(10)  # two more frames come meanwhile
            return super().submit(images, imaging)

    # A frame in ten seconds, so that none is stale however busy the machine is.
    info = VideoInfo(*SOURCE_WH, Fraction(1, 10), Fraction(1, 25))
    stage = Stage(Bursts(3, info=info), detector=SlowAtFirst(), live=FakeLive())
    stage.run(live_settings(StreamSettings()))
    assert [frame.index for frame in stage.sink.frames] == [0, 1, 2]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (30.0, (0.15, 6)),
        (60.0, (0.15, 10)),
        (2.0, (0.75, 3)),
        (0.1, (15.0, 3)),
        (400.0, (0.15, 24)),
    ],
)
def test_live_frames_wait_for_a_while_and_not_for_long(
    rate: float, expected: tuple[float, int]
) -> None:
    assert live_wait(rate) == expected


def test_a_file_waits_for_a_slow_detector_and_loses_no_frame() -> None:
    class Slow(FakeDetector):
        def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
            time.sleep(0.002)  # the source needs nothing
            return super().submit(images, imaging)

    stage = Stage(FakeSource(100), detector=Slow())
    stage.run(live_settings(StreamSettings()))
    assert [frame.index for frame in stage.sink.frames] == list(range(100))
    assert stage.status.snapshot().dropped == {}


def test_a_live_frame_waits_for_no_later_one() -> None:
    """Each is written before the next one is taken: no look-ahead, one request, one frame each."""
    order: list[str] = []

    class Watched(FakeSink):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            order.append(f"out {frame.index}")

    class OneByOne(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                order.append(f"in {frame.index}")
                yield frame
                wait_until(lambda: order[-1].startswith("out"))

    stage = Stage(OneByOne(5), sink=Watched(), live=FakeLive())
    stage.run(live_settings(StreamSettings()))
    assert order == [f"{way} {number}" for number in range(5) for way in ("in", "out")]


def test_a_stop_finishes_the_live_frames_under_way() -> None:
    stage = Stage(FakeSource(10**6), live=FakeLive())

    class Stopping(FakeSink):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            if len(self.frames) == 10:
                stage.stop.set()

    stage.sink = Stopping()
    stage.run(live_settings(StreamSettings()))
    report = stage.status.snapshot()
    assert report.frames_in == report.frames_out + sum(report.dropped.values())
    assert report.dropped["stopped"] <= 8  # five that wait, and one in each thread's hands


def test_a_server_that_refuses_a_late_live_frame_costs_that_frame_alone() -> None:
    stage = Stage(FakeSource(1), detector=FakeDetector(fail_at=0), live=FakeLive())
    stage.run(live_settings(StreamSettings()))
    report = stage.status.snapshot()
    assert (report.frames_out, report.dropped["behind"]) == (0, 1)
    assert any("refused frames that came too late" in note for note in report.warnings)


def test_what_comes_by_udp_is_decoded_on_the_cpu_and_the_report_says_so(tmp_path: Path) -> None:
    class Decoder:
        why = ""

        def close(self) -> None:
            """Nothing is open."""

    class Decoding(FakeDevice):
        def live_decoder(self, tell: Callable[[str], None]) -> Any:
            return Decoder()

    job = Job("door", tmp_path / "door", None, address="rtsp://camera/door")
    (status,) = new_statuses([job])
    run = StreamRun(
        job,
        status,
        Stop(),
        StreamSettings(),
        Decoding({}),
        StageClock(),
        Outside(),
        lambda: None,
    )
    by_tcp = LiveInput("rtsp://camera/door", "rtsp://camera/door")
    assert isinstance(live_decoder(run, by_tcp), Decoder)
    assert not status.snapshot().warnings
    assert live_decoder(run, replace(by_tcp, transport="udp")) is None
    assert live_decoder(run, replace(by_tcp, url="udp://camera")) is None
    (note,) = status.snapshot().warnings
    assert note.startswith("decoded on the CPU: its network may lose parts of pictures")


@pytest.mark.parametrize("encoder", ["none", "auto"])
def test_a_runner_plays_a_file_as_a_live_stream(tmp_path: Path, encoder: str) -> None:
    video = make(tmp_path / "a.mp4", Clip(frames=15, size_wh_px=(64, 48)))
    output = OutputSettings(canvas_wh_px=(64, 48), encoder=encoder)
    settings = StreamSettings(input=InputSettings(realtime=True), output=output)
    live = Job("a", video, None, outputs=(f"{tmp_path}/out/",))
    statuses = new_statuses([live])
    models = Models(FakeDetector(), FakeEmbedder())
    setup = WorkerSetup("a:1", settings=settings)
    Runner(setup, FakeDevice({}), models).run([live], statuses, Stop())
    report = statuses[0].snapshot()
    assert (report.state, report.error, report.live) == ("done", "", True)
    assert report.frames_in == 15 == report.frames_out + sum(report.dropped.values())
    written = list((tmp_path / "out").glob("a_*.mp4")) if encoder == "auto" else []
    assert len(written) == len(report.outputs) == (encoder == "auto")
    assert report.output == f"{tmp_path}/out/"


def test_a_live_stream_asks_the_models_that_are_for_live_streams(tmp_path: Path) -> None:
    video = make(tmp_path / "a.mp4", Clip(frames=5, size_wh_px=(64, 48)))
    settings = StreamSettings(input=InputSettings(live=True), output=OutputSettings(encoder="none"))
    detectors = FakeDetector(), FakeDetector()
    models = Models(detectors[0], FakeEmbedder(), live=LiveModels(detectors[1], FakeEmbedder()))
    job_of_file = Job("a", video, None)
    statuses = new_statuses([job_of_file])
    runner = Runner(WorkerSetup("a:1", settings=settings), FakeDevice({}), models)
    runner.run([job_of_file], statuses, Stop())
    assert detectors[0].seen == 3 * [16]  # the rehearsal, which must not go before other streams
    assert set(detectors[1].batches) == {1}


@pytest.mark.parametrize("trouble", ["none", "detector", "embedder"])
def test_everything_is_tried_before_a_live_stream_is_connected(
    tmp_path: Path, trouble: str
) -> None:
    """So that no frame has to wait for it; nothing of it is counted, no failure of it told."""
    video = make(tmp_path / "a.mp4", Clip(frames=5, size_wh_px=(64, 48)))
    settings = StreamSettings(
        input=InputSettings(realtime=True), output=OutputSettings(encoder="none")
    )
    job_of_file = Job("a", video, None)
    statuses = new_statuses([job_of_file])
    phases: list[str] = []

    class Noting(FakeDetector):
        def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
            phases.append(statuses[0].snapshot().phase)
            return super().submit(images, imaging)

    detector = Noting(fail_at=0 if trouble == "detector" else -1)
    embedder = FakeEmbedder(fails=trouble == "embedder")
    device = FakeDevice({})
    runner = Runner(WorkerSetup("a:1", settings=settings), device, Models(detector, embedder))
    runner.run([job_of_file], statuses, Stop())
    report = statuses[0].snapshot()
    black = 1 if trouble == "detector" else 3
    assert detector.seen[:black] == black * [16]
    assert len(detector.seen) == black + report.frames_out
    assert phases == black * ["preparing"] + report.frames_out * [""]
    assert (report.state, report.frames_in, report.error) == ("done", 5, "")
    # Of nobody in particular, as a black picture has no faces but for this detector.
    assert ((1, (1080, 1920)) in embedder.asked) == (trouble != "detector")
    assert {size for _, size in embedder.asked} <= {(1080, 1920), (48, 64)}


def test_a_rehearsal_takes_the_way_of_a_live_streams_pictures(tmp_path: Path) -> None:
    """What uploads them and brings canvases back has kernels and memory of its own."""
    video = make(tmp_path / "a.mp4", Clip(frames=5, size_wh_px=(64, 48)))
    settings = StreamSettings(
        input=InputSettings(realtime=True), output=OutputSettings(canvas_wh_px=(64, 48))
    )
    way: list[tuple[str, int]] = []

    class Moving(FakeDevice):
        def rehearse_decoding(self) -> None:
            way.append(("decoder", 0))
            raise PlatformError("there is no such decoder, which the stream itself will say")

        def to_device(self, source: FrameSource) -> FrameSource:
            way.append(("in", source.info.height_px))
            return source

        def to_host(self, sink: HostSink) -> FrameSink:
            way.append(("out", sink.frame_count))
            return sink

    live = Job("a", video, None, settings=settings, outputs=(f"{tmp_path}/out/",))
    models = Models(FakeDetector(), FakeEmbedder())
    statuses = new_statuses([live])
    Runner(WorkerSetup("a:1"), Moving({}), models).run([live], statuses, Stop())
    assert way == [("out", 0), ("in", 1080), ("decoder", 0), ("in", 48), ("out", 0)]
    assert statuses[0].snapshot().state == "done"


@pytest.mark.parametrize("slow", ["its share of the device", "its first picture"])
def test_no_camera_is_connected_while_another_stream_is_prepared(tmp_path: Path, slow: str) -> None:
    video = make(tmp_path / "a.mp4", Clip(frames=5, size_wh_px=(64, 48)))
    settings = StreamSettings(input=InputSettings(live=True), output=OutputSettings(encoder="none"))
    other_begins, first_goes_on = threading.Event(), threading.Event()
    happened: list[str] = []

    def take(step: str) -> None:
        if task_name() == "stream first":
            assert other_begins.wait(60)
        elif step == slow:
            other_begins.set()
            assert first_goes_on.wait(60)
            happened.append("all prepared")

    class Noticing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if task_name() == "stream first":
                first_goes_on.set()
            return super().wait(timeout)

    class Lending(FakeDevice):
        def lend_stream(self) -> AbstractContextManager[StreamDevice]:
            take("its share of the device")
            return super().lend_stream()

    class Slow(FakeDetector):
        def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
            if images[0].height_px == 48:
                happened.append(f"{task_name()} is connected")
                first_goes_on.set()
            else:
                take("its first picture")
            return super().submit(images, imaging)

    stop = Stop()
    stop.event = Noticing()
    jobs = [Job(name, video, None) for name in ("first", "other")]
    setup = WorkerSetup("a:1", settings=settings, streams=2)
    models = Models(Slow(), FakeEmbedder())
    Runner(setup, Lending({}), models).run(jobs, new_statuses(jobs), stop)
    assert happened[0] == "all prepared"
    assert {"stream first is connected", "stream other is connected"} < set(happened)


def test_the_process_that_decides_starts_before_the_source_is_opened() -> None:
    counted: list[int] = []

    class Counting(FakeDevice):
        def open_source(self, path: Path, video_track: int | None = None) -> FakeSource:
            counted.append(len(psutil.Process().children()))
            return super().open_source(path, video_track)

    device = Counting({"a": FakeSource(5)})
    before, jobs = len(psutil.Process().children()), [job("a")]
    models = Models(FakeDetector(), FakeEmbedder())
    with Deciders(2) as deciders:
        runner = Runner(WorkerSetup("a:1"), device, models, deciders=deciders)
        runner.run(jobs, new_statuses(jobs), Stop())
    assert counted == [before + 1]


def test_as_much_is_tried_as_streams_run_at_a_time(tmp_path: Path) -> None:
    video = make(tmp_path / "a.mp4", Clip(frames=5, size_wh_px=(64, 48)))
    settings = StreamSettings(input=InputSettings(live=True), output=OutputSettings(encoder="none"))
    detector = FakeDetector()
    models = Models(detector, FakeEmbedder())
    setup = WorkerSetup("a:1", settings=settings, streams=2)
    jobs = [Job(str(number), video, None) for number in range(6)]
    Runner(setup, FakeDevice({}), models).run(jobs, new_statuses(jobs), Stop())
    assert detector.seen.count(16) in (3, 6)  # for one stream or two, as they happen to overlap


def test_a_camera_that_never_answers_leaves_no_directory_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"rtsp://127.0.0.1:{free.getsockname()[1]}/door"
    settings = StreamSettings(input=InputSettings(reconnect_s=0.0))
    camera = Job(
        "door", Path("door"), None, settings=settings, address=address, outputs=(f"{tmp_path}/d/",)
    )
    statuses, models = new_statuses([camera]), Models(FakeDetector(), FakeEmbedder())
    setup = WorkerSetup("a:1", streams=1)
    Runner(setup, FakeDevice({}), models).run([camera], statuses, Stop())
    report = statuses[0].snapshot()
    assert (report.state, report.exit_code) == ("failed", 1)
    assert "cannot be opened" in report.error
    assert not (tmp_path / "d").exists()


def test_a_live_input_without_its_credentials_fails_by_name(tmp_path: Path) -> None:
    login = tmp_path / "login.txt"
    login.touch()
    for settings, problem in (
        (InputSettings(credentials_file=login), f"{login}: is empty; expected USER:PASSWORD"),
        (InputSettings(credentials_file=tmp_path / "no"), "cannot be read (No such file"),
        (InputSettings(credentials_variable="NO_SUCH_LOGIN"), "NO_SUCH_LOGIN is not set"),
        (InputSettings(schemes=("https",)), "rtsp: is not allowed; expected one of https"),
    ):
        camera = Job("a", Path("a"), None, address="rtsp://camera/a")
        with pytest.raises(SourceError) as caught:
            live_input(camera, settings)
        assert problem in str(caught.value)
