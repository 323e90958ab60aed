"""What the virtual cameras show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp, sin
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualface_client.framing.camera import CameraPair
from dualface_client.framing.spring import Spring
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Crop, FloatArray, Person, SeatAssignment, Side, TileLayout

Array = npt.NDArray[np.float64]
#: Centre x, centre y and height of a face at a time; None while it is missing.
Path = Callable[[float], tuple[float, float, float] | None]
LAYOUT = TileLayout()
HD = (1920, 1080)


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
    cameras = CameraPair(LAYOUT, source, FramingSettings(**changes))
    rows = []
    for time_s in times or (frame / fps for frame in range(round(seconds * fps))):
        place = path(time_s)
        box = None
        if place is not None:
            box = (make_box(*place) + rng.normal(0, noise_px, 4)).astype(np.float32)
        crop = cameras.update(SeatAssignment(Person(1, box), Person()), time_s)[0].crop
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
    rows = film(lambda t: None if 2 <= t < 6 else (600.0, 420.0, 200.0), seconds=10)
    held, wide, back = rows[int(2.9 * 30)], rows[int(5.9 * 30)], rows[-1]
    assert held[4] == pytest.approx(600)
    assert wide[4] == pytest.approx(1080, rel=0.01)
    assert wide[1] < 600 < wide[1] + wide[3]
    assert back[4] == pytest.approx(600, rel=0.02)
    assert np.abs(np.diff(rows[:, 4])).max() < 40  # it eases both ways


@pytest.mark.parametrize("missing", ["hold", "freeze", "placeholder"])
def test_other_policies_than_wide_leave_the_crop_alone(missing: str) -> None:
    rows = film(lambda t: None if 2 <= t < 6 else (600.0, 420.0, 200.0), seconds=7, missing=missing)
    assert np.ptp(rows[:, 1:5], axis=0).max() == pytest.approx(0.0, abs=1e-6)


def test_a_face_is_away_after_the_hold_and_seen_at_once() -> None:
    cameras = CameraPair(LAYOUT, HD, FramingSettings(hold_s=1.0))
    marks = []
    for frame in range(120):
        box = None if 30 <= frame < 90 else make_box(600, 420, 200)
        left, right = cameras.update(SeatAssignment(Person(1, box), Person()), frame / 30)
        marks.append((left.seen, left.away, right.seen, right.away))
    assert marks[29] == (True, False, False, False)
    assert marks[45] == (False, False, False, True)
    assert marks[75] == (False, True, False, True)
    assert marks[90] == (True, False, False, True)


def test_who_returns_elsewhere_is_cut_to_and_not_panned_to() -> None:
    rows = film(lambda t: None if 2 <= t < 5 else (500.0 if t < 2 else 1300.0, 420.0, 200.0), 6)
    steps = np.abs(np.diff(rows[:, 1]))
    assert steps.argmax() == 149
    assert in_tile(rows)[0][150] == pytest.approx(0.5, abs=0.05)
    assert steps[150:].max() < 2


def test_a_short_gap_moves_nothing() -> None:
    rows = film(lambda t: None if 2 <= t < 2.8 else (600.0, 420.0, 200.0), seconds=4)
    assert np.ptp(rows[:, 1:5], axis=0).max() == pytest.approx(0.0, abs=1e-6)


def test_nobody_ever_shows_the_sources_halves() -> None:
    cameras = CameraPair(LAYOUT, HD)
    for frame in range(90):
        shots = cameras.update(SeatAssignment(Person(), Person()), frame / 30)
    crops = [shot.crop for shot in shots]
    assert crops[0].x_px == pytest.approx(0, abs=1e-6)
    assert crops[1].x_px == pytest.approx(960)
    assert all((crop.y_px, crop.height_px) == pytest.approx((0, 1080)) for crop in crops)


def test_a_first_face_is_jumped_to_early_and_eased_to_late() -> None:
    early = film(lambda t: None if t < 0.5 else (600.0, 420.0, 200.0), seconds=2)
    assert early[15, 4] == pytest.approx(600)
    late = film(lambda t: None if t < 3 else (600.0, 420.0, 200.0), seconds=8)
    assert late[90, 4] > 1060
    assert late[-1, 4] == pytest.approx(600, rel=0.02)


def update(
    cameras: CameraPair, x: float, time_s: float, identity: int = 1, cut: bool = False
) -> Crop:
    person = Person(identity, make_box(x, 420, 200), 0.9)
    return cameras.update(SeatAssignment(person, Person(), scene_cut=cut), time_s)[0].crop


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
    cameras = CameraPair(LAYOUT, HD)
    for frame in range(60):
        update(cameras, 500, frame / 30)
    crop = update(cameras, x, 2.0, identity, cut)
    centred = crop.x_px + crop.width_px / 2 == pytest.approx(x)
    assert centred == jumps


def test_a_cut_without_a_face_starts_at_the_half() -> None:
    cameras = CameraPair(LAYOUT, HD)
    for frame in range(60):
        update(cameras, 1500, frame / 30)
    crop = cameras.update(SeatAssignment(Person(1), Person(), scene_cut=True), 2.0)[0].crop
    assert crop.x_px == pytest.approx(0, abs=1e-6)
    assert crop.height_px == pytest.approx(1080)
    assert update(cameras, 600, 2.1).height_px == pytest.approx(600)


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


def test_a_source_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="source size"):
        CameraPair(LAYOUT, (0, 1080))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_crop_has_the_tiles_aspect_and_lies_inside_whatever_happens(
    data: st.DataObject,
) -> None:
    source = data.draw(st.tuples(st.integers(1, 8000), st.integers(1, 8000)))
    layout = TileLayout(data.draw(st.sampled_from([(1920, 1080), (1280, 720), (640, 1080)])))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    cameras, time_s = CameraPair(layout, source), 0.0
    tile_w, tile_h = layout.tile_wh_px
    for _ in range(30):
        time_s += float(rng.choice([0.0, 0.01, 0.04, 1.5, 60.0]))
        people = []
        for _side in Side:
            box = rng.uniform(-500, 8500, 4).astype(np.float32) if rng.random() < 0.8 else None
            people.append(Person(int(rng.integers(0, 3)), box))
        assignment = SeatAssignment(people[0], people[1], scene_cut=bool(rng.random() < 0.1))
        for crop in (shot.crop for shot in cameras.update(assignment, time_s)):
            assert crop.width_px > 0
            assert crop.width_px / crop.height_px == pytest.approx(tile_w / tile_h)
            assert crop.x_px >= 0
            assert crop.y_px >= 0
            assert crop.x_px + crop.width_px <= source[0] + 1e-6
            assert crop.y_px + crop.height_px <= source[1] + 1e-6


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
    cameras = CameraPair(LAYOUT, HD)
    before = update(cameras, 600, 0.0)
    person = Person(1, np.array(box, np.float32))
    for frame in range(1, 20):
        after = cameras.update(SeatAssignment(person, Person()), frame / 30)[0].crop
    assert after == before
