"""What a virtual camera shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp, sin
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualface_client.framing.camera import Camera
from dualface_client.framing.room import Surroundings
from dualface_client.framing.spring import Spring
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Box, Crop, FloatArray, Person

Array = npt.NDArray[np.float64]
#: Centre x, centre y and height of a face at a time; None while it is missing.
Path = Callable[[float], tuple[float, float, float] | None]
TILE = (960, 1080)
HD = (1920, 1080)


def make_camera(source: tuple[int, int] = HD, **changes: Any) -> Camera:
    return Camera(0.25, TILE, source, FramingSettings(**changes))


def make_box(x: float, y: float, height: float) -> FloatArray:
    half = 0.4 * height
    return np.array([x - half, y - height / 2, x + half, y + height / 2], np.float32)


def film(
    path: Path,
    seconds: float = 6.0,
    fps: float = 30.0,
    noise_px: float = 0.0,
    source: tuple[int, int] = HD,
    times: Iterable[float] | None = None,
    **changes: Any,
) -> Array:
    """Rows of time, crop x, y, width, height and the true face's centre (NaN while missing)."""
    rng = np.random.default_rng(0)
    camera = make_camera(source, **changes)
    rows = []
    for time_s in times or (frame / fps for frame in range(round(seconds * fps))):
        place = path(time_s)
        box = None
        if place is not None:
            box = (make_box(*place) + rng.normal(0, noise_px, 4)).astype(np.float32)
        crop = camera.update(Person(1, box), time_s)
        centre = place[:2] if place else (np.nan, np.nan)
        rows.append((time_s, crop.x_px, crop.y_px, crop.width_px, crop.height_px, *centre))
    return np.array(rows)


def in_tile(rows: Array) -> tuple[Array, Array]:
    """The face's centre in its tile, 0 to 1 in x and y."""
    return (rows[:, 5] - rows[:, 1]) / rows[:, 3], (rows[:, 6] - rows[:, 2]) / rows[:, 4]


def sits(x: float = 600.0, y: float = 420.0, height: float = 200.0) -> Path:
    return lambda _time: (x, y, height)


def test_a_face_is_a_third_of_the_tile_with_its_eyes_near_the_upper_third() -> None:
    rows = film(sits(), seconds=1)
    x, y = in_tile(rows)
    assert 200 / rows[-1, 4] == pytest.approx(1 / 3)
    assert x[-1] == pytest.approx(0.5)
    eyes = y[-1] - 0.1 / 3  # eyes lie a tenth of the box above its centre
    assert eyes == pytest.approx(0.39, abs=0.01)
    assert rows[:, 3] / rows[:, 4] == pytest.approx(960 / 1080)


@pytest.mark.parametrize("noise_px", [1.0, 2.0])
def test_a_static_talker_does_not_shake(noise_px: float) -> None:
    rows = film(sits(), seconds=20, noise_px=noise_px)
    scale = 960 / rows[:, 3]
    for low, size in ((1, 3), (2, 4)):
        edges = np.stack([rows[:, low], rows[:, low] + rows[:, size]])
        motion = np.abs(np.diff(edges)) * scale[1:]
        jitter = np.abs(np.diff(edges, n=2)) * scale[2:]
        assert np.percentile(motion, 95) < 1.0
        assert np.percentile(jitter, 95) < 1.0


def test_a_nodding_talker_does_not_shake_either() -> None:
    rows = film(lambda t: (600 + 8 * sin(2 * t), 420 + 10 * sin(7 * t), 200.0), 20, noise_px=2)
    motion = np.abs(np.diff(rows[:, 1])) * 960 / rows[1:, 3]
    jitter = np.abs(np.diff(rows[:, 1], n=2)) * 960 / rows[2:, 3]
    assert np.percentile(motion, 95) < 1.0
    assert np.percentile(jitter, 95) < 1.0


