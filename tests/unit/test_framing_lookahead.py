from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dualface_client.decisions.window import MAX_LOOKAHEAD_FRAMES, Decided, windows
from dualface_client.framing.camera import Camera
from dualface_client.framing.lookahead import lead_assignment
from dualface_client.settings.framing import FramingSettings
from dualface_client.stream.load import frames_that_may_wait
from dualface_client.tracking.links import Relink
from dualface_client.types import (
    Person,
    PictureFacts,
    SeatAssignment,
    TrackView,
)

FACTS = PictureFacts((0.0, 0.0, 1920.0, 1080.0))


def at(x: float | None, identity: int = 1) -> Person:
    box = None if x is None else np.array([x - 50, 400, x + 50, 520], np.float32)
    return Person(identity, box, 0.9 if box is not None else 0.0)


def frame_with(left: Person, *, cut: bool = False) -> SeatAssignment:
    return SeatAssignment(left, Person(), scene_cut=cut)


def lead_x(*window: SeatAssignment) -> float | None:
    box = lead_assignment(window).left.box_xyxy_px
    return None if box is None else float(box[0] + 50)


def test_the_last_known_place_of_the_same_person_leads() -> None:
    assert lead_x(frame_with(at(100))) == 100
    assert lead_x(frame_with(at(100)), frame_with(at(110)), frame_with(at(120))) == 120
    assert lead_x(frame_with(at(100)), frame_with(at(110)), frame_with(at(None))) == 110
    assert lead_x(frame_with(at(None)), frame_with(at(110))) == 110
    assert lead_x(frame_with(at(None)), frame_with(at(None))) is None


def test_somebody_who_is_not_near_in_time_is_looked_for_in_the_whole_window() -> None:
    frames = [frame_with(at(x)) for x in (None, None, 300, 310)]
    box = lead_assignment(frames, near=1).left.box_xyxy_px
    assert box is not None
    assert box[0] + 50 == 300
    seen = lead_assignment([frame_with(at(100)), *frames], near=1).left.box_xyxy_px
    assert seen is not None
    assert seen[0] + 50 == 100


def test_no_shot_and_no_person_is_left_early() -> None:
    assert lead_x(frame_with(at(100)), frame_with(at(900), cut=True)) == 100
    assert lead_x(frame_with(at(100)), frame_with(at(900, identity=2))) == 100
    first = lead_assignment([frame_with(at(900), cut=True), frame_with(at(910))])
    assert first.scene_cut
    assert lead_x(frame_with(at(None, identity=0)), frame_with(at(300))) == 300


@pytest.mark.parametrize("fps", [10, 25, 60])
def test_the_camera_no_longer_lags_behind_a_walking_person(fps: int) -> None:
    """300 px/s through a 1920 px picture: the face stays near the middle of its tile."""
    worst = {}
    for lead_s in (0.0, FramingSettings().lead_s):
        camera = Camera(0.25, (960, 1080), (1920, 1080), FramingSettings())
        walk = [frame_with(at(500 + 300 * n / fps)) for n in range(3 * fps)]
        ahead = round(lead_s * fps)
        offsets = []
        for n, entry in enumerate(walk[: 2 * fps]):
            lead = lead_assignment([entry, *walk[n + 1 : n + 1 + ahead]])
            crop = camera.update(lead.left, n / fps)
            offsets.append(abs((500 + 300 * n / fps - crop.x_px) / crop.width_px - 0.5))
        worst[lead_s] = max(offsets[fps:])
    assert worst[FramingSettings().lead_s] < 0.06
    assert worst[0.0] > 2 * worst[FramingSettings().lead_s]


def entries(count: int, fps: int = 25) -> list[Decided]:
    return [Decided(n / fps, frame_with(at(None)), FACTS) for n in range(count)]


def numbers(window: list[Decided], fps: int = 25) -> list[int]:
    return [round(entry.time_s * fps) for entry in window]


@pytest.mark.parametrize("lookahead_s", [0.0, 0.2, 5.0])
def test_every_frame_gets_one_window_in_order(lookahead_s: float) -> None:
    got = list(windows(entries(60), lookahead_s))
    assert [numbers(window)[0] for window in got] == list(range(60))
    for window in got:
        first = numbers(window)[0]
        assert numbers(window) == list(range(first, first + len(window)))
        assert len(window) <= MAX_LOOKAHEAD_FRAMES + 1
    expected = min(round(lookahead_s * 25), MAX_LOOKAHEAD_FRAMES)
    assert len(got[0]) == expected + 1
    assert len(got[-1]) == 1


@pytest.mark.parametrize(
    ("size_wh", "waiting"), [((1920, 1080), 24), ((3840, 2160), 10), ((7680, 4320), 2)]
)
def test_large_frames_wait_in_smaller_numbers(size_wh: tuple[int, int], waiting: int) -> None:
    got = list(windows(entries(60), 5.0, min(MAX_LOOKAHEAD_FRAMES, frames_that_may_wait(*size_wh))))
    assert [numbers(window)[0] for window in got] == list(range(60))
    assert max(len(window) for window in got) == waiting + 1


def test_what_a_frame_finds_out_is_put_right_in_the_frames_that_wait() -> None:
    box = np.array([10, 10, 20, 20], np.float32)
    unnamed = SeatAssignment(Person(1), Person(2), tracks=(TrackView(7, 0, box, 0.9),))
    frames = [replace(entry, assignment=unnamed) for entry in entries(10)]
    frames[6] = replace(frames[6], relinks=(Relink(7, 2, 4 / 25),))
    shown = [window[0].assignment.right.box_xyxy_px for window in windows(frames, 0.2)]
    # Frame 0 had been composed when frame 6 came; frames 1 to 3 are older than the doubt.
    assert [index for index, each in enumerate(shown) if each is not None] == [4, 5]
    live = [window[0].assignment.right.box_xyxy_px for window in windows(frames, 0.0)]
    assert all(each is None for each in live)


def test_no_lookahead_holds_nothing_back() -> None:
    source = iter(entries(3))
    first = next(windows(source, 0.0))
    assert numbers(first) == [0]
    assert numbers([next(source)]) == [1]
