"""The editor's eye on truth and views: what is found in a frame, and what keeps a clip back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dualface_client.types import Box, Crop, Rect, View
from scripts.clips.editor import EditorTally, judge
from scripts.clips.truth import FrameTruth, PersonTruth, Truth

SOURCE = (1920, 1080)
LEFT_AREA, RIGHT_AREA = Rect(0, 0, 960, 1080), Rect(960, 0, 960, 1080)
CANVAS = Rect(0, 0, 1920, 1080)


def person(
    identity: int, x: float, y: float = 400, height: float = 200, **more: object
) -> PersonTruth:
    box = (x - 0.4 * height, y - height / 2, x + 0.4 * height, y + height / 2)
    values = {"on_screen": 1.0, "visible": 1.0, "depth": 1.0, **more}
    return PersonTruth(identity, box, **values)  # type: ignore[arg-type]  # fields by name


def frame(*people: PersonTruth, index: int = 0, **more: object) -> FrameTruth:
    return FrameTruth(index, 0, 0, people, **more)  # type: ignore[arg-type]  # fields by name


def tile(x: float, y: float = 440, height: float = 600, area: Rect = LEFT_AREA) -> View:
    """A tile's view around a place."""
    width = height * area.width_px / area.height_px
    return View(Crop(x - width / 2, y - height / 2, width, height), area)


ANN, BOB = person(1, 500), person(2, 1400)
GOOD = (tile(500), tile(1400, area=RIGHT_AREA))


def found(truth: FrameTruth, views: Sequence[View]) -> set[str]:
    return set(judge(truth, views, SOURCE).findings)


def test_a_tile_each_is_what_an_editor_shows() -> None:
    shot = judge(frame(ANN, BOB), GOOD, SOURCE)
    assert not shot.findings
    left, right = shot.mains
    assert left is not None
    assert right is not None
    assert (left.person.id, right.person.id) == (1, 2)
    assert left.height == pytest.approx(1 / 3)
    assert left.eyes == pytest.approx((380 - 140) / 600)


@pytest.mark.parametrize(
    ("views", "finding"),
    [
        ((tile(700), GOOD[1]), {"cut"}),
        ((tile(500, y=620), GOOD[1]), {"cut"}),
        ((tile(1000), GOOD[1]), {"empty"}),
        ((GOOD[0], tile(500, area=RIGHT_AREA)), {"twice"}),
        ((tile(240), GOOD[1]), {"cut", "bars"}),
    ],
)
def test_bad_tiles(views: tuple[View, View], finding: set[str]) -> None:
    assert found(frame(ANN, BOB), views) == finding


def test_a_neighbour_in_the_tile_crowds_it_and_half_of_one_is_cut() -> None:
    near = frame(ANN, person(2, 680), person(3, 1400))
    assert found(near, GOOD) == {"crowded"}
    assert found(frame(ANN, person(2, 767), person(3, 1400)), GOOD) == {"crowded", "cut"}
    small = frame(ANN, person(2, 720, height=70), person(3, 1400))
    assert found(small, GOOD) == set()


def test_faces_that_the_source_hides_or_cuts_are_not_held_against_a_view() -> None:
    hidden = person(3, 767, visible=0.3)
    assert found(frame(ANN, BOB, hidden), GOOD) == set()
    at_the_edge = frame(person(1, 40, on_screen=0.75, visible=0.75), BOB)
    edge = View(Crop(0, 140, 533, 600), LEFT_AREA)
    assert found(at_the_edge, (edge, GOOD[1])) == set()


def test_a_tile_may_show_what_hides_its_person() -> None:
    assert found(frame(person(1, 500, visible=0.2), BOB), GOOD) == set()
    assert found(frame(person(1, 500, on_screen=0.2, visible=0.2), BOB), GOOD) == {"empty"}


def test_bars_and_other_panels_stay_out() -> None:
    content = frame(ANN, BOB, content=(260.0, 0.0, 1660.0, 1080.0))
    assert found(content, (tile(500), GOOD[1])) == {"bars"}
    assert found(content, (tile(527), tile(1393, area=RIGHT_AREA))) == set()
    panels: tuple[Box, ...] = ((0, 0, 960, 1080), (960, 0, 1920, 1080))
    windows = frame(person(1, 800, panel=0), person(2, 1400, panel=1), panels=panels)
    assert found(windows, (tile(800), GOOD[1])) == {"bars"}
    assert found(windows, (tile(690), GOOD[1])) == set()


def test_a_window_over_a_window_stays_out_of_the_lower_ones_tile() -> None:
    panels: tuple[Box, ...] = ((0, 0, 1920, 1080), (600, 500, 900, 700))
    windows = frame(person(1, 500, panel=0), person(2, 1400, panel=0), panels=panels)
    assert found(windows, GOOD) == {"bars"}
    clear = (tile(500, y=190, height=380), GOOD[1])
    assert "bars" not in found(windows, clear)


