"""Our ByteTrack, against the `trackers` package and on its own."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualface_client.settings.tracking import AssociationSettings
from dualface_client.tracking.bytetrack import ByteTracker
from dualface_client.types import Faces, Tracks

REFERENCE = Path(__file__).parent.parent / "fixtures" / "bytetrack_reference.json"


@cache
def _reference() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(REFERENCE.read_text())
    return data


def make_faces(rows: list[list[float]]) -> Faces:
    """Faces from `x1, y1, x2, y2, score`."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    marks = np.zeros((len(table), 5, 2), np.float32)
    return Faces(table[:, :4], table[:, 4], marks)


def box(x: float, y: float = 300.0, height: float = 150.0, score: float = 0.9) -> list[float]:
    return [x - 0.4 * height, y - height / 2, x + 0.4 * height, y + height / 2, score]


def _as_reference() -> AssociationSettings:
    given_settings = _reference()["settings"]
    return AssociationSettings(
        high_score=given_settings["high_conf_det_threshold"],
        low_score=0.0,
        activation_score=given_settings["track_activation_threshold"],
        min_iou=given_settings["minimum_iou_threshold"],
        min_iou_low=given_settings["minimum_iou_threshold"],
        min_consecutive_frames=given_settings["minimum_consecutive_frames"],
        confirm_at_start=False,
        lost_discount=0.0,
        lost_buffer_s=given_settings["lost_track_buffer"] / 30.0,
    )


def _ids_of_rows(tracks: Tracks, count: int) -> list[int]:
    ids = [-1] * count
    for track_id, row in zip(tracks.ids.tolist(), tracks.face_rows.tolist(), strict=True):
        if row >= 0:
            ids[row] = track_id
    return ids


@pytest.mark.parametrize("name", sorted(_reference()["sequences"]))
def test_detections_are_grouped_as_by_the_trackers_package(name: str) -> None:
    sequence = _reference()["sequences"][name]
    tracker = ByteTracker(_as_reference())
    names: dict[int, int] = {-1: -1}
    for index, (rows, expected) in enumerate(
        zip(sequence["detections"], sequence["ids"], strict=True)
    ):
        tracks = tracker.update(make_faces(rows), index / _reference()["frame_rate"])
        for ours, theirs in zip(_ids_of_rows(tracks, len(rows)), expected, strict=True):
            assert names.setdefault(ours, theirs) == theirs, f"frame {index}"
    assert len(set(names.values())) == len(names)


def test_the_reference_says_what_made_it() -> None:
    assert _reference()["versions"]["trackers"] == "2.6.1"
    assert len(_reference()["sequences"]) >= 6


def test_the_first_frame_of_a_shot_confirms_at_once_later_ones_need_two() -> None:
    tracker = ByteTracker()
    assert tracker.update(make_faces([box(300)]), 0.0).ids.tolist() == [1]
    assert tracker.update(make_faces([box(300), box(900)]), 0.033).ids.tolist() == [1]
    assert tracker.update(make_faces([box(300), box(900)]), 0.066).ids.tolist() == [1, 2]


def test_a_lost_track_moves_on_and_comes_back_under_its_id() -> None:
    tracker = ByteTracker()
    for frame in range(20):
        tracker.update(make_faces([box(300 + 6 * frame)]), frame / 30)
    for frame in range(20, 30):
        tracks = tracker.update(Faces.empty(), frame / 30)
        assert tracks.face_rows.tolist() == [-1]
        assert tracks.scores.tolist() == [0.0]
    assert [track.id for track in tracker.lost] == [1]
    centre = tracks.boxes_xyxy_px[0, [0, 2]].mean()
    assert centre == pytest.approx(300 + 6 * 29, abs=12)
    tracks = tracker.update(make_faces([box(300 + 6 * 30)]), 1.0)
    assert tracks.ids.tolist() == [1]
    assert tracker.confirmed[0].gap_s == pytest.approx(11 / 30)