@pytest.mark.parametrize(
    "path",
    [
        lambda t: (700 + 300 * sin(t), 420.0, 200.0),
        lambda t: (500 + 120 * t, 420 + 20 * sin(3 * t), 180.0),
        lambda t: (600.0, 420.0, 150 * exp(0.1 * t)),
        lambda t: (600 + 60 * sin(2.5 * t), 420 + 40 * sin(2 * t), 220.0),
    ],
    ids=["sways", "walks", "comes nearer", "gesticulates"],
)
@pytest.mark.parametrize("fps", [10.0, 30.0, 60.0])
def test_the_face_stays_in_the_middle_of_its_tile(path: Path, fps: float) -> None:
    x, y = in_tile(film(path, seconds=8, fps=fps, noise_px=2))
    middle = (x > 0.3) & (x < 0.7) & (y > 0.3) & (y < 0.7)
    assert middle.mean() >= 0.99


def test_a_resting_camera_lets_the_face_wander_and_recentres_unseen() -> None:
    rows = film(lambda t: (600.0 if t < 1 else 645.0, 420.0, 200.0), seconds=12)
    assert np.abs(np.diff(rows[:, 1])).max() * 960 / rows[0, 3] < 1.0  # output pixels per frame
    assert abs(in_tile(rows)[0][-1] - 0.5) < 0.02
    still = film(lambda t: (600 + 50 * sin(5 * t), 420.0, 200.0), seconds=12, recentre_s=1e9)
    assert np.ptp(still[:, 1]) < 1.0
    follows = film(lambda t: (600 + 50 * sin(5 * t), 420.0, 200.0), seconds=12, rest_zone=0.0)
    assert np.ptp(follows[:, 1]) > 50


def test_a_camera_rests_again_after_a_walk() -> None:
    walk = film(lambda t: (600 + 200 * min(max(t - 1, 0), 2), 420.0, 200.0), seconds=8)
    assert in_tile(walk)[0][60] == pytest.approx(0.5, abs=0.15)
    nods = film(
        lambda t: (600 + 200 * min(max(t - 1, 0), 2) + (t > 5) * 40 * sin(6 * t), 420.0, 200.0),
        seconds=8,
    )
    assert np.abs(nods[-60:, 1] - walk[-60:, 1]).max() < 10


def test_a_step_is_followed_without_overshoot() -> None:
    rows = film(lambda t: (600.0 if t < 2 else 800.0, 420.0, 200.0), seconds=6)
    assert np.all(np.diff(rows[:, 1]) >= -1e-9)
    assert in_tile(rows)[0].min() >= 0.5 - 1e-6
    assert in_tile(rows)[0][-1] == pytest.approx(0.5, abs=0.031)


def test_the_speed_limit_holds() -> None:
    rows = film(lambda t: (500.0 if t < 1 else 900.0, 420.0, 200.0), seconds=4, max_speed=0.5)
    speed = np.abs(np.diff(rows[:, 1])) * 30 / rows[1:, 3]
    assert speed.max() == pytest.approx(0.5, rel=0.01)


def test_the_frame_rate_makes_no_difference() -> None:
    def path(t: float) -> tuple[float, float, float]:
        return 700 + 200 * sin(1.5 * t), 420.0, 180 + 60 * sin(0.5 * t)

    reference = film(path, seconds=6, fps=120)
    rng = np.random.default_rng(1)
    ragged = np.cumsum(rng.uniform(0.01, 0.06, 150)).tolist()
    for times in ([k / 60 for k in range(360)], [k / 24 for k in range(144)], [0.0, *ragged]):
        rows = film(path, times=times)
        for column in (1, 2, 3):
            expected = np.interp(rows[:, 0], reference[:, 0], reference[:, column])
            assert np.abs(rows[:, column] - expected).max() < 0.035 * 540


def test_zoom_waits_for_a_clear_change_of_size() -> None:
    small = film(lambda t: (600.0, 420.0, 200.0 if t < 1 else 220.0), seconds=6)
    assert np.ptp(small[:, 4]) == pytest.approx(0.0, abs=1e-6)
    large = film(lambda t: (600.0, 420.0, 200.0 if t < 1 else 300.0), seconds=10)
    zone = FramingSettings().zoom_dead_zone
    assert large[-1, 4] == pytest.approx(900 / (1 + zone), rel=0.01)
    assert np.abs(np.diff(np.log(large[:, 4]))).max() * 30 <= 0.8 + 1e-9


