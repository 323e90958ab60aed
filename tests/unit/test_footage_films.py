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
RIGHT: tuple[str, ...] = ("zoom_and_pan", "side_by_side", "scene_cut")


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