@pytest.mark.parametrize("fps", [5.0, 10.0, 60.0])
def test_the_lost_buffer_is_in_seconds_at_any_frame_rate(fps: float) -> None:
    tracker = ByteTracker(AssociationSettings(lost_buffer_s=1.0))
    tracker.update(make_faces([box(300)]), 0.0)
    alive = 0.0
    for frame in range(1, round(3 * fps)):
        if len(tracker.update(Faces.empty(), frame / fps)):
            alive = frame / fps
    assert alive == pytest.approx(1.0, abs=1e-6)


def test_a_low_score_keeps_a_track_but_starts_none() -> None:
    tracker = ByteTracker()
    tracker.update(make_faces([box(300)]), 0.0)
    for frame in range(1, 60):
        rows = [box(300, score=0.3), box(900, score=0.3)]
        tracks = tracker.update(make_faces(rows), frame / 30)
    assert tracks.ids.tolist() == [1]
    assert tracks.face_rows.tolist() == [0]


def test_a_cut_ends_all_tracks_and_their_ids() -> None:
    tracker = ByteTracker()
    tracker.update(make_faces([box(300), box(900)]), 0.0)
    tracker.cut()
    assert tracker.update(make_faces([box(300), box(900)]), 0.033).ids.tolist() == [3, 4]


def test_motion_tells_people_apart_where_nearness_would_not() -> None:
    tracker = ByteTracker()
    for frame in range(41):
        rows = [box(400 + 10 * frame, y=300), box(800 - 10 * frame, y=330)]
        tracks = tracker.update(make_faces(rows), frame / 30)
    assert tracks.face_rows.tolist() == [0, 1]


def test_a_variable_frame_rate_changes_nothing_for_steady_motion() -> None:
    tracker = ByteTracker()
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 100))
    for time_s in times:
        tracks = tracker.update(make_faces([box(300 + 200 * time_s)]), float(time_s))
        assert tracks.ids.tolist() == [1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ids_are_never_reused_and_rows_never_shared(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = ByteTracker(AssociationSettings(lost_buffer_s=0.1))
    alive: list[set[int]] = []
    for frame in range(30):
        places = rng.uniform(0, 900, (5, 2)).tolist()
        rows = [box(x, y, 80.0, float(rng.random())) for x, y in places]
        tracks = tracker.update(make_faces(rows[: rng.integers(0, 6)]), frame / 30)
        seen_rows = [row for row in tracks.face_rows.tolist() if row >= 0]
        assert len(seen_rows) == len(set(seen_rows))
        assert tracks.ids.tolist() == sorted(set(tracks.ids.tolist()))
        alive.append(set(tracks.ids.tolist()))
    ended: set[int] = set()
    for before, after in pairwise(alive):
        ended |= before - after
        assert not ended & after


def _one_hides_the_other(tracker: ByteTracker) -> None:
    """Track 2 stays at 480, track 1 comes to 430 and is not seen in the last frame."""
    for frame, x in enumerate((300.0, 340.0, 380.0)):
        tracker.update(make_faces([box(x), box(480.0)]), frame / 30)
    tracker.update(make_faces([box(480.0)]), 3 / 30)


@pytest.mark.parametrize(("discount", "taker"), [(0.0, 1), (0.5, 2)])
def test_a_face_between_two_predictions_goes_to_the_track_that_was_just_seen(
    discount: float, taker: int
) -> None:
    tracker = ByteTracker(AssociationSettings(lost_discount=discount))
    _one_hides_the_other(tracker)
    tracker.update(make_faces([box(442.0)]), 4 / 30)
    assert [track.id for track in tracker.confirmed if track.face_row >= 0] == [taker]


def test_a_handed_over_face_belongs_to_the_other_track_from_then_on() -> None:
    tracker = ByteTracker()
    for frame, x in enumerate((300.0, 340.0, 380.0)):
        tracker.update(make_faces([box(x), box(480.0)]), frame / 30)
    tracker.update(make_faces([box(440.0)]), 3 / 30)
    seen = next(track for track in tracker.confirmed if track.face_row >= 0)
    (lost,) = tracker.lost
    tracker.hand_over(seen, lost)
    assert (lost.face_row, seen.face_row) == (0, -1)
    assert lost.score > 0
    assert seen.score == 0
    assert tracker.lost == [seen]
    tracker.update(make_faces([box(445.0)]), 4 / 30)
    assert [track.id for track in tracker.confirmed if track.face_row >= 0] == [lost.id]