def test_a_missing_face_is_held_then_shown_wide_then_found_again() -> None:
    rows = film(lambda t: None if 2 <= t < 6 else (600.0, 420.0, 200.0), 10, alone="tile")
    held, wide, back = rows[int(2.9 * 30)], rows[int(5.9 * 30)], rows[-1]
    assert held[4] == pytest.approx(600)
    assert wide[4] == pytest.approx(1080, rel=0.01)
    assert wide[1] < 600 < wide[1] + wide[3]
    assert back[4] == pytest.approx(600, rel=0.02)
    assert np.abs(np.diff(rows[:, 4])).max() < 40  # it eases both ways


@pytest.mark.parametrize("missing", ["hold", "freeze", "placeholder"])
def test_other_policies_than_wide_leave_the_crop_alone(missing: str) -> None:
    rows = film(
        lambda t: None if 2 <= t < 6 else (600.0, 420.0, 200.0), 7, alone="tile", missing=missing
    )
    assert np.ptp(rows[:, 1:5], axis=0).max() == pytest.approx(0.0, abs=1e-6)


def test_a_face_is_away_after_the_hold_and_seen_at_once() -> None:
    camera = make_camera(hold_s=1.0)
    marks = []
    for frame in range(120):
        box = None if 30 <= frame < 90 else make_box(600, 420, 200)
        camera.update(Person(1, box), frame / 30)
        marks.append((camera.is_seen(), camera.is_away(frame / 30)))
    assert marks[29] == (True, False)
    assert marks[45] == (False, False)
    assert marks[75] == (False, True)
    assert marks[90] == (True, False)


def test_who_returns_elsewhere_is_cut_to_and_not_panned_to() -> None:
    rows = film(lambda t: None if 2 <= t < 5 else (500.0 if t < 2 else 1300.0, 420.0, 200.0), 6)
    steps = np.abs(np.diff(rows[:, 1]))
    assert steps.argmax() == 149
    assert in_tile(rows)[0][150] == pytest.approx(0.5, abs=0.05)
    assert steps[150:].max() < 2


def test_a_short_gap_moves_nothing() -> None:
    rows = film(lambda t: None if 2 <= t < 2.8 else (600.0, 420.0, 200.0), seconds=4)
    assert np.ptp(rows[:, 1:5], axis=0).max() == pytest.approx(0.0, abs=1e-6)


def test_nobody_yet_shows_the_home_half() -> None:
    camera = make_camera()
    crops = [camera.update(Person(), frame / 30) for frame in range(90)]
    assert crops[-1].x_px == pytest.approx(0, abs=1e-6)
    assert (crops[-1].y_px, crops[-1].height_px) == pytest.approx((0, 1080))


def test_a_first_face_is_jumped_to_early_and_eased_to_late() -> None:
    early = film(lambda t: None if t < 0.5 else (600.0, 420.0, 200.0), seconds=2)
    assert early[15, 4] == pytest.approx(600)
    late = film(lambda t: None if t < 3 else (600.0, 420.0, 200.0), seconds=8)
    assert late[90, 4] > 1060
    assert late[-1, 4] == pytest.approx(600, rel=0.02)


def update(camera: Camera, x: float, time_s: float, identity: int = 1, cut: bool = False) -> Crop:
    return camera.update(Person(identity, make_box(x, 420, 200), 0.9), time_s, cut)


@pytest.mark.parametrize(
    ("x", "identity", "cut", "jumps"),
    [
        (800.0, 1, False, False),
        (800.0, 1, True, True),
        (800.0, 2, False, True),
        (1500.0, 1, False, True),
    ],
    ids=["moves", "scene cut", "another person", "far away"],
)
def test_jumps(x: float, identity: int, cut: bool, jumps: bool) -> None:
    camera = make_camera()
    for frame in range(60):
        update(camera, 500, frame / 30)
    crop = update(camera, x, 2.0, identity, cut)
    centred = crop.x_px + crop.width_px / 2 == pytest.approx(x)
    assert centred == jumps


def test_a_cut_without_a_face_starts_at_the_half() -> None:
    camera = make_camera()
    for frame in range(60):
        update(camera, 1500, frame / 30)
    crop = camera.update(Person(1), 2.0, scene_cut=True)
    assert crop.x_px == pytest.approx(0, abs=1e-6)
    assert crop.height_px == pytest.approx(1080)
    assert update(camera, 600, 2.1).height_px == pytest.approx(600)