def test_one_picture_shows_all_who_are_there_and_cuts_nobody() -> None:
    whole, left_half = View(Crop(0, 0, 1920, 1080), CANVAS), View(Crop(0, 0, 960, 540), CANVAS)
    assert found(frame(ANN, BOB), [whole]) == set()
    assert found(frame(ANN), [left_half]) == set()
    assert found(frame(ANN, BOB), [left_half]) == {"missing"}
    assert found(frame(person(1, 940)), [left_half]) == {"cut"}
    stranger = person(3, 1400, passer_by=True)
    assert found(frame(ANN, stranger), [left_half]) == set()


def test_a_change_of_layout_is_counted_and_not_judged() -> None:
    moving = (tile(500), View(Crop(900, 0, 500, 1080), Rect(700, 0, 1220, 1080)))
    assert judge(frame(ANN, BOB), moving, SOURCE).changes


def truth(frames: Sequence[FrameTruth]) -> Truth:
    return Truth(
        *("x.mp4", "x", 0, SOURCE, "25/1", "1/90000", len(frames), {}, 1, 2, 0.0, ()), tuple(frames)
    )


def tally(frames: Sequence[FrameTruth], views: Sequence[Sequence[View]]) -> EditorTally:
    told = EditorTally(truth(frames))
    for each, shown in zip(frames, views, strict=True):
        told.add(each, shown)
    return told


def test_a_clip_in_which_everything_is_right_has_no_problem() -> None:
    frames = [frame(ANN, BOB, index=n) for n in range(40)]
    assert tally(frames, [GOOD] * 40).problems() == []


def test_seats_are_held_against_the_truth() -> None:
    frames = [frame(ANN, BOB, index=n) for n in range(40)]
    swapped = (tile(1400), tile(500, area=RIGHT_AREA))
    told = tally(frames, [GOOD] * 20 + [swapped] * 20)
    assert told.findings()["wrong"] == 20
    assert told.problems()[0] == "bad in 50% of the frames"


def test_a_poster_in_a_tile_is_wrong() -> None:
    poster = person(3, 1000, still=True, passer_by=True)
    frames = [frame(ANN, BOB, poster, index=n) for n in range(4)]
    assert tally(frames, [(GOOD[0], tile(1000, area=RIGHT_AREA))] * 4).findings()["wrong"] == 4


def test_people_who_never_meet_may_have_either_side() -> None:
    gone = PersonTruth(1, (0, 0, 0, 0), 0, 0, 1), PersonTruth(2, (0, 0, 0, 0), 0, 0, 1)
    frames = [frame(ANN, gone[1], index=0), frame(gone[0], BOB, index=1)]
    left_only = [(tile(1000), tile(500, area=RIGHT_AREA)), (tile(1400), tile(900, area=RIGHT_AREA))]
    told = tally(frames, left_only)
    assert told.seats == (2, 1)
    assert told.findings()["wrong"] == 0


def test_an_unclear_face_belongs_to_no_tile() -> None:
    frames = [frame(person(1, 500, unclear=True), BOB, index=0)]
    assert tally(frames, [GOOD]).findings()["wrong"] == 1


def test_sizes_and_eye_lines_are_medians() -> None:
    frames = [frame(ANN, BOB, index=n) for n in range(10)]
    tight = (tile(500, y=400, height=400), tile(1400, area=RIGHT_AREA))
    told = tally(frames, [tight] * 10).problems()
    assert any("face is 0.50 of the tile" in problem for problem in told)
    assert any("differ by 1.50" in problem for problem in told)
    low = (tile(500, y=300), tile(1400, area=RIGHT_AREA))
    assert any("eyes are at 0.63" in problem for problem in tally(frames, [low] * 10).problems())
    many = [frame(ANN, BOB, index=n) for n in range(40)]
    assert tally(many, [tight] + [GOOD] * 39).problems() == []


def test_a_shaking_picture_is_told_from_a_moving_one() -> None:
    def shake(motions: Sequence[float], crops_x: Sequence[float]) -> float:
        frames = [frame(ANN, index=n, motion=(move, 0.0)) for n, move in enumerate(motions)]
        views = [(tile(x), tile(1400, area=RIGHT_AREA)) for x in crops_x]
        return tally(frames, views).shake()

    still, shaken = [0.0] * 20, [6.0, -6.0] * 10
    assert shake(still, [500] * 20) == 0
    assert shake([6.0] * 20, [500] * 20) == pytest.approx(0)
    assert shake(shaken, [500] * 20) == pytest.approx(12 / 600)
    follows = [500 + 6.0 * (n % 2 == 0) for n in range(20)]
    assert shake(shaken, follows) == pytest.approx(0)
    assert shake(still, follows) == pytest.approx(12 / 600)


def test_a_face_may_be_larger_where_the_source_has_no_more_room() -> None:
    close = [frame(person(1, 500, y=540, height=700), BOB, index=n) for n in range(4)]
    whole = tile(500, y=540, height=1080)
    told = tally(close, [(whole, tile(1400, area=RIGHT_AREA))] * 4).problems()
    assert not any("person 1's face" in problem for problem in told)
