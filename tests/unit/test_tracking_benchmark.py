"""The comparison's own arithmetic, and its cache made of a real clip."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tracking.cache import Seen, Watcher, key_of
from benchmarks.tracking.clipset import KINDS, Clip, Kind, clips
from benchmarks.tracking.compare import figures
from benchmarks.tracking.gates import gates
from benchmarks.tracking.measures import TileCounts, count_tiles, main_face, tile_motion_px, total
from benchmarks.tracking.replay import TRACKERS, Played, play
from benchmarks.tracking_cost import scene, thumbnails
from dualface_client.settings.tracking import SideSettings
from dualface_client.tracking.stillness import FaceMotion
from dualface_client.types import Crop, Person, SeatAssignment
from scripts.clips.truth import FrameTruth, PersonTruth, Truth

LEFT, RIGHT = Crop(0, 0, 480, 540), Crop(480, 0, 480, 540)


def face(identity: int, x: float, visible: float = 1.0) -> PersonTruth:
    return PersonTruth(identity, (x - 50, 200, x + 50, 320), 1.0, visible, 1.0)


def truth_of(*frames: tuple[PersonTruth, ...]) -> Truth:
    listed = tuple(FrameTruth(n, n, 0, people) for n, people in enumerate(frames))
    return Truth("c", "s", 0, (960, 540), "25/1", "1/25", len(frames), {}, 1, 2, 0.05, (), listed)


def played_of(*crops: tuple[Crop, Crop]) -> Played:
    box = np.array([200, 200, 300, 320], np.float32)
    shown = SeatAssignment(Person(1, box, 0.9), Person(2))
    return Played(shown=[shown] * len(crops), crops=list(crops), reid_faces=[0] * len(crops))


def test_swapped_tiles_are_wrong_and_counted_until_they_are_right_again() -> None:
    people = (face(1, 240), face(2, 720))
    right, swapped = (LEFT, RIGHT), (RIGHT, LEFT)
    found = count_tiles(played_of(right, swapped, swapped, right, swapped), truth_of(*[people] * 5))
    assert (found.counted, found.right, found.swaps) == (5, 2, 2)
    assert found.accuracy == pytest.approx(0.4)
    assert found.recover_s == pytest.approx(3 / 25 / 2)
    assert found.swaps_per_hour == pytest.approx(2 * 3600 / 0.2)


def test_frames_with_a_hidden_face_do_not_count_and_hidden_faces_are_nobody() -> None:
    hidden = (face(1, 240), face(2, 720, visible=0.7))
    found = count_tiles(played_of((RIGHT, LEFT)), truth_of(hidden))
    assert (found.counted, found.accuracy) == (0, 0.0)
    frame = FrameTruth(0, 0, 0, (face(1, 240, visible=0.4), face(2, 300)))
    assert main_face(frame, LEFT) == 2
    assert main_face(frame, RIGHT) == 0


def test_a_face_at_the_edge_is_not_held_against_the_camera() -> None:
    people = (face(1, 60), face(2, 720))
    found = count_tiles(played_of((LEFT, RIGHT)), truth_of(people))
    assert (found.tiles, found.centred, found.uncentred) == (2, 1, 0)
    people = (face(1, 350), face(2, 720))
    found = count_tiles(played_of((LEFT, RIGHT)), truth_of(people))
    assert (found.centred, found.uncentred) == (1, 1)


def test_a_neighbour_in_the_way_is_not_held_against_the_camera_for_half_a_second() -> None:
    beside, apart = (face(1, 350), face(2, 480)), (face(1, 350), face(2, 720))
    other = Crop(240, 0, 480, 540)  # has the second face in its middle, as near as it is
    found = count_tiles(played_of((LEFT, other)), truth_of(beside))
    assert (found.centred, found.uncentred, found.beside) == (1, 1, 1)
    assert found.centred_share_alone == 1.0
    frames = [beside, *[apart] * 20]
    found = count_tiles(played_of(*[(LEFT, RIGHT)] * 21), truth_of(*frames))
    assert found.beside == 13 + 1  # 12 frames after it the camera may still be on its way back
    assert found.uncentred - found.beside == 8


def test_motion_is_measured_in_output_pixels_and_zoom_counts() -> None:
    still = [(LEFT, RIGHT)] * 4
    assert max(tile_motion_px(played_of(*still))[0]) == 0
    moved = [(Crop(x, 0, 480, 540), RIGHT) for x in (0.0, 1.0, 2.0, 3.0)]
    motion, jitter = tile_motion_px(played_of(*moved))
    assert max(motion) == pytest.approx(2.0)
    assert max(jitter) == pytest.approx(0.0)
    zoomed = [(Crop(0, 0, 480 - 4 * n, 540 - 4.5 * n), RIGHT) for n in range(3)]
    assert max(tile_motion_px(played_of(*zoomed))[0]) > 8


def test_even_seeds_tune_and_odd_ones_report_and_names_are_unique() -> None:
    every = list(clips(range(4)))
    assert len({clip.name for clip in every}) == len(every) == 4 * len(KINDS)
    assert {clip.seed for clip in every if clip.reports} == {1, 3}
    assert len({key_of(clip) for clip in every}) == len(every)


def test_a_real_clip_is_watched_once_and_played_by_every_tracker(tmp_path: Path) -> None:
    plan = {"fps": Fraction(5), "size_wh": (640, 360)}
    clip = Clip(Kind("tiny", "calm", "side_by_side", 1.0, plan), 0)
    path = Watcher(tmp_path).watch(clip)
    written = path.stat().st_mtime_ns
    assert Watcher(tmp_path).watch(clip).stat().st_mtime_ns == written
    seen = Seen(path)
    assert [len(sight.faces) >= 2 for sight in seen.sights] == [True] * 5
    assert np.linalg.norm(seen.sights[0].embeddings[0]) == pytest.approx(1.0, abs=1e-3)
    assert min(seen.sights[0].sharpness[:2]) > 0.02
    asked = {}
    for tracker in TRACKERS:
        played = play(seen, tracker)
        found = count_tiles(played, seen.truth)
        assert found.accuracy == 1.0
        assert [len(ids) for ids in played.ids] == [2] * 5
        assert play(seen, tracker).crops == played.crops
        asked[tracker] = found.reid_frames
    assert asked == {"bytetrack": 0, "always": 5, "conditional": 1}


@pytest.mark.parametrize(
    ("group", "name", "value", "missed"),
    [
        ("all", "tile_accuracy", 0.994, 1),
        ("all", "IDSW", 4.0, 2),
        ("crossing", "reid_share", 0.11, 3),
        ("calm", "reid_share", 0.011, 4),
        ("all", "centred_alone", 0.98, 8),
    ],
)
def test_every_gate_can_fail(group: str, name: str, value: float, missed: int) -> None:
    good = figures(
        total([TileCounts(100, 100, 100, seconds=4.0, frames=100, tiles=200, centred=200)])
    )
    row = {**good, "IDSW": 2.0}
    found: dict[str, Any] = {
        "trackers": {
            "bytetrack": {"all": {**row, "swaps": 3}},
            "always": {"all": row},
            "conditional": {part: dict(row) for part in ("all", "crossing", "calm")},
        },
        "camera": {"motion_p95_px": 0.5, "jitter_p95_px": 0.1, "centred": 1.0},
    }
    found["trackers"]["conditional"][group][name] = value
    results = gates(found, [])
    assert [number for number, gate in enumerate(results) if not gate["met"]] == sorted((missed, 5))


def test_the_people_whose_cost_is_measured_talk_before_a_noisy_camera() -> None:
    faces = scene(120, crossing=False)
    for row in range(2):
        motion = FaceMotion.begin(faces[0].landmarks_px[row], 0.0)
        for number, each in enumerate(faces[1:], 1):
            motion.see(each.landmarks_px[row], number / 30)
        assert motion.moved_heights > SideSettings().still_share
    pictures = thumbnails(5)
    steps = [np.abs(a.astype(int) - b) for a, b in pairwise(pictures)]
    assert all(0 < step.mean() < 6 for step in steps)
