"""What is a border and what is an edge of another kind, on mean pictures drawn here."""

from __future__ import annotations

import numpy as np
import pytest

from dualface_client.picture.borders import Border, Evidence, Lines
from dualface_client.picture.windows import Look
from dualface_client.types import FloatArray

HEIGHT, WIDTH = 180, 320
STILL: FloatArray = np.zeros((HEIGHT, WIDTH), np.float32)


def textured(seed: int, level: float) -> FloatArray:
    """Levels down a line: what a window shows along its border."""
    rng = np.random.default_rng(seed)
    coarse = level + rng.uniform(-30, 30, 12)
    down = np.interp(np.arange(HEIGHT), np.linspace(0, HEIGHT, 12), coarse)
    return down[:, None].astype(np.float32)


def stepping(place: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Columns before a place show one thing and those after it another; samples are means.

    Args:
        place: Shape `(height, 1)`, in samples.
        before: Shape `(height, 1)`.
        after: Shape `(height, 1)`.
    """
    share = np.clip(np.arange(WIDTH)[None] + 1 - place, 0, 1)
    return np.asarray(before * (1 - share) + after * share, np.float32)


def at(place: float, leaning: float = 0.0) -> FloatArray:
    return (place + np.linspace(0, leaning, HEIGHT)[:, None]).astype(np.float32)


def border(
    mean: FloatArray, activity: FloatArray = STILL, across_people: bool = False
) -> Border | None:
    """The border near column 100 of a window to its right."""
    lines = Lines(mean, activity, across_people=across_people)
    for column in (99, 100, 101):
        start, end = np.array(0), np.array(HEIGHT)
        if lines.is_abrupt(np.array(column), start, end, 1):
            found = lines.border(column, 0, HEIGHT, 1)
            if found is not None:
                return found
    return None


@pytest.mark.parametrize("place", [100.0, 100.3, 100.5, 100.8])
def test_where_two_windows_meet_is_known_to_a_tenth_of_a_sample(place: float) -> None:
    found = border(stepping(at(place), textured(1, 80), textured(2, 150)))
    assert found is not None
    assert found.at == pytest.approx(place, abs=0.1)
    assert found.outside_level is None


def test_a_line_that_leans_by_half_a_sample_is_none() -> None:
    assert border(stepping(at(100.2, 0.5), textured(1, 80), textured(2, 150))) is None


def test_a_soft_edge_is_none() -> None:
    sharp = stepping(at(100.5), textured(1, 60), textured(2, 180))
    box = np.ones(7) / 7
    soft = np.apply_along_axis(lambda row: np.convolve(row, box, "same"), 1, sharp)
    assert border(soft.astype(np.float32)) is None


def test_steep_light_is_not_abrupt() -> None:
    """Each step is large, and no larger than the next ones."""
    mean = (textured(1, 60) + 0.5 * np.arange(WIDTH)[None]).astype(np.float32)
    mean[:, 90:110] += 8 * np.arange(20, dtype=np.float32)
    lines = Lines(mean, STILL, across_people=False)
    columns, start, end = np.arange(92, 106), np.array(0), np.array(HEIGHT)
    assert (lines.cover(columns, start, end) == 1).all()
    assert not lines.is_abrupt(columns, start, end, 1).any()


def test_an_edge_under_one_light_is_none() -> None:
    """A door frame before a wall: both get darker downwards, and the step stays what it is."""
    light = textured(1, 100)
    assert border(stepping(at(100.5), light, light + 40)) is None


def test_a_surface_outside_makes_it_a_border_and_is_known_by_its_level() -> None:
    surface = np.full((HEIGHT, 1), 30, np.float32)
    found = border(stepping(at(100.5), surface, np.full((HEIGHT, 1), 90, np.float32)))
    assert found is not None
    assert found.outside_level == pytest.approx(30)


def test_beside_a_surface_a_border_may_be_ragged_and_what_lies_beyond_may_move_alike() -> None:
    """The surface is plain and still along all of it, so it is straight."""
    surface, inside = np.full((HEIGHT, 1), 30, np.float32), textured(1, 140)
    places = at(100.5) + np.random.default_rng(3).uniform(-0.8, 0.8, (HEIGHT, 1))
    ragged = stepping(places.astype(np.float32), surface, inside)
    found = border(ragged)
    assert found is not None
    assert found.at == pytest.approx(100.5, abs=0.5)
    assert border(stepping(places.astype(np.float32), textured(2, 40), inside)) is None
    # Another window lies three samples further, and both show something that moves at one height.
    mean, activity = stepping(at(100.0), surface, inside), STILL.copy()
    mean[:, :97] = textured(2, 120)
    activity[60:120, 100:] = activity[60:120, :98] = 0.4
    assert border(mean, activity, across_people=True) is not None


def test_a_thin_line_makes_it_a_border_that_begins_behind_it() -> None:
    light = textured(1, 100)
    mean = stepping(at(98.5), light, np.full((HEIGHT, 1), 235, np.float32))
    share = np.clip(np.arange(WIDTH)[None] + 1 - 100.0, 0, 1)
    found = border((mean * (1 - share) + (light + 30) * share).astype(np.float32))
    assert found is not None
    assert found.at == pytest.approx(100, abs=0.1)


def test_what_moves_on_both_sides_is_one_thing() -> None:
    """A neck before a shelf; beside each other, two people may move at the same height."""
    mean = stepping(at(100.5), textured(1, 80), textured(2, 150))
    activity = STILL.copy()
    activity[60:120] = 3
    assert border(mean, activity, across_people=True) is None
    assert border(mean, activity, across_people=False) is not None
    activity[60:120, :100] = 0
    assert border(mean, activity, across_people=True) is not None


def test_noise_is_not_alive_and_a_face_is() -> None:
    rng = np.random.default_rng(0)
    evidence = Evidence()
    for frame in range(10):
        picture = 100 + rng.normal(0, 1, (HEIGHT, WIDTH))
        picture[50:80, 50:80] += 5 * (frame % 2)
        evidence.add(picture.astype(np.uint8), frame / 25)
    assert evidence.is_alive((50, 50, 80, 80))
    assert not evidence.is_alive((150, 50, 180, 80))


def test_the_samples_that_step_are_counted_exactly_along_every_line() -> None:
    evidence = Evidence()
    picture = np.random.default_rng(5).integers(95, 105, (HEIGHT, WIDTH)).astype(np.uint8)
    evidence.add(picture, 0.0)
    start, end, corner = 20, 120, 7  # 6 % of the length and a sample are left out at each end
    for lines, turned in zip(evidence.lines(), (picture, picture.T), strict=True):
        along = turned[start + corner : end - corner].astype(np.int16)
        counts = np.zeros(turned.shape[1])
        counts[1:-1] = (np.abs(along[:, 2:] - along[:, :-2]) > 5).sum(axis=0)
        found = lines.cover(np.arange(lines.count), start, end)
        assert found == pytest.approx(counts / len(along), abs=1e-6)
        assert 0 < found.max() < 1


@pytest.mark.parametrize(("share", "another"), [(0.25, False), (0.35, True)])
def test_a_picture_of_which_nearly_a_third_is_new_is_another(share: float, another: bool) -> None:
    evidence = Evidence()
    picture = np.full((HEIGHT, WIDTH), 100, np.uint8)
    assert not evidence.is_another(picture)
    evidence.add(picture, 0.0)
    picture = picture.copy()
    picture[:, : round(share * WIDTH)] = 140
    assert evidence.is_another(picture) == another


class Unread(Evidence):
    """Nobody may ask for its lines, which take most of the time of a look."""

    def lines(self) -> tuple[Lines, Lines]:
        raise AssertionError("lines without a face and without a known window")


def test_without_faces_and_known_windows_no_lines_are_worked_out() -> None:
    evidence = Unread()
    evidence.add(np.full((HEIGHT, WIDTH), 100, np.uint8), 0.0)
    assert Look(evidence, np.zeros((0, 4), np.float32)).windows() == []


def test_change_is_seen_though_every_picture_comes_in_the_same_memory() -> None:
    memory = np.zeros((90, 160), np.uint8)
    evidence = Evidence()
    for frame in range(6):
        memory[30:60, 40:80] = 100 + 50 * (frame % 2)
        evidence.add(memory, frame / 10)
    assert evidence.is_alive((40.0, 30.0, 80.0, 60.0))
