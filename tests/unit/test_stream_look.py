"""The look before the first frame: what it costs, what ends it, and what its failure does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dualface_client.errors import EncoderError, InferenceFailedError, SourceError, StoppedError
from dualface_client.observe.progress import progress_line
from dualface_client.settings.cast import CastSettings
from dualface_client.settings.stream import DetectionSettings, OutputSettings, StreamSettings
from dualface_client.settings.tracking import IdentitySettings, SideSettings, TrackingSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.look import Look, seating
from dualface_client.stream.runner import Models, Runner
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.types import Embeddings, FloatArray, Frame, Nv12Image, Side, VideoInfo
from dualface_client.video.disk_wait import DiskWait
from tests.unit.test_stream_loop import (
    SOURCE_WH,
    FakeDetector,
    FakeDevice,
    FakeEmbedder,
    FakeImaging,
    FakePending,
    FakeSink,
    FakeSource,
    job,
    picture,
)

TRACKING = TrackingSettings(identity=IdentitySettings(min_quality=0.0))
SETTINGS = StreamSettings(
    detection=DetectionSettings(every=1), tracking=TRACKING, cast=CastSettings(run_share=1.0)
)


@dataclass
class FakeGlimpses:
    """A file with a key frame every two seconds."""

    info: VideoInfo = field(
        default_factory=lambda: VideoInfo(
            *SOURCE_WH, Fraction(25), Fraction(1, 25), frame_count=250, duration_s=10.0
        )
    )
    key_times_s: tuple[float, ...] = (0.0, 2.0, 4.0, 6.0, 8.0)
    error: Exception | None = None
    asked_s: list[float] = field(default_factory=list)
    closed: bool = False

    def at(self, time_s: float) -> Frame | None:
        if self.error is not None:
            raise self.error
        self.asked_s.append(time_s)
        number = round(25 * time_s)
        if number >= self.info.frame_count:
            return None
        return Frame(number, number, Fraction(1, 25), picture(number))

    def close(self) -> None:
        self.closed = True


@dataclass
class Lively(FakeDetector):
    """The same two faces, whose mouths move from picture to picture."""

    def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
        pending = super().submit(images, imaging)
        for faces in pending.faces:
            faces.landmarks_px[:, 3:, 1] += 5.0 * (len(self.batches) % 3)
        return pending


def look(
    settings: StreamSettings = SETTINGS,
    detector: FakeDetector | None = None,
    embedder: FakeEmbedder | None = None,
    stop: Stop | None = None,
) -> Look:
    """A look whose every detection takes a second, by its clock."""
    stopped, ticks = (stop or Stop()).event.is_set, itertools.count()
    return Look(
        FakeImaging(),
        detector or Lively(),
        embedder or FakeEmbedder(),
        settings,
        stopped,
        lambda: float(next(ticks)),
    )


def test_the_two_people_are_found_and_seated() -> None:
    glimpses = FakeGlimpses()
    found = look().through(glimpses)
    assert len(found.people) == 2
    assert len(glimpses.asked_s) == 10
    assert found.seen.times_s == tuple(sorted(found.seen.times_s))
    seats = seating(found, TRACKING, ())
    assert [member.side for member in seats.members] == [Side.LEFT, Side.RIGHT]
    assert seats.members[0].embeddings[0, 0] == 1.0
    assert seats.join_s > 0
    assert seats.sides == {found.people[0].number: Side.LEFT, found.people[1].number: Side.RIGHT}


def of_half_a_minute() -> FakeGlimpses:
    info = replace(FakeGlimpses().info, frame_count=750, duration_s=30.0)
    return FakeGlimpses(info, tuple(2.0 * n for n in range(15)))


def test_all_of_a_short_file_is_looked_at_however_long_it_takes() -> None:
    """Who sits where must not depend on how busy the machine is."""
    for rate, pictures in ((25, 10), (60, 12)):
        info = replace(
            FakeGlimpses().info,
            frame_rate=Fraction(rate),
            frame_count=12 * rate if rate > 25 else 250,
            duration_s=12.0 if rate > 25 else 10.0,
        )
        glimpses = FakeGlimpses(info)
        look(replace(SETTINGS, cast=CastSettings(run_share=0.0))).through(glimpses)
        assert len(glimpses.asked_s) == pictures
        assert max(glimpses.asked_s) > 0.8 * info.duration_s


def test_the_look_ends_when_its_share_of_the_run_is_spent() -> None:
    # Each picture takes two ticks of the clock, three once time counts; each frame of the run one.
    for share, looked in ((0.0, 12), (0.05, 17), (0.09, 27), (1.0, 30)):
        glimpses = of_half_a_minute()
        look(replace(SETTINGS, cast=CastSettings(run_share=share))).through(glimpses)
        assert len(glimpses.asked_s) == looked
    glimpses = of_half_a_minute()
    batched = replace(SETTINGS.detection, frames_per_request=8)
    settings = replace(SETTINGS, detection=batched, cast=CastSettings(run_share=0.3))
    look(settings).through(glimpses)
    assert len(glimpses.asked_s) == 23


def test_a_stop_ends_the_look_at_once() -> None:
    stop, glimpses = Stop(), FakeGlimpses()
    stop.ask()
    with pytest.raises(StoppedError):
        look(stop=stop).through(glimpses)
    assert glimpses.asked_s == []


def test_what_another_version_of_the_model_saw_does_not_count() -> None:
    class Swapped(FakeEmbedder):
        def embed(self, image: Nv12Image, landmarks_px: FloatArray, imaging: object) -> Embeddings:
            if self.calls == 4:
                self.model_version = "fake/2"
            return super().embed(image, landmarks_px, imaging)

    found = look(embedder=Swapped()).through(FakeGlimpses())
    assert found.seen.model_version == "fake/2"
    assert len(found.seen.found) == 12
    assert {m.model_version for m in seating(found, TRACKING, ()).members} == {"fake/2"}


def test_a_person_is_pinned_by_number() -> None:
    found = look().through(FakeGlimpses())
    pinned = replace(TRACKING, sides=SideSettings(pin_left="cast:2", pin_right="cast:9"))
    seats = seating(found, pinned, ())
    assert [(pin.side, pin.photo) for pin in seats.pins] == [(Side.LEFT, "cast:2")]
    (left,) = [member for member in seats.members if member.side is Side.LEFT]
    assert left.embeddings[0] @ found.people[1].sightings[0].embedding == pytest.approx(1.0)
    assert "cast:9 was ignored: only 2 people were found" in seats.notes[0]


def run(
    glimpses: FakeGlimpses,
    settings: StreamSettings = SETTINGS,
    detector: FakeDetector | None = None,
    stop: Stop | None = None,
) -> tuple[FakeDevice, FakeDetector, list[str], tuple[str, ...], str]:
    """Runs one stream; returns device, detector, phases seen at the look, notes and state."""
    device = FakeDevice({"a": FakeSource(20)})
    detector = detector or Lively()
    statuses = new_statuses([job("a")])
    phases: list[str] = []

    def make(_path: Path) -> FakeGlimpses:
        phases.append(progress_line(statuses[0].snapshot()))
        return glimpses

    device.make_glimpses = make
    setup = WorkerSetup("a:1", settings=settings)
    Runner(setup, device, Models(detector, FakeEmbedder())).run(
        [job("a")], statuses, stop or Stop()
    )
    report = statuses[0].snapshot()
    assert report.phase == ""
    return device, detector, phases, report.warnings, report.state


def test_a_stream_looks_before_its_first_frame() -> None:
    glimpses = FakeGlimpses()
    device, detector, phases, notes, state = run(glimpses)
    assert state == "done"
    assert not [note for note in notes if "people of the video" in note]
    assert phases == ["a: looking for the people of the video"]
    assert glimpses.closed
    assert detector.seen[:3] == [0, 25, 50]
    assert 25 <= len(detector.seen) <= 30
    assert len(device.sinks["a"].frames) == 20


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, cast=CastSettings(enabled=False)),
        replace(SETTINGS, tracking=replace(TRACKING, reid="never")),
    ],
)
def test_without_the_cast_nothing_is_looked_at(settings: StreamSettings) -> None:
    _, detector, phases, _, state = run(FakeGlimpses(), settings)
    assert (state, phases, len(detector.seen)) == ("done", [], 20)


@pytest.mark.parametrize(
    "error", [SourceError("no index"), InferenceFailedError("fainted"), ZeroDivisionError("oops")]
)
def test_an_error_of_the_look_is_a_note(error: Exception) -> None:
    glimpses = FakeGlimpses(error=error)
    device, _, _, notes, state = run(glimpses)
    assert state == "done"
    failed = f"the look for the people of the video failed: {error}"
    assert f"{failed}; it is processed without it" in notes
    assert len(device.sinks["a"].frames) == 20
    assert glimpses.closed


class TwiceDevice(FakeDevice):
    """Its first sink fails, so that the stream starts again."""

    def __init__(self, error: Exception) -> None:
        super().__init__({})
        self.error = error

    def open_source(self, path: Path, video_track: int | None = None) -> FakeSource:
        return FakeSource(20)

    def open_sink(
        self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
    ) -> FakeSink:
        self.make_sink = FakeSink if self.sinks else lambda: FakeSink(4, error=self.error)
        return super().open_sink(job, info, output, disk_wait)


@pytest.mark.parametrize("error", [EncoderError("hung"), MemoryError("full")])
def test_a_stream_that_starts_again_does_not_look_again(error: Exception) -> None:
    device, statuses = TwiceDevice(error), new_statuses([job("a")])
    looks: list[FakeGlimpses] = []

    def make(_path: Path) -> FakeGlimpses:
        looks.append(FakeGlimpses())
        return looks[-1]

    device.make_glimpses = make
    models, setup = Models(Lively(), FakeEmbedder()), WorkerSetup("a:1", settings=SETTINGS)
    Runner(setup, device, models).run([job("a")], statuses, Stop())
    report = statuses[0].snapshot()
    assert report.state == "done"
    assert any("started again from the beginning" in note for note in report.warnings)
    assert len(device.sinks["a"].frames) == 20
    assert len(looks) == 1


def test_a_stop_during_the_look_stops_the_stream() -> None:
    stop = Stop()

    class Stopping(Lively):
        def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
            stop.ask()
            return super().submit(images, imaging)

    device, detector, _, notes, state = run(FakeGlimpses(), detector=Stopping(), stop=stop)
    assert state == "stopped"
    assert len(detector.seen) == 1
    assert device.sinks["a"].ended == "aborted"
    assert not [note for note in notes if "people of the video" in note]


def test_a_full_device_is_no_note_but_starts_the_stream_again() -> None:
    device, _, _, notes, state = run(FakeGlimpses(error=MemoryError("full")))
    assert state == "failed"
    assert any("the device's memory was full" in note for note in notes)
    assert device.sinks["a"].frames == []


def test_colours_do_not_matter_to_heights() -> None:
    """Faces of uncertain score are neither counted nor embedded."""

    class Doubtful(Lively):
        def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
            pending = super().submit(images, imaging)
            for faces in pending.faces:
                faces.scores[1] = np.float32(0.3)
            return pending

    found = look(detector=Doubtful()).through(FakeGlimpses())
    assert len(found.people) == 1
    assert {len(heights) for heights in found.seen.heights_px} == {1}
