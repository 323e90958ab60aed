"""How the picture as a whole moves, against shifts that are known."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dualface_client.picture.analysis import PictureAnalysis
from dualface_client.picture.motion import MotionMeter
from dualface_client.types import ByteArray, Faces, FloatArray

WIDTH, HEIGHT = 320, 180
WHOLE = (0.0, 0.0, float(WIDTH), float(HEIGHT))
NOBODY: FloatArray = np.zeros((0, 4), np.float32)
Place = tuple[float, float]


def room() -> ByteArray:
    """Something to hold on to, larger than a view of it."""
    rng = np.random.default_rng(4)
    coarse = rng.uniform(40, 220, (18, 30)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (520, 320), interpolation=cv2.INTER_CUBIC), np.uint8)


def view(x: float, y: float, zoom: float = 1.0, frame: int = 0) -> ByteArray:
    """What a camera sees whose picture is moved by (x, y), with its noise."""
    shift = np.array([[zoom, 0, x - 100 * zoom], [0, zoom, y - 70 * zoom]], np.float64)
    seen = cv2.warpAffine(room(), shift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    noise = np.random.default_rng(frame).normal(0, 0.5, seen.shape)
    return np.asarray(np.clip(seen + noise, 0, 255), np.uint8)


def person(canvas: ByteArray, x: float, y: float) -> FloatArray:
    """Draws a head with a body that has something to hold on to; returns the face's box."""
    left, top = round(x), round(y)
    cv2.ellipse(canvas, (left, top + 130), (50, 90), 0, 0, 360, 60, -1)
    for row in range(6):
        cv2.line(canvas, (left - 40, top + 60 + 18 * row), (left + 40, top + 50 + 18 * row), 200, 3)
    cv2.ellipse(canvas, (left, top), (22, 30), 0, 0, 360, 190, -1)
    cv2.circle(canvas, (left - 8, top - 6), 3, 30, -1)
    cv2.circle(canvas, (left + 8, top - 6), 3, 30, -1)
    return np.array([x - 22, y - 30, x + 22, y + 30], np.float32)


def measured(place: Callable[[int], Place], count: int, people: int = 0) -> list[Place]:
    meter = MotionMeter()
    found = []
    for frame in range(count):
        picture = view(*place(frame), frame=frame)
        boxes = [
            person(picture, 90 + 140 * n + 9 * np.sin(0.7 * frame + n), 70 + 5 * np.cos(frame))
            for n in range(people)
        ]
        faces = np.array(boxes, np.float32).reshape(-1, 4)
        found.append(meter.update(picture, faces, WHOLE, frame == 0))
    return found


def shaken(frame: int) -> Place:
    return 3 * np.sin(1.3 * frame), 2 * np.cos(1.7 * frame)


@pytest.mark.parametrize("people", [0, 2])
def test_shake_is_measured_to_a_fraction_of_a_sample(people: int) -> None:
    found = measured(shaken, 30, people)
    true = np.diff([shaken(frame) for frame in range(30)], axis=0)
    assert found[0] == (0.0, 0.0)
    assert np.abs(np.array(found[1:]) - true).max() < 0.15


def test_a_still_camera_is_exactly_still_whoever_moves_in_front() -> None:
    for people in (1, 2):
        assert set(measured(lambda frame: (0.0, 0.0), 30, people)) == {(0.0, 0.0)}


def test_a_person_before_a_plain_wall_is_no_camera_motion() -> None:
    meter = MotionMeter()
    for frame in range(20):
        picture = np.full((HEIGHT, WIDTH), 120, np.uint8)
        face = person(picture, 160 + 10 * np.sin(frame), 70)
        assert meter.update(picture, face[None], WHOLE, frame == 0) == (0.0, 0.0)


def test_zooming_in_moves_the_middle_by_nothing() -> None:
    meter = MotionMeter()
    for frame in range(10):
        zoom = 1.01**frame
        # The scene's point in the middle of the picture stays there.
        x, y = 160 + 100 * zoom - 260 * zoom, 90 + 70 * zoom - 160 * zoom
        moved = meter.update(view(x, y, zoom, frame), NOBODY, WHOLE, frame == 0)
        assert np.abs(moved).max() < 0.2


