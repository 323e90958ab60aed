"""The program on composed films, frame by frame, as an editor would see it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dualface_client.settings import paths
from scripts.clips.films import FILMS
from scripts.clips.scenarios import SCENARIOS
from scripts.clips.truth import Truth
from scripts.make_clips import truth_of, usual_plan
from scripts.reference_models import ReferenceModels
from tests.films import play

#: Films and scenarios that come out as an editor would show them. Add one when it does.
RIGHT: tuple[str, ...] = (
    *("solo_two_solo", "single_cameras", "sofa_close", "slide_and_thumbnails", "split_screen"),
    *("picture_in_picture", "letterbox", "pillarbox", "small_source", "audience", "zoom_and_pan"),
    *("unclear_alone", "side_by_side", "cross_once", "cross_often", "near_miss", "meet_and_part"),
    *("hide_behind", "huddle", "leave_and_return", "leave_and_return_other_side", "occlusion"),
    *("scene_cut", "handheld", "small_passer_by"),
)


@pytest.fixture(scope="module")
def story() -> Callable[[str], Truth]:
    models = ReferenceModels(paths.models_dir())
    return cache(lambda name: truth_of(usual_plan(name), paths.clips_dir(), models))


@pytest.mark.parametrize("name", RIGHT)
def test_a_film_comes_out_as_an_editor_would_show_it(
    name: str, story: Callable[[str], Truth]
) -> None:
    assert play(story(name)).problems() == []


def test_the_films_named_exist() -> None:
    assert set(RIGHT) <= FILMS.keys() | SCENARIOS.keys()
