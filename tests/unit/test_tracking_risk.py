"""Swap risk, face quality and the list of checks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dualface_client.settings.tracking import RiskSettings
from dualface_client.tracking.boxes import cover, gap_heights, iou
from dualface_client.tracking.bytetrack import ByteTracker
from dualface_client.tracking.checks import CheckList, Reason
from dualface_client.tracking.quality import face_quality
from dualface_client.tracking.risk import RiskMeter
from dualface_client.tracking.track import PairRisk, RiskParts
from dualface_client.types import Faces, FloatArray

Place = tuple[float, float, float, float]  # centre x, centre y, height, score


def make_faces(*places: Place, nose: float = 0.0) -> Faces:
    """Faces with eyes level; `nose` is its offset from the middle in eye distances."""
    boxes = [[x - 0.4 * h, y - h / 2, x + 0.4 * h, y + h / 2] for x, y, h, _ in places]
    marks = [
        [[x - h / 5, y], [x + h / 5, y], [x + nose * 0.4 * h, y + h / 6], [x, y], [x, y]]
        for x, y, h, _ in places
    ]
    return Faces(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for *_, score in places], np.float32),
        np.array(marks, np.float32).reshape(-1, 5, 2),
    )


def risks_of(scene: Callable[[int], Faces], frames: int) -> list[list[PairRisk]]:
    tracker, meter, risks = ByteTracker(), RiskMeter(), []
    for frame in range(frames):
        tracker.update(scene(frame), frame / 30)
        risks.append(meter.update(tracker.confirmed))
    return risks


def test_far_faces_are_no_pair_at_all() -> None:
    risks = risks_of(lambda _f: make_faces((400, 300, 150, 0.9), (1200, 300, 150, 0.9)), 10)
    assert risks == [[]] * 10


def test_noise_of_seated_neighbours_is_no_risk() -> None:
    rng = np.random.default_rng(0)

    def scene(_frame: int) -> Faces:
        dx, dy = rng.normal(0, 2, 2)
        return make_faces((400 + dx, 300, 150, 0.9), (580 + dy, 300, 150, 0.85))

    values = [pair.value for pairs in risks_of(scene, 200) for pair in pairs]
    assert len(values) == 200
    assert max(values) < RiskSettings().release


def test_a_crossing_shows_approach_then_overlap_then_calm() -> None:
    def scene(frame: int) -> Faces:
        return make_faces((400 + 8 * frame, 300, 150, 0.9), (1000 - 8 * frame, 330, 150, 0.9))

    risks = [pairs[0].parts if pairs else RiskParts() for pairs in risks_of(scene, 75)]
    approach = next(frame for frame, parts in enumerate(risks) if parts.approach > 0)
    overlap = next(frame for frame, parts in enumerate(risks) if parts.overlap > 0)
    assert approach < overlap
    assert max(parts.value for parts in risks) == pytest.approx(1.0)
    assert risks[-1].value == 0.0


def test_a_lost_face_near_the_other_is_a_risk_alone_it_is_none() -> None:
    def near(frame: int) -> Faces:
        places = [(400.0, 300.0, 150.0, 0.9), (560.0, 300.0, 150.0, 0.9)]
        return make_faces(*places[: 2 if frame < 10 else 1])

    after = risks_of(near, 15)[-1][0]
    assert after.parts.reacquired > 0.5
    assert after.ids == (1, 2)


def test_a_sudden_jump_or_growth_near_the_other_is_a_risk() -> None:
    def jumps(frame: int) -> Faces:
        return make_faces((400 if frame < 10 else 470, 300, 150, 0.9), (600, 300, 150, 0.9))

    def grows(frame: int) -> Faces:
        return make_faces((400, 300, 150 if frame < 10 else 230, 0.9), (600, 300, 150, 0.9))

    assert risks_of(jumps, 11)[-1][0].parts.jump > 0.1
    assert risks_of(grows, 11)[-1][0].parts.jump > 0.1


def test_a_score_drop_near_the_other_shows() -> None:
    def scene(frame: int) -> Faces:
        score = 0.9 if frame < 20 else 0.4
        return make_faces((400, 300, 150, score), (560, 300, 150, 0.9))

    assert risks_of(scene, 21)[-1][0].parts.score_drop > 0.3


def test_a_cut_puts_every_pair_at_full_risk() -> None:
    tracker = ByteTracker()
    tracker.update(make_faces((100, 300, 150, 0.9), (1700, 300, 150, 0.9)), 0.0)
    (pair,) = RiskMeter().update(tracker.confirmed, cut=True)
    assert pair.value == 1.0
    assert pair.parts.cut == 1.0


def test_parts_add_up_to_at_most_one() -> None:
    assert RiskParts().value == 0.0
    weak = RiskParts(approach=0.5)
    assert weak.value < RiskParts(approach=0.5, ambiguity=0.5).value < 1.0
    assert RiskParts(1, 1, 1, 1, 1, 1, 1).value == 1.0


def test_box_measures() -> None:
    one, inside, apart = (0.0, 0.0, 10.0, 10.0), (2.0, 2.0, 4.0, 4.0), (25.0, 0.0, 35.0, 10.0)
    assert iou(one, one) == 1.0
    assert iou(one, inside) == pytest.approx(0.04)
    assert cover(one, inside) == 1.0
    assert iou(one, apart) == cover(one, apart) == 0.0
    assert gap_heights(one, apart) == pytest.approx(1.5)
    assert gap_heights(one, inside) == 0.0


@pytest.mark.parametrize(
    ("places", "nose", "low", "high"),
    [
        ([(400.0, 300.0, 200.0, 0.9)], 0.0, 0.85, 1.0),
        ([(400.0, 300.0, 200.0, 0.9)], 0.45, 0.0, 0.15),
        ([(400.0, 300.0, 26.0, 0.9)], 0.0, 0.0, 0.1),
        ([(400.0, 300.0, 200.0, 0.9), (480.0, 300.0, 200.0, 0.9)], 0.0, 0.0, 0.05),
    ],
    ids=["good", "profile", "tiny", "covered"],
)
def test_quality(places: list[Place], nose: float, low: float, high: float) -> None:
    assert low <= face_quality(make_faces(*places, nose=nose), 0, _PICTURE_WH_PX) <= high


@pytest.mark.parametrize(
    ("x_px", "y_px", "low", "high"),
    [
        (60.0, 300.0, 0.85, 1.0),
        (-30.0, 300.0, 0.0, 0.0),
        (1150.0, 300.0, 0.85, 1.0),
        (1240.0, 300.0, 0.0, 0.0),
        (400.0, 690.0, 0.0, 0.0),
    ],
    ids=["whole on the left", "left half outside", "whole on the right", "right half", "chin"],
)
def test_quality_of_a_face_at_the_edge(x_px: float, y_px: float, low: float, high: float) -> None:
    faces = make_faces((x_px, y_px, 200.0, 0.9))
    width, height = _PICTURE_WH_PX
    marks = np.clip(faces.landmarks_px, 0, (width, height)).astype(np.float32)  # as the detector
    at_edge = Faces(faces.boxes_xyxy_px, faces.scores, marks)
    assert low <= face_quality(at_edge, 0, _PICTURE_WH_PX) <= high


def test_quality_of_coinciding_eyes_is_none() -> None:
    marks: FloatArray = np.zeros((1, 5, 2), np.float32)
    box = np.array([[0, 0, 100, 100]], np.float32)
    assert face_quality(Faces(box, np.array([0.9], np.float32), marks), 0, _PICTURE_WH_PX) == 0.0


_PICTURE_WH_PX = (1280, 720)


def _pair(value: float) -> PairRisk:
    return PairRisk((1, 2), RiskParts(overlap=value), value)


def _two_tracks() -> ByteTracker:
    tracker = ByteTracker()
    tracker.update(make_faces((400, 300, 150, 0.9), (900, 300, 150, 0.9)), 0.0)
    return tracker


def test_a_pair_at_risk_is_asked_about_after_the_cool_down_then_ever_more_rarely() -> None:
    checks, tracks = CheckList(), _two_tracks().confirmed
    asked = []
    for frame in range(600):
        checks.follow([_pair(0.9)], tracks, frame / 30)
        if 1 in checks:
            asked.append(frame / 30)
            checks.close(1)
            checks.close(2)
    assert asked == pytest.approx([1, 3, 7, 15], abs=0.05)


def test_a_pair_that_separates_is_asked_about_at_once_and_once() -> None:
    checks, tracks = CheckList(), _two_tracks().confirmed
    checks.follow([_pair(0.9)], tracks, 0.0)
    checks.follow([_pair(0.4)], tracks, 0.1)
    assert 1 not in checks
    checks.follow([], tracks, 0.2)
    check = checks.get(2)
    assert check is not None
    assert check.reason is Reason.SEPARATED
    checks.close(1)
    checks.close(2)
    checks.follow([], tracks, 0.3)
    assert 1 not in checks


def test_a_swap_is_dated_to_the_last_peak_of_the_risk() -> None:
    checks, tracks = CheckList(), _two_tracks().confirmed
    for frame, value in enumerate((0.6, 0.9, 0.9, 0.7, 0.5)):
        checks.follow([_pair(value)], tracks, frame / 10)
    checks.follow([], tracks, 0.5)
    check = checks.get(1)
    assert check is not None
    assert (check.since_s, check.doubtful_s) == (0.5, 0.2)


def test_whose_face_is_left_of_two_is_asked_once_for_each_time_one_is_hidden() -> None:
    checks, tracker = CheckList(RiskSettings(merger_s=0.1, cooldown_s=99.0)), _two_tracks()
    asked = []
    for frame in range(1, 40):
        hidden = 4 <= frame < 15 or 20 <= frame < 22 or 30 <= frame < 36
        both = ((400, 300, 150, 0.9), (900, 300, 150, 0.9))
        tracker.update(make_faces(*(both[1:] if hidden else both)), frame / 30)
        checks.follow([_pair(0.9)], tracker.confirmed, frame / 30)
        check = checks.get(2)
        if check is not None:
            assert check.reason is Reason.MERGED
            asked.append((frame, round(check.doubtful_s * 30)))
            assert checks.postpone(2, frame / 30)
    assert asked == [(7, 4), (33, 30)]


def test_the_parts_of_a_risk_are_named_and_add_up() -> None:
    parts = RiskParts(overlap=0.5, jump=0.5)
    assert parts.named == (("overlap", 0.5), ("jump", 0.5))
    assert parts.value == pytest.approx(1 - (1 - 0.5) * (1 - 0.8 * 0.5))


def test_a_request_that_decides_nothing_is_repeated_a_few_times() -> None:
    checks = CheckList(RiskSettings(retry_s=0.1, retry_limit=3))
    checks.add(1, Reason.NEWCOMER, 0.0, 0.0)
    assert checks.postpone(1, 0.0)
    check = checks.get(1)
    assert check is not None
    assert check.next_s == pytest.approx(0.2)
    assert checks.postpone(1, 0.2)
    assert not checks.postpone(1, 0.6)
    assert 1 not in checks
