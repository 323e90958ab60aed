"""The clip generator: what it draws, what it says is true, and what it writes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dualface_client.errors import AssetError, DualfaceError, UsageError
from dualface_client.settings import paths
from dualface_client.types import ByteArray, Faces
from scripts.clips.scenarios import SCENARIOS
from scripts.clips.sources import SOURCES, FaceBoxes, read_frames
from scripts.clips.timing import check_tones, video_frames
from scripts.clips.truth import FrameTruth, Truth
from scripts.clips.writing import tone_samples, tone_schedule, write_clip
from scripts.make_clips import ClipPlan, Composer, main
from scripts.reference_models import ReferenceModels, box_iou

Compose = Callable[[ClipPlan], tuple[list[ByteArray], Truth]]


@pytest.fixture(scope="module")
def models() -> ReferenceModels:
    try:
        return ReferenceModels(paths.models_dir())
    except DualfaceError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module")
def compose(models: ReferenceModels) -> Compose:
    def run(plan: ClipPlan) -> tuple[list[ByteArray], Truth]:
        composer = Composer(plan, paths.clips_dir(), models)
        pictures = list(composer.pictures())
        return pictures, composer.truth("clip.mp4")

    return run


@pytest.fixture(scope="module")
def story(compose: Compose) -> Callable[[str], Truth]:
    """The truth of a scenario, told with small pictures at 5 fps."""

    @cache
    def run(scenario: str) -> Truth:
        return compose(ClipPlan(scenario, 6, 1, Fraction(5), (192, 108)))[1]

    return run


def center_x(frame: FrameTruth, identity: int) -> float:
    box = frame.person(identity).box
    return (box[0] + box[2]) / 2


def gaps(truth: Truth) -> list[float]:
    """How far the one expected right is right of the other, frame by frame."""
    left, right = truth.expected_left, truth.expected_right
    return [center_x(frame, right) - center_x(frame, left) for frame in truth.frames]


def test_the_same_plan_gives_the_same_pictures_and_truth(compose: Compose) -> None:
    plan = ClipPlan("cross_often", 0.4, 3, Fraction(10), (320, 180), gain=0.5)
    first, second = compose(plan), compose(plan)
    assert first[1] == second[1]
    for one, other in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_clip(compose: Compose) -> None:
    plans = [ClipPlan("side_by_side", 0.2, seed, Fraction(10), (320, 180)) for seed in range(4)]
    clips = [compose(plan) for plan in plans]
    assert not np.array_equal(clips[0][0][0], clips[1][0][0])
    assert {truth.expected_left for _, truth in clips} == {1, 2}


@pytest.mark.parametrize("scenario", ["side_by_side", "cross_once"])
def test_the_detector_sees_the_two_faces_where_the_truth_has_them(
    scenario: str, compose: Compose, models: ReferenceModels
) -> None:
    pictures, truth = compose(ClipPlan(scenario, 4, 1, Fraction(2), (1280, 720)))
    compared = 0
    for picture, frame in zip(pictures, truth.frames, strict=True):
        if not frame.all_visible(0.98):
            continue
        found = models.detect(picture)
        assert len(found) == 2, f"frame {frame.index}: {found.scores}"
        for person in frame.people:
            assert box_iou(np.array(person.box, np.float32), found.boxes_xyxy_px).max() >= 0.6
            compared += 1
    assert compared >= 10


def test_cross_once_changes_places_and_hides_one(story: Callable[[str], Truth]) -> None:
    truth = story("cross_once")
    gap = gaps(truth)
    assert gap[0] > 0.3 * 192
    assert gap[-1] < -0.3 * 192
    assert sum(a * b < 0 for a, b in pairwise(gap)) == 1
    hidden = min(truth.frames, key=lambda frame: min(p.visible for p in frame.people))
    near, far = sorted(hidden.people, key=lambda person: person.depth)
    assert far.visible < 0.4
    assert near.visible > 0.95


def test_cross_often_crosses_with_each_in_front_once(story: Callable[[str], Truth]) -> None:
    truth = story("cross_often")
    gap = gaps(truth)
    assert sum(a * b < 0 for a, b in pairwise(gap)) == 2
    for identity in SOURCES:
        assert min(frame.person(identity).visible for frame in truth.frames) < 0.5


def test_near_miss_touches_and_never_crosses(story: Callable[[str], Truth]) -> None:
    gap = gaps(story("near_miss"))
    assert 0.1 * 192 < min(gap) < 0.25 * 192


def test_meet_and_part_hides_one_and_never_crosses(story: Callable[[str], Truth]) -> None:
    truth = story("meet_and_part")
    assert 0 < min(gaps(truth)) < 0.05 * 192
    assert min(frame.person(i).visible for frame in truth.frames for i in SOURCES) < 0.3


def test_huddled_faces_overlap_all_the_time(story: Callable[[str], Truth]) -> None:
    shares = []
    for frame in story("huddle").frames:
        left, right = sorted(person.box for person in frame.people)
        shares.append((left[2] - right[0]) / (left[2] - left[0]))
    assert 0 < min(shares) < max(shares) < 0.4


def test_who_hides_comes_out_on_the_side_that_the_seed_says(
    compose: Compose, story: Callable[[str], Truth]
) -> None:
    signs = set()
    for seed in range(4):
        _, truth = compose(ClipPlan("hide_behind", 8, seed, Fraction(2), (192, 108)))
        signs.add(gaps(truth)[-1] > 0)
        hidden = [frame for frame in truth.frames if not frame.all_visible(0.3)]
        assert 1.0 <= len(hidden) / 2 <= 3.5
    assert signs == {True, False}


def test_a_passer_by_crosses_the_picture_and_counts_for_nothing(
    story: Callable[[str], Truth],
) -> None:
    truth = story("passer_by_while_away")
    third = [person for frame in truth.frames for person in frame.people if person.passer_by]
    places = [(person.box[0] + person.box[2]) / 2 / 192 for person in third]
    assert {person.id for person in third} == {3}
    assert max(places) > 1
    assert min(places) < 0
    away = [frame.person(truth.expected_right).on_screen == 0 for frame in truth.frames]
    walking = [frame.person(3).on_screen > 0.2 for frame in truth.frames]
    assert any(gone and here for gone, here in zip(away, walking, strict=True))
    assert truth.frames[0].all_visible(0.95)


@pytest.mark.parametrize(
    ("scenario", "sign"), [("leave_and_return", 1), ("leave_and_return_other_side", -1)]
)
def test_the_one_who_leaves_comes_back(
    scenario: str, sign: int, story: Callable[[str], Truth]
) -> None:
    truth = story(scenario)
    shares = [frame.person(truth.expected_right).on_screen for frame in truth.frames]
    assert shares[0] == shares[-1] == 1
    assert min(shares) == 0
    assert all(frame.person(truth.expected_left).visible > 0.95 for frame in truth.frames)
    assert sign * gaps(truth)[-1] > 0.3 * 192


def test_the_occluder_hides_each_face_and_frees_it_again(story: Callable[[str], Truth]) -> None:
    truth = story("occlusion")
    for identity in SOURCES:
        visible = [frame.person(identity).visible for frame in truth.frames]
        assert min(visible) < 0.2
        assert visible[0] > 0.95
        assert visible[-1] > 0.95
        assert all(frame.person(identity).on_screen == 1 for frame in truth.frames)


def test_a_scene_cut_swaps_places_at_once(story: Callable[[str], Truth]) -> None:
    truth = story("scene_cut")
    assert [frame.shot for frame in truth.frames] == sorted(frame.shot for frame in truth.frames)
    sides = {frame.shot: gap > 0 for frame, gap in zip(truth.frames, gaps(truth), strict=True)}
    assert sides == {0: True, 1: False, 2: True}


def test_sizes_differ_and_change_over(story: Callable[[str], Truth]) -> None:
    truth = story("sizes")

    def ratio(frame: FrameTruth) -> float:
        left, right = (frame.person(i).box for i in (truth.expected_left, truth.expected_right))
        return (left[3] - left[1]) / (right[3] - right[1])

    assert ratio(truth.frames[0]) > 2
    assert ratio(truth.frames[-1]) < 1 / 2


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_everybody_starts_in_full_view_on_the_expected_side(
    scenario: str, story: Callable[[str], Truth]
) -> None:
    truth = story(scenario)
    assert {truth.expected_left, truth.expected_right} == {1, 2}
    assert truth.frames[0].all_visible(0.7 if scenario == "huddle" else 0.95)
    assert gaps(truth)[0] > 0
    assert len(truth.frames) == truth.frame_count == 30


def test_blur_and_gain_spoil_the_picture(compose: Compose) -> None:
    def first(**spoil: float) -> ByteArray:
        plan = ClipPlan("side_by_side", 0.1, 0, Fraction(10), (640, 360), **spoil)  # type: ignore[arg-type]  # floats only
        return compose(plan)[0][0]

    def sharpness(picture: ByteArray) -> float:
        return float(cv2.Laplacian(picture, cv2.CV_32F).var())

    plain = first()
    assert sharpness(first(blur_px=3)) < 0.3 * sharpness(plain)
    assert 0.15 < first(gain=0.2).mean() / plain.mean() < 0.25


def test_truth_survives_its_file(tmp_path: Path, story: Callable[[str], Truth]) -> None:
    truth = story("side_by_side")
    truth.save(tmp_path / "t.json")
    assert Truth.load(tmp_path / "t.json") == truth


def test_a_file_that_is_no_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(AssetError, match=r"t\.json: format None"):
        Truth.load(tmp_path / "t.json")
    with pytest.raises(AssetError, match="cannot be read"):
        Truth.load(tmp_path / "none.json")


@pytest.mark.parametrize("fps", [Fraction(10), Fraction(30000, 1001)])
def test_a_written_clip_has_every_frame_at_its_time_and_every_tone(
    fps: Fraction, tmp_path: Path, story: Callable[[str], Truth]
) -> None:
    path, seconds = tmp_path / "c.mp4", 3
    count = round(seconds * fps)
    pictures = [np.full((96, 128, 3), 8 * (n % 30), np.uint8) for n in range(count)]
    write_clip(path, pictures, (128, 96), fps, seconds)
    times = [time_s for time_s, _ in video_frames(path)]
    assert len(times) == count
    assert all(abs(t - n / fps) <= Fraction(1, 90000) for n, t in enumerate(times))
    told = story("side_by_side")
    short = Truth(**{f: getattr(told, f) for f in told.__slots__} | {"tones": tone_schedule(3)})
    tones = check_tones(path, short, 0.005)
    assert tones.ok, tones
    assert not list(tmp_path.glob(".*"))


def test_a_tone_starts_exactly_at_each_full_second() -> None:
    samples = tone_samples(2.5)
    loud = np.flatnonzero(np.abs(samples) > 1e-6)
    assert [second for second, _ in tone_schedule(2.5)] == [0, 1, 2]
    assert np.abs(samples[48000 - 45000 : 48000]).max() == 0
    assert {int(loud[loud >= n * 48000].min()) - n * 48000 for n in (0, 1, 2)} == {1}


class CountingDetector:
    """The real models, with a count of how often they were asked."""

    def __init__(self, models: ReferenceModels) -> None:
        self._models = models
        self.detector_path = models.detector_path
        self.calls = 0

    def detect(self, bgr: ByteArray, min_score: float = 0.5) -> Faces:
        self.calls += 1
        return self._models.detect(bgr, min_score)


def test_source_boxes_are_found_once_per_clip_content(
    tmp_path: Path, models: ReferenceModels
) -> None:
    clip = tmp_path / "clip.mp4"
    shutil.copyfile(paths.clips_dir() / SOURCES[2].file_name, clip)
    asked = []
    boxes = []
    for _ in range(2):
        detector = CountingDetector(models)
        boxes.append(FaceBoxes(clip, detector).at(32, 10))
        asked.append(detector.calls)
    assert asked == [4, 0]
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert boxes[0].shape == (10, 4)
    clip.write_bytes(clip.read_bytes() + b"\0")
    detector = CountingDetector(models)
    FaceBoxes(clip, detector).at(32, 10)
    assert detector.calls == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "dance"}, "no scenario 'dance'; there are side_by_side"),
        ({"seconds": 0.0}, "must be positive"),
        ({"size_wh": (641, 360)}, "expected even numbers"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClipPlan(**{"scenario": "sizes", **changes})  # type: ignore[arg-type]  # wrong on purpose


def test_command_line(
    tmp_path: Path, models: ReferenceModels, capsys: pytest.CaptureFixture[str]
) -> None:
    del models  # only asks for them to be there
    assert main(["--list"]) == 0
    assert "cross_once" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["dance", "--out", str(tmp_path)]) == 2
    assert main(["sizes", "--out", str(tmp_path), "--sources", str(tmp_path)]) == 2
    assert "make setup" in capsys.readouterr().err
    small = ["--size", "320x180", "--fps", "5", "--seconds", "1"]
    assert main(["sizes", "--out", str(tmp_path), *small]) == 0
    assert Truth.load(tmp_path / "sizes.json").frame_count == 5
    assert len(list(video_frames(tmp_path / "sizes.mp4"))) == 5


def test_frames_are_the_same_with_and_without_a_seek() -> None:
    clip = paths.clips_dir() / SOURCES[1].file_name
    from_start = list(read_frames(clip, 0, 331))
    after_seek = list(read_frames(clip, 320, 11, 5))
    assert len(from_start) == 331
    assert len(after_seek) == 3
    for index, frame in zip((320, 325, 330), after_seek, strict=True):
        np.testing.assert_array_equal(frame, from_start[index])