def test_one_shaking_window_of_two_is_no_camera_motion() -> None:
    """The other one stands still, or has nothing to hold on to."""
    still = view(0, 0)
    for other in (still, np.full((HEIGHT, WIDTH), 120, np.uint8)):
        meter = MotionMeter()
        for frame in range(15):
            picture = view(*shaken(frame), frame=frame)
            picture[:, : WIDTH // 2] = other[:, : WIDTH // 2]
            assert meter.update(picture, NOBODY, WHOLE, frame == 0) == (0.0, 0.0)


def test_a_cut_is_no_motion_and_what_follows_is() -> None:
    meter = MotionMeter()
    meter.update(view(0, 0), NOBODY, WHOLE, True)
    assert meter.update(view(4, 0), NOBODY, WHOLE, False)[0] == pytest.approx(4, abs=0.15)
    assert meter.update(view(40, 30), NOBODY, WHOLE, True) == (0.0, 0.0)
    assert meter.update(view(42, 30), NOBODY, WHOLE, False)[0] == pytest.approx(2, abs=0.15)


def test_the_edges_of_bars_do_not_hold_the_picture() -> None:
    """The bars stand still while the picture between them shakes."""
    meter = MotionMeter()
    for frame in range(12):
        picture = view(*shaken(frame), frame=frame)
        picture[:24], picture[-24:] = 16, 16
        found = meter.update(picture, NOBODY, (0.0, 24.4, 320.0, 155.6), frame == 0)
        if frame:
            true = np.subtract(shaken(frame), shaken(frame - 1))
            assert np.abs(np.array(found) - true).max() < 0.2


class Panned:
    """What is measured of a camera that rests for three seconds and then pans."""

    def __init__(self, speed: float, rest_frames: int) -> None:
        analysis = PictureAnalysis((WIDTH, HEIGHT))
        self.looks = 0
        self.moved_px: list[float] = []
        for frame in range(rest_frames + 50):
            time_s, facts = frame / 30, analysis.unchanged
            if analysis.wants(time_s, frame == 0):
                picture = view(speed * max(0, frame - rest_frames), 0, frame=frame)
                facts = analysis.update(picture, Faces.empty(), time_s, frame == 0)
                self.looks += 1
            self.moved_px.append(facts.motion_xy_px[0])


@pytest.mark.parametrize("rest_frames", range(90, 94))
def test_the_first_motion_after_a_rest_is_shared_out_among_the_frames_it_took(
    rest_frames: int,
) -> None:
    """A still camera is looked at every fourth frame only; a pan may begin at any of them."""
    panned = Panned(1.5, rest_frames)
    assert max(panned.moved_px) == pytest.approx(1.5, abs=0.15)
    assert panned.moved_px[rest_frames + 8 :] == pytest.approx([1.5] * 42, abs=0.15)


def test_a_drift_below_the_noise_of_a_frame_does_not_count_for_being_looked_at_seldom() -> None:
    panned = Panned(0.06, 90)
    assert set(panned.moved_px) == {0.0}
    assert panned.looks < len(panned.moved_px) / 2


def test_a_still_camera_is_looked_at_now_and_then_and_a_moving_one_always() -> None:
    def looks(moves: bool) -> int:
        analysis, count = PictureAnalysis((1280, 720)), 0
        for frame in range(100):
            time_s = frame / 25
            if analysis.wants(time_s, frame == 0):
                picture = view(2.0 * (frame % 2) if moves else 0.0, 0.0)
                analysis.update(picture, Faces.empty(), time_s, frame == 0)
                count += 1
            assert analysis.unchanged.motion_xy_px == (0.0, 0.0)
        return count

    assert looks(moves=True) == 100
    assert looks(moves=False) == pytest.approx(38 + 18, abs=4)
