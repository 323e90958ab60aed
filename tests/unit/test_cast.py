"""Where to look, whose face is whose, who matters and who sits where."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualface_client.batch.cast import CastReport
from dualface_client.cast.clusters import likeness, people_of
from dualface_client.cast.people import Found, Why, find_people
from dualface_client.cast.plan import moments_to_look_at, stretches_s
from dualface_client.cast.seats import members, pins_of_numbers, seat
from dualface_client.cast.sightings import Sighting, Sightings, mouth_of
from dualface_client.cli.cast import text_of
from dualface_client.settings.cast import CastSettings
from dualface_client.settings.tracking import IdentitySettings, SideSettings, TrackingSettings
from dualface_client.tracking.pins import Pin
from dualface_client.tracking.stillness import shape_of
from dualface_client.types import FloatArray, Side

WH = (1000, 500)
#: Cosines as of a network that tells people apart: 0.8 to oneself, about 0 to others.
IDENTITY = IdentitySettings(
    match_cosine=0.5, reject_cosine=0.4, margin=0.1, duplicate_cosine=0.95, gallery_size=3
)
TRACKING = TrackingSettings(identity=IDENTITY)
CAST = CastSettings()


def looks(person: str, seed: int, spread: float = 0.5) -> FloatArray:
    own = np.random.default_rng(sum(map(ord, person))).normal(size=128)
    noise = np.random.default_rng([seed, 5]).normal(size=128)
    raw = own / np.linalg.norm(own) + spread * noise / np.linalg.norm(noise)
    return np.asarray(raw / np.linalg.norm(raw), np.float32)


def face(
    person: str,
    moment: int,
    x: float,
    y: float = 250.0,
    height: float = 150.0,
    quality: float = 0.9,
    moves: bool = True,
) -> Sighting:
    half = height / 5
    opened = half * (1 + 0.2 * np.sin(2.0 * moment + sum(map(ord, person)))) if moves else half
    points = np.array(
        [[-half, -half], [half, -half], [0, 0], [-half, opened], [half, opened]], np.float32
    ) + np.array([x, y], np.float32)
    box = (x - 0.4 * height, y - height / 2, x + 0.4 * height, y + height / 2)
    embedding = looks(person, 17 * moment + sum(map(ord, person)))
    return Sighting(moment, box, shape_of(points), mouth_of(points), embedding, quality)


def sightings(*found: Sighting, moments: int = 10) -> Sightings:
    heights: list[list[float]] = [[] for _ in range(moments)]
    for each in found:
        heights[each.moment].append(each.height_px)
    times = tuple(float(2 * moment) for moment in range(moments))
    return Sightings(times, tuple(map(tuple, heights)), found, 2.0 * moments, WH, "1")


def pair(moments: range = range(10), height: float = 150.0) -> list[Sighting]:
    ann = [face("ann", moment, 300, height=height) for moment in moments]
    return [*ann, *(face("bob", moment, 700) for moment in moments)]


def people(*found: Sighting, moments: int = 10, cast: CastSettings = CAST) -> Found:
    return find_people(sightings(*found, moments=moments), cast, TRACKING)


def names(found: Found) -> list[str]:
    """Who each person is, by whose typical face is nearest."""
    known = ("ann", "bob", "cid", "dan", "eve")
    return [
        max(known, key=lambda name: float(looks(name, 0, 0.0) @ person.sightings[0].embedding))
        for person in found.people
    ]


def seated(found: Found, tracking: TrackingSettings = TRACKING, *pins: Pin) -> dict[str, str]:
    named = dict(zip((person.number for person in found.people), names(found), strict=True))
    seats = seat(found, tracking, pins)
    return {side.value: named[person.number] for side, person in seats.items()}


# -- where to look --------------------------------------------------------------------------------


def test_key_frames_come_first_and_gaps_are_filled() -> None:
    settings = replace(CAST, least_moments=1)
    assert moments_to_look_at(20.0, 100, [0.0, 8.0, 8.1, 16.0], settings) == [0.0, 4.0, 8.0, 16.0]
    assert moments_to_look_at(20.0, 75, [0.0, 5.0, 10.0, 15.0], settings) == [0.0, 5.0, 10.0]


def test_a_short_file_is_looked_at_all_the_same_but_not_at_every_frame() -> None:
    times = moments_to_look_at(10.0, 10, [0.0], CAST)
    assert len(times) == CAST.least_moments
    assert len(moments_to_look_at(1.0, 10, [0.0], CAST)) == 2
    assert moments_to_look_at(0.0, 0, [], CAST) == [0.0]


def test_a_long_file_is_looked_at_coarsely_first() -> None:
    keys = [float(second) for second in range(7200)]
    times = moments_to_look_at(7200.0, 180_000, keys, CAST)
    assert len(times) == CAST.most_moments
    quarter = times[: len(times) // 4]
    assert quarter == sorted(quarter)
    assert quarter[-1] > 6900
    assert max(later - time for time, later in pairwise(quarter)) < 100


@given(
    st.floats(0, 1e5),
    st.integers(0, 10**7),
    st.lists(st.floats(0, 1e5), max_size=50).map(sorted),
)
def test_moments_are_different_and_inside(
    duration_s: float, frames: int, keys: list[float]
) -> None:
    times = moments_to_look_at(duration_s, frames, keys, replace(CAST, most_moments=60))
    assert len(set(times)) == len(times) <= 60
    assert 0 <= min(times) <= max(times) <= max(duration_s, *keys, 0.0)


def test_each_moment_stands_for_its_part_of_the_video() -> None:
    assert stretches_s([1.0, 2.0, 6.0], 10.0) == [1.5, 2.5, 6.0]
    assert stretches_s([], 10.0) == []


# -- whose face is whose --------------------------------------------------------------------------


def test_faces_are_gathered_by_person() -> None:
    groups = people_of(pair(), IDENTITY)
    assert [len(group) for group in groups] == [10, 10]
    assert likeness(groups[0], groups[0]) > 0.7
    assert abs(likeness(groups[0], groups[1])) < 0.3
    assert people_of([], IDENTITY) == []


def test_two_faces_of_one_moment_are_never_one_person() -> None:
    twins = [
        replace(face("ann", moment, x), box=(x, 0, x + 9, 9)) for moment in range(4) for x in (1, 2)
    ]
    assert [len(group) for group in people_of(twins, IDENTITY)] == [4, 4]


def test_a_poor_face_founds_no_group_but_joins_one() -> None:
    poor = [face("ann", 4, 300, quality=0.1), face("cid", 5, 300, quality=0.1)]
    groups = people_of([*pair(range(4)), *poor], IDENTITY)
    assert sorted(len(group) for group in groups) == [4, 5]
    assert people_of(poor, IDENTITY) == []


def test_a_group_that_matches_another_somewhere_is_the_same_person() -> None:
    """Ann from the front and from the side, with one face that is between the two."""
    front, side = looks("ann", 0, 0.0), looks("cid", 0, 0.0)

    def mixed(moment: int, share: float) -> Sighting:
        raw = (1 - share) * front + share * side
        return replace(face("ann", moment, 300), embedding=raw / np.linalg.norm(raw))

    faces = [*(mixed(m, 0.0) for m in range(3)), *(mixed(m, 1.0) for m in range(3, 6))]
    assert len(people_of(faces, IDENTITY)) == 2
    assert len(people_of([*faces, mixed(6, 0.42)], IDENTITY)) == 1


@pytest.mark.parametrize("best", ["front", "half turned", "side"])
def test_views_of_one_person_are_gathered_whatever_their_order(best: str) -> None:
    """The half turned face has something in common with both others, which have nothing."""
    views = {"front": looks("ann", 0, 0.0), "half turned": looks("bob", 0, 0.0)}
    views["side"] = looks("cid", 0, 0.0)

    def seen(view: str, moment: int, other: str | None = None) -> Sighting:
        raw = views[view] if other is None else 0.58 * views[view] + 0.42 * views[other]
        quality = 0.95 if view == best else 0.9
        vector = raw / np.linalg.norm(raw)
        return replace(face("ann", moment, 300), embedding=vector, quality=quality)

    faces = [seen(view, 3 * n + m) for n, view in enumerate(views) for m in range(3)]
    assert [len(group) for group in people_of(faces, IDENTITY)] == [3, 3, 3]
    links = [seen("half turned", 9, "front"), seen("half turned", 10, "side")]
    assert [len(group) for group in people_of([*faces, *links], IDENTITY)] == [11]
    # The half turned ones are seen beside the front once: another person, whose the side is.
    beside = replace(links[1], moment=0)
    assert [len(group) for group in people_of([*faces, links[0], beside], IDENTITY)] == [8, 3]


# -- who matters ----------------------------------------------------------------------------------


def test_the_two_who_are_on_screen_most_come_first() -> None:
    found = people(*pair(), *(face("cid", moment, 500) for moment in range(3)))
    assert set(names(found)[:2]) == {"ann", "bob"}
    assert [person.number for person in found.people] == [1, 2, 3]
    assert found.people[2].share == pytest.approx(0.25)


def test_a_larger_face_matters_more() -> None:
    large = [face("cid", moment, 500, height=220) for moment in range(10)]
    small = pair(height=70)
    assert names(people(*small, *large)) == ["cid", "bob", "ann"]


def test_who_speaks_matters_more() -> None:
    silent = [face("cid", moment, 500, moves=False) for moment in range(9)]
    # As still as a picture but for one movement.
    silent.append(face("cid", 9, 500))
    found = people(*pair(), *silent)
    assert names(found)[2] == "cid"
    assert found.people[2].why_not is Why.NONE
    assert found.people[2].speaking < found.people[0].speaking


def test_who_speaks_comes_before_who_listens_for_a_little_longer() -> None:
    listener = [face("cid", moment, 500) for moment in range(10)]
    listener = [replace(each, mouth=(1.0, 2.0)) for each in listener]
    speaker = [face("ann", moment, 300) for moment in range(9)]
    assert names(people(*listener, *speaker)) == ["ann", "cid"]


def test_a_picture_comes_last_however_large() -> None:
    poster = [face("cid", moment, 500, height=300, moves=False) for moment in range(10)]
    found = people(*pair(), *poster)
    assert names(found)[2] == "cid"
    assert found.people[2].why_not is Why.STILL
    assert seated(found) == {"left": "ann", "right": "bob"}


def test_who_is_seen_once_or_for_a_moment_gets_no_side() -> None:
    ann = [face("ann", moment, 300) for moment in range(10)]
    found = people(*ann, face("bob", 4, 700))
    assert found.people[1].why_not is Why.BRIEF
    assert seated(found) == {"left": "ann"}
    long = people(
        *(face("ann", m, 300) for m in range(60)),
        *(face("bob", m, 700) for m in (3, 4)),
        moments=60,
    )
    assert long.people[1].why_not is Why.BRIEF


def test_somebody_in_the_dark_behind_gets_no_side() -> None:
    """Hardly found, unlike the one on the stage; where all are in the dark, both count."""
    stage = [face("ann", moment, 300) for moment in range(6)]
    behind = [
        replace(face("bob", moment, 700, height=90, quality=0.4), score=0.6)
        for moment in range(6, 10)
    ]
    found = people(*stage, *behind)
    assert names(found) == ["ann", "bob"]
    assert found.people[1].why_not is Why.BRIEF
    lit = people(*stage, *(replace(each, score=0.9) for each in behind))
    assert lit.people[1].why_not is Why.NONE
    dark = people(*(replace(each, score=0.6) for each in stage), *behind)
    assert dark.people[1].why_not is Why.NONE


def test_nobody_of_an_audience_matters() -> None:
    row = [
        face(name, moment, 150 + 180 * index, height=80)
        for index, name in enumerate(("bob", "cid", "dan", "eve", "fay"))
        for moment in range(6, 10)
    ]
    found = people(*(face("ann", moment, 300) for moment in range(6)), *row)
    assert {person.why_not for person in found.people[1:]} == {Why.BRIEF}
    # In front of that audience two who are clearly larger do.
    large = [face("gus", moment, 800, height=150) for moment in range(6, 10)]
    assert people(*row, *large).people[0].height == pytest.approx(0.3)


def test_somebody_whom_the_look_missed_must_stay_for_longer_than_it_looked_away() -> None:
    assert people(*pair()).patience_s == pytest.approx(5.0)  # a quarter of the 20 s
    assert people(*pair(range(2)), moments=2).patience_s == pytest.approx(4.0)
    assert people(*pair(), moments=400).patience_s == pytest.approx(30.0)


# -- who sits where -------------------------------------------------------------------------------


def test_people_seen_together_are_ordered_by_place() -> None:
    assert seated(people(*pair())) == {"left": "ann", "right": "bob"}
    swap = replace(TRACKING, sides=SideSettings(swap=True))
    assert seated(people(*pair()), swap) == {"left": "bob", "right": "ann"}
    above = [face("ann", m, 520, 400) for m in range(6)] + [
        face("bob", m, 500, 100) for m in range(6)
    ]
    assert seated(people(*above, moments=6)) == {"left": "bob", "right": "ann"}


def test_people_never_seen_together_go_by_their_halves_then_by_who_comes_first() -> None:
    ann, bob = [face("ann", m, 700) for m in (0, 2, 4)], [face("bob", m, 300) for m in (1, 3, 5)]
    assert seated(people(*ann, *bob, moments=6)) == {"left": "bob", "right": "ann"}
    for x in (600, 480):  # neither in the other half, nor clearly
        bob = [face("bob", m, x) for m in (1, 3, 5)]
        ann = [face("ann", m, 580) for m in (0, 2, 4)]
        assert seated(people(*ann, *bob, moments=6)) == {"left": "ann", "right": "bob"}


@pytest.mark.parametrize(("x", "side"), [(300, "left"), (700, "right")])
def test_one_person_sits_in_the_own_half(x: float, side: str) -> None:
    found = people(*(face("ann", moment, x) for moment in range(10)))
    assert seated(found) == {side: "ann"}


def test_a_pin_names_its_person_whatever_the_rank() -> None:
    found = people(*pair(), *(face("cid", moment, 500) for moment in range(3)))
    right = Pin(Side.RIGHT, "cid.jpg", looks("cid", 1), "1")
    first = names(found)[0]
    assert seated(found, TRACKING, right) == {"right": "cid", "left": first}
    left = Pin(Side.LEFT, "bob.jpg", looks("bob", 1), "1")
    assert seated(found, TRACKING, left) == {"left": "bob", "right": "ann"}
    assert seated(found, TRACKING, left, right) == {"left": "bob", "right": "cid"}
    # A side pinned to nobody of the video stays free for whoever the pin means.
    nobody = Pin(Side.LEFT, "eve.jpg", looks("eve", 1), "1")
    assert seated(found, TRACKING, nobody) == {"right": first}


def test_a_pin_makes_no_cast_where_the_look_saw_too_little() -> None:
    found = people(face("ann", 0, 300), face("bob", 0, 700), moments=1)
    left = Pin(Side.LEFT, "bob.jpg", looks("bob", 1), "1")
    assert seated(found, TRACKING, left) == {}
    right = Pin(Side.RIGHT, "ann.jpg", looks("ann", 1), "1")
    assert seated(found, TRACKING, left, right) == {"left": "bob", "right": "ann"}


def test_a_pin_by_number_names_a_person_and_a_number_of_nobody_is_noted() -> None:
    found = people(*pair(), *(face("cid", moment, 500) for moment in range(3)))
    pins, notes = pins_of_numbers(found, {Side.LEFT: 3, Side.RIGHT: 7})
    assert seated(found, TRACKING, *pins)["left"] == "cid"
    assert notes == (
        "--pin right=cast:7 was ignored: only 3 people were found (list them with `dualface-client "
        "cast`), so positions decide the sides",
    )


@pytest.mark.parametrize(
    ("who", "found"), [((), "nobody was found"), (("ann",), "only 1 person was found")]
)
def test_a_note_says_how_few_were_found(who: tuple[str, ...], found: str) -> None:
    look = people(*(face(name, moment, 300) for name in who for moment in range(4)))
    assert found in pins_of_numbers(look, {Side.LEFT: 3})[1][0]


def test_a_member_has_the_best_face_and_those_that_differ_most() -> None:
    found = people(*pair(), face("ann", 0, 300, quality=0.2))
    (ann,) = [m for m in members(seat(found, TRACKING), found, IDENTITY) if m.side is Side.LEFT]
    assert ann.embeddings.shape == (3, 128)
    assert min(ann.qualities) >= IDENTITY.min_quality
    assert ann.model_version == "1"
    cosines = ann.embeddings @ ann.embeddings.T
    assert cosines[~np.eye(3, dtype=bool)].max() < IDENTITY.duplicate_cosine


# -- what the command prints ----------------------------------------------------------------------


def test_of_a_face_seen_once_nothing_is_said_about_speaking() -> None:
    once = text_of(Path("a.mp4"), CastReport(people(face("ann", 0, 300), moments=1), {}, {}, ()))
    assert once.startswith("a.mp4: 1 person in 1 picture\n")
    assert "silent" not in once
    assert "speaks" not in once
    still = people(*(face("ann", moment, 300, moves=False) for moment in range(3)))
    text = text_of(Path("a.mp4"), CastReport(still, {}, {}, ()))
    assert "1 person in 10 pictures" in text
    assert ", silent, " in text