def test_a_tiny_face_is_not_blown_up_beyond_the_limit() -> None:
    rows = film(sits(height=30), seconds=1, max_upscale=2.0)
    assert rows[-1, 4] == pytest.approx(540)


@pytest.mark.parametrize("source", [(1080, 1920), (320, 240), (1, 1), (7680, 4320), (2560, 1080)])
def test_every_source_allows_a_crop_without_padding(source: tuple[int, int]) -> None:
    width, height = source
    rows = film(sits(width * 0.3, height * 0.4, height * 0.2), seconds=1, source=source)
    assert np.all(rows[:, 1:3] >= 0)
    assert np.all(rows[:, 1] + rows[:, 3] <= width + 1e-6)
    assert np.all(rows[:, 2] + rows[:, 4] <= height + 1e-6)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_crop_lies_inside_its_room_whatever_happens(data: st.DataObject) -> None:
    source = data.draw(st.tuples(st.integers(1, 8000), st.integers(1, 8000)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    camera, time_s = make_camera(source), 0.0
    for _ in range(30):
        time_s += float(rng.choice([0.0, 0.01, 0.04, 1.5, 60.0]))
        box = rng.uniform(-500, 8500, 4).astype(np.float32) if rng.random() < 0.8 else None
        room = a_room(rng, source)
        others = tuple(a_box(rng) for _ in range(rng.integers(0, 4)))
        cut = bool(rng.random() < 0.1)
        if rng.random() < 0.2:
            crop = camera.show_all(time_s, cut, room)
        else:
            person = Person(int(rng.integers(0, 3)), box)
            around = Surroundings(room, others, others)
            crop = camera.update(person, time_s, cut, around)
        assert min(crop.width_px, crop.height_px) > 0
        assert crop.x_px >= room[0] - 1e-6
        assert crop.y_px >= room[1] - 1e-6
        assert crop.x_px + crop.width_px <= room[2] + 1e-6
        assert crop.y_px + crop.height_px <= room[3] + 1e-6


def a_room(rng: np.random.Generator, source: tuple[int, int]) -> Box:
    if rng.random() < 0.5:
        return 0.0, 0.0, float(source[0]), float(source[1])
    left, right = sorted(rng.uniform(0, source[0], 2).tolist())
    top, bottom = sorted(rng.uniform(0, source[1], 2).tolist())
    return left, top, max(right, left + 1.0), max(bottom, top + 1.0)


def a_box(rng: np.random.Generator) -> Box:
    x, y, width, height = rng.uniform(0, 8000, 4).tolist()
    return x, y, x + width / 8, y + height / 8


@settings(max_examples=60, deadline=None)
@given(st.floats(-100, 100), st.floats(0.01, 2.0), st.integers(1, 50))
def test_many_small_spring_steps_end_where_one_large_step_does(
    start: float, seconds: float, steps: int
) -> None:
    one, many = Spring(start), Spring(start)
    one.step(10.0, seconds, 4.0, 1e9)
    for _ in range(steps):
        many.step(10.0, seconds / steps, 4.0, 1e9)
    assert many.value == pytest.approx(one.value, abs=1e-6)
    assert many.speed == pytest.approx(one.speed, abs=1e-6)
    assert min(start, 10.0) - 1e-9 <= one.value <= max(start, 10.0) + 1e-9


def test_a_spring_that_is_clamped_stops() -> None:
    spring = Spring(0.0)
    spring.step(100.0, 0.1, 4.0, 1e9)
    assert spring.clamp(0.0, 5.0) == 5.0
    assert spring.speed == 0.0
    assert spring.clamp(7.0, 9.0) == 7.0


@pytest.mark.parametrize("box", [(np.nan,) * 4, (700, 500, 600, 300), (600, 300, 600, 300)])
def test_a_box_without_area_counts_as_missing(box: tuple[float, ...]) -> None:
    camera = make_camera()
    before = update(camera, 600, 0.0)
    person = Person(1, np.array(box, np.float32))
    for frame in range(1, 20):
        after = camera.update(person, frame / 30)
    assert after == before
