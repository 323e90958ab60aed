"""Films: the kinds of footage people bring, and what is true of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dualface_client.settings import paths
from scripts.clips.films import FILMS, Lens
from scripts.clips.scenarios import SCENARIOS
from scripts.clips.truth import FrameTruth, Truth
from scripts.make_clips import ClipPlan, Composer, truth_of, usual_plan
from scripts.reference_models import ReferenceModels, box_iou

Story = Callable[[str], Truth]


@pytest.fixture(scope="module")
def models() -> ReferenceModels:
    return ReferenceModels(paths.models_dir())


@pytest.fixture(scope="module")
def story(models: ReferenceModels) -> Story:
    """The truth of a film, which needs no pixels."""
    return cache(lambda name: truth_of(usual_plan(name), paths.clips_dir(), models))


def seen(frame: FrameTruth) -> set[int]:
    return {person.id for person in frame.people if person.visible >= 0.6}


def by_shot(truth: Truth) -> dict[int, set[int]]:
    """Who is seen in all frames of each shot."""
    shots: dict[int, set[int]] = {}
    for frame in truth.frames:
        shots[frame.shot] = shots.get(frame.shot, seen(frame)) & seen(frame)
    return shots


@pytest.mark.parametrize("name", FILMS)
def test_every_film_has_both_people_somewhere_and_a_few_seconds(name: str, story: Story) -> None:
    truth = story(name)
    assert {1, 2} <= set().union(*(seen(frame) for frame in truth.frames))
    assert {truth.expected_left, truth.expected_right} == {1, 2}
    assert 2 <= truth.frame_count / 25 <= 6
    assert max(truth.size) <= 1280
    width, height = truth.size
    for frame in truth.frames:
        for left, top, right, bottom in (*frame.panels, *filter(None, [frame.content])):
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_solo_two_solo_shows_one_then_both_then_the_other(story: Story) -> None:
    truth = story("solo_two_solo")
    left, right = truth.expected_left, truth.expected_right
    assert by_shot(truth) == {0: {left}, 1: {left, right}, 2: {right}}


def test_single_cameras_never_show_both(story: Story) -> None:
    truth = story("single_cameras")
    left, right = truth.expected_left, truth.expected_right
    assert by_shot(truth) == {0: {left}, 1: {right}, 2: {left}, 3: {right}}


def test_a_close_up_is_closer_than_what_follows(story: Story) -> None:
    truth = story("close_up_first")
    shots = by_shot(truth)
    (alone,) = shots[0]
    assert shots[1] == {1, 2}
    assert alone == truth.expected_right
    close, wide = truth.frames[0].person(alone), truth.frames[-1].person(alone)
    assert close.height_px > 1.6 * wide.height_px


def test_sofa_close_leaves_less_than_a_face_between_the_faces(story: Story) -> None:
    for frame in story("sofa_close").frames:
        left, right = sorted(person.box for person in frame.people)
        gap, width = right[0] - left[2], left[2] - left[0]
        assert 0.1 * width < gap < width


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("slide_and_thumbnails", 2),
        ("split_screen", 2),
        ("picture_in_picture", 2),
        ("portrait_stack", 2),
        ("letterbox", 0),
    ],
)
def test_panels_are_told_and_hold_their_person(name: str, panels: int, story: Story) -> None:
    for frame in story(name).frames:
        assert len(frame.panels) == panels
        for person in frame.people:
            if panels:
                left, top, right, bottom = frame.panels[person.panel]
                assert left < person.box[0] < person.box[2] < right
                assert top < person.box[1] < person.box[3] < bottom
            else:
                assert person.panel == -1
        assert len({person.panel for person in frame.people}) == max(panels, 1)


def test_a_thumbnail_is_240_by_135(story: Story) -> None:
    for left, top, right, bottom in story("slide_and_thumbnails").frames[0].panels:
        assert right - left == 240
        assert bottom - top == pytest.approx(135, abs=1)


def test_the_upper_window_is_left(story: Story) -> None:
    truth = story("portrait_stack")
    frame = truth.frames[0]
    upper, lower = (frame.person(i) for i in (truth.expected_left, truth.expected_right))
    assert upper.box[3] < lower.box[1]


@pytest.mark.parametrize("name", ["letterbox", "pillarbox"])
def test_content_leaves_the_bars_out(name: str, story: Story, models: ReferenceModels) -> None:
    content = story(name).frames[0].content
    assert content is not None
    left, top, right, bottom = (round(value) for value in content)
    plan = ClipPlan(name, 0.1, 0, Fraction(10), FILMS[name].size_wh)
    (picture,) = Composer(plan, paths.clips_dir(), models).pictures()
    inside = np.zeros(picture.shape[:2], bool)
    inside[top:bottom, left:right] = True
    assert picture[~inside].max() == 0
    edges = picture[top, left:right], picture[top:bottom, left], picture[top:bottom, right - 1]
    assert all(edge.mean() > 20 for edge in (*edges, picture[bottom - 1, left:right]))


def test_a_poster_is_a_still_face_larger_than_the_people(story: Story) -> None:
    frames = story("poster").frames
    (face,) = {person for frame in frames for person in frame.people if person.still}
    assert face.passer_by
    assert face.height_px > 1.2 * max(person.height_px for person in frames[0].people[:2])


def test_an_audience_is_nobody_of_the_two(story: Story) -> None:
    shots = by_shot(story("audience"))
    assert shots == {0: {1, 2}, 1: {3, 4, 5, 6}, 2: {1, 2}}


def test_a_handheld_camera_moves_the_picture_and_the_truth_says_how_far(story: Story) -> None:
    frames = story("handheld").frames
    steps = [np.hypot(*frame.motion) for frame in frames[1:]]
    assert 1.5 < float(np.median(steps)) < 12
    for before, now in pairwise(frames):
        for identity in (1, 2):
            moved = np.subtract(now.person(identity).box[:2], before.person(identity).box[:2])
            np.testing.assert_allclose(moved, now.motion, atol=2.5)


def test_other_films_do_not_move_the_picture(story: Story) -> None:
    assert {frame.motion for frame in story("solo_two_solo").frames} == {(0.0, 0.0)}


def test_a_zoom_makes_faces_larger_and_smaller_again(story: Story) -> None:
    heights = [frame.person(1).height_px for frame in story("zoom_and_pan").frames]
    middle = heights[len(heights) // 2]
    assert middle > 1.25 * heights[0]
    assert middle > 1.25 * heights[-1]


def test_an_unclear_face_is_alone_while_a_seat_is_free(story: Story) -> None:
    truth = story("unclear_alone")
    assert by_shot(truth)[1] == {truth.expected_left}
    unclear = {f.shot for f in truth.frames for person in f.people if person.unclear}
    assert unclear == {1}


@pytest.mark.parametrize("name", ["solo_two_solo", "picture_in_picture", "handheld", "poster"])
def test_the_detector_sees_faces_where_the_truth_has_them(
    name: str, models: ReferenceModels
) -> None:
    film = FILMS[name]
    plan = ClipPlan(name, film.seconds, 0, Fraction(1), film.size_wh)
    composer = Composer(plan, paths.clips_dir(), models)
    pictures = list(composer.pictures())
    compared = 0
    for picture, frame in zip(pictures, composer.truth("x").frames, strict=True):
        found = models.detect(picture, 0.3)
        for person in frame.people:
            if person.visible >= 0.9:
                assert box_iou(np.array(person.box, np.float32), found.boxes_xyxy_px).max() > 0.55
                compared += 1
    assert compared >= 4


@pytest.mark.parametrize("name", ["solo_two_solo", "audience", "sofa_close", "side_by_side"])
def test_truth_is_the_same_without_pixels(name: str, models: ReferenceModels) -> None:
    size = FILMS[name].size_wh if name in FILMS else (320, 180)
    plan = ClipPlan(name, 3, 2, Fraction(2), size)
    composer = Composer(plan, paths.clips_dir(), models)
    drawn = sum(1 for _ in composer.pictures())
    assert drawn == 6
    quick = truth_of(plan, paths.clips_dir(), models)
    for one, other in zip(composer.truth("x").frames, quick.frames, strict=True):
        assert [p.box for p in one.people] == [p.box for p in other.people]
        assert [p.on_screen for p in one.people] == [p.on_screen for p in other.people]
        assert seen(one) == seen(other)


def test_hidden_faces_are_hidden_without_pixels_too(models: ReferenceModels) -> None:
    plan = ClipPlan("cross_once", 6, 1, Fraction(5), (192, 108))
    truth = truth_of(plan, paths.clips_dir(), models)
    assert min(person.visible for frame in truth.frames for person in frame.people) < 0.4
    assert truth.frames[0].all_visible(0.95)


def test_a_lens_stays_inside_its_scene() -> None:
    assert Lens(0.0, 1.0, 2.0).window == (0.0, 0.5, 0.5, 0.5)
    assert Lens().window == (0.0, 0.0, 1.0, 1.0)


def test_films_and_scenarios_have_different_names() -> None:
    assert not FILMS.keys() & SCENARIOS.keys()
