"""What the canvas shows: layouts, the change between them, and clear tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dualface_client.framing.layouts import Layout
from dualface_client.framing.moment import Moment, besides
from dualface_client.framing.room import shows_part
from dualface_client.framing.studio import Plan, Studio
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import (
    Box,
    FloatArray,
    Person,
    PictureFacts,
    SeatAssignment,
    TileLayout,
    TrackView,
    View,
)

HD = (1920, 1080)
WHOLE = (0.0, 0.0, 1920.0, 1080.0)
FPS = 25
AHEAD = 13
#: Centre x, y and height of a face; None while it is not there.
Place = tuple[float, float, float] | None
#: Places of the left and the right person at a time, and of faces without a seat.
Script = Callable[[float], Sequence[Place]]


def box_of(place: Place) -> FloatArray | None:
    if place is None:
        return None
    x, y, height = place
    half = 0.4 * height
    return np.array([x - half, y - height / 2, x + half, y + height / 2], np.float32)


def face_box(place: Place) -> Box:
    box = box_of(place)
    assert box is not None
    return tuple(box.tolist())


def film(
    script: Script,
    seconds: float,
    cuts: Sequence[float] = (),
    picture: PictureFacts | None = None,
    canvas: TileLayout | None = None,
    source: tuple[int, int] = HD,
    seats: int = 2,
    **changes: Any,
) -> list[Plan]:
    """One plan per frame."""
    moments = []
    picture = picture or PictureFacts((0.0, 0.0, float(source[0]), float(source[1])))
    cut_frames = {round(cut * FPS) for cut in cuts}
    for frame in range(round(seconds * FPS)):
        places = list(script(frame / FPS))
        boxes = [box_of(place) for place in places]
        left, right = (
            Person(number if number <= seats else 0, box, 0.0 if box is None else 0.9)
            for number, box in enumerate(boxes[:2], start=1)
        )
        tracks = tuple(
            TrackView(number, number if number < 3 else 0, box, 0.9)
            for number, box in enumerate(boxes, start=1)
            if box is not None
        )
        assignment = SeatAssignment(left, right, scene_cut=frame in cut_frames, tracks=tracks)
        moments.append(Moment(frame / FPS, assignment, picture))
    studio = Studio(canvas or TileLayout(), source, FramingSettings(**changes))
    return [studio.update(moments[n : n + AHEAD]) for n in range(len(moments))]


def layouts(plans: Sequence[Plan]) -> list[tuple[int, str]]:
    """Frame and layout of each change."""
    names = [plan.layout.value for plan in plans]
    return [(n, name) for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


def shows(view: View, place: Place) -> bool:
    crop = view.crop
    edges = crop.x_px, crop.y_px, crop.width_px, crop.height_px
    return shows_part(edges, face_box(place))


LEFT, RIGHT = (500.0, 420.0, 200.0), (1400.0, 430.0, 180.0)


def test_two_people_have_a_tile_each() -> None:
    plans = film(lambda _: (LEFT, RIGHT), 2)
    assert layouts(plans) == [(0, "pair")]
    left, right = plans[-1].views
    assert (left.area.x_px, right.area.x_px) == (0, 960)
    assert shows(left, LEFT)
    assert shows(right, RIGHT)
    assert not shows(left, RIGHT)
    assert 200 / left.crop.height_px == pytest.approx(180 / right.crop.height_px, rel=0.2)


def test_whoever_is_alone_after_a_cut_has_the_canvas_from_that_frame_on() -> None:
    def script(time_s: float) -> Sequence[Place]:
        return (LEFT, RIGHT) if 2 <= time_s < 4 else ((LEFT, None) if time_s < 2 else (None, RIGHT))

    plans = film(script, 6, cuts=(2, 4))
    assert layouts(plans) == [(0, "solo"), (50, "pair"), (100, "solo")]
    for frame, place in ((0, LEFT), (49, LEFT), (100, RIGHT), (149, RIGHT)):
        (view,) = plans[frame].views
        assert (view.area.width_px, view.area.height_px) == (1920, 1080)
        assert view.crop.width_px / view.crop.height_px == pytest.approx(16 / 9)
        assert shows(view, place)


def test_somebody_who_leaves_without_a_cut_makes_room_within_an_ease() -> None:
    plans = film(lambda time_s: (LEFT, RIGHT if time_s < 2 else None), 6, hold_s=1.0)
    (_, (frame, name)) = layouts(plans)
    assert name == "solo"
    assert frame == pytest.approx(75, abs=1)
    widths = [plan.views[0].area.width_px for plan in plans]
    assert widths[frame - 1] == 960
    assert widths[-1] == 1920
    between = [width for width in widths if 960 < width < 1920]
    assert 4 <= len(between) <= 8
    assert sorted(widths) == widths
    for plan in plans:
        for view in plan.views:
            shape = view.area.width_px / view.area.height_px
            assert view.crop.width_px / view.crop.height_px == pytest.approx(shape, rel=0.01)
        assert sum(view.area.width_px for view in plan.views) >= 1904


def test_a_short_absence_changes_nothing() -> None:
    plans = film(lambda time_s: (LEFT, None if 2 <= time_s < 2.8 else RIGHT), 5)
    assert layouts(plans) == [(0, "pair")]


def test_a_layout_stays_for_a_second_unless_only_the_shot_changes() -> None:
    def script(time_s: float) -> Sequence[Place]:
        return (LEFT, None) if int(time_s / 0.6) % 2 else (LEFT, RIGHT)

    cuts = [0.6 * n for n in range(1, 14)]
    plans = film(script, 8, cuts=cuts)
    changes = np.flatnonzero(np.diff([plan.layout.is_one for plan in plans]))
    assert len(changes) > 2
    assert np.diff(changes).min() >= FPS


def test_people_who_come_too_close_share_one_picture_and_part_again() -> None:
    def script(time_s: float) -> Sequence[Place]:
        x = 900 + 300 * abs(time_s - 3)
        return (900.0, 420.0, 200.0), (max(x, 1030.0), 430.0, 200.0)

    plans = film(script, 6)
    assert [name for _, name in layouts(plans)] == ["pair", "together", "pair"]
    for frame, plan in enumerate(plans):
        places = script(frame / FPS)
        if len(plan.views) == 1:
            assert all(shows(plan.views[0], place) for place in places)
        elif plan.layout is Layout.PAIR and frame > 5 and plan.shots:
            assert not shows(plan.views[0], places[1])
            assert not shows(plan.views[1], places[0])


def test_who_hides_the_other_is_not_shown_in_the_hidden_ones_tile() -> None:
    def script(time_s: float) -> Sequence[Place]:
        hidden = 2 <= time_s < 5
        return (900.0 if hidden else 500.0, 420.0, 200.0), (None if hidden else (920, 430, 180))

    plans = film(script, 7)
    for frame, plan in enumerate(plans[50:125], start=50):
        if len(plan.views) == 2 and plan.shots:
            assert not shows(plan.views[1], script(frame / FPS)[0]), frame


def test_nobody_gives_the_whole_picture_and_a_stranger_alone_a_picture_of_their_own() -> None:
    (view,) = film(lambda _: (None, None), 1)[-1].views
    assert (view.crop.width_px, view.crop.height_px) == pytest.approx((1920, 1080))
    close, beside = (700.0, 420.0, 300.0), (1400.0, 430.0, 280.0)
    (view,) = film(lambda _: (None, None, close), 1)[-1].views
    assert view.crop.height_px == pytest.approx(900, rel=0.02)
    (view,) = film(lambda _: (None, None, close, beside), 1)[-1].views
    assert view.crop.height_px == pytest.approx(1080)
    (view,) = film(lambda _: (None, None, LEFT), 1)[-1].views  # one of an audience
    assert view.crop.height_px == pytest.approx(1080)


def test_a_hand_before_the_face_or_one_false_face_does_not_move_the_camera_away() -> None:
    def hand(time_s: float) -> Sequence[Place]:
        return (None if round(time_s * FPS) == 50 else LEFT, None)

    def false_face(time_s: float) -> Sequence[Place]:
        return (LEFT, None, RIGHT if round(time_s * FPS) == 50 else None)

    (view,) = film(hand, 4)[60].views
    assert view.crop.height_px == pytest.approx(600, rel=0.05)
    assert layouts(film(false_face, 4, seats=1)) == [(0, "solo")]


def test_a_second_face_that_is_seen_now_and_then_does_not_send_the_camera_to_and_fro() -> None:
    def script(time_s: float) -> Sequence[Place]:
        return (LEFT, None, RIGHT if time_s % 0.9 < 0.2 and time_s < 5 else None)

    assert layouts(film(script, 8, seats=1)) == [(0, "wide"), (129, "solo")]


def test_one_picture_of_two_closes_in_on_who_is_left_after_a_moment_and_on_a_cut_at_once() -> None:
    def script(time_s: float) -> Sequence[Place]:
        return (900.0, 420.0, 200.0), (None if time_s >= 2 else (1030.0, 430.0, 200.0))

    assert layouts(film(script, 5)) == [(0, "together"), (62, "solo")]
    assert layouts(film(script, 5, cuts=(2,))) == [(0, "together"), (50, "solo")]


def test_the_crop_stays_in_its_window_and_shows_no_bar() -> None:
    panels = ((20.0, 200.0, 900.0, 800.0), (1000.0, 200.0, 1900.0, 800.0))
    facts = PictureFacts((0.0, 100.0, 1920.0, 980.0), panels)
    plans = film(lambda _: ((100.0, 420.0, 200.0), (1820.0, 430.0, 180.0)), 2, picture=facts)
    for plan in plans:
        for view, panel in zip(plan.views, panels, strict=True):
            crop = view.crop
            assert crop.x_px >= panel[0] - 1e-6
            assert crop.x_px + crop.width_px <= panel[2] + 1e-6
            assert crop.y_px >= panel[1] - 1e-6
            assert crop.y_px + crop.height_px <= panel[3] + 1e-6
    wide = film(lambda _: (None, None), 1, picture=facts)[-1].views[0].crop
    assert (wide.y_px, wide.height_px) == pytest.approx((100, 880))


def test_small_faces_come_out_as_large_as_others() -> None:
    plans = film(lambda _: ((150.0, 120.0, 42.0), (480.0, 130.0, 60.0)), 2, source=(640, 360))
    shares = [
        height / view.crop.height_px for height, view in zip((42, 60), plans[-1].views, strict=True)
    ]
    assert shares == pytest.approx([1 / 3, 1 / 3], abs=0.06)


def test_a_passer_by_beside_somebody_is_not_cut_by_the_tile() -> None:
    def script(time_s: float) -> Sequence[Place]:
        return LEFT, RIGHT, (1900 - 250 * time_s, 420.0, 150.0)

    plans = film(script, 7)
    for frame, plan in enumerate(plans):
        passer = script(frame / FPS)[2]
        if len(plan.views) == 2 and plan.shots:
            assert not any(shows(view, passer) for view in plan.views), frame


def test_with_alone_tile_both_tiles_stay_and_the_absent_one_shows_nobody_else() -> None:
    plans = film(lambda time_s: (LEFT, RIGHT if time_s < 2 else None), 6, alone="tile")
    assert {len(plan.views) for plan in plans} == {2}
    assert plans[-1].shots[1].away
    assert not shows(plans[-1].views[1], LEFT)
    alone = film(lambda _: ((960.0, 540.0, 1900.0), None), 3, alone="tile")[-1]
    assert alone.views[1].crop.width_px == 1920  # no part is free of the face: it is shown whole


def test_a_source_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="source size"):
        Studio(TileLayout(), (0, 1080))


def test_a_source_that_is_too_small_for_its_faces_is_told_about() -> None:
    def notes(source: tuple[int, int], height: float) -> tuple[str, ...]:
        studio = Studio(TileLayout(), source)
        box = box_of((source[0] / 2, source[1] / 2, height))
        tracks = (TrackView(1, 1, box, 0.9),) if box is not None else ()
        assignment = SeatAssignment(Person(1, box, 0.9), Person(), tracks=tracks)
        facts = PictureFacts((0.0, 0.0, float(source[0]), float(source[1])))
        for frame in range(30):
            studio.update([Moment(frame / FPS, assignment, facts)])
        return studio.notes

    assert notes(HD, 200.0) == ()
    (note,) = notes((640, 360), 50.0)
    assert "7.2 times" in note
    assert "--size" in note


def test_a_shaking_picture_stands_still_in_its_tiles() -> None:
    rng = np.random.default_rng(3)
    shake = np.cumsum(rng.normal(0, 6, (100, 2)), axis=0)
    shake -= np.array([np.convolve(axis, np.ones(9) / 9, "same") for axis in shake.T]).T
    studio = Studio(TileLayout(), HD, FramingSettings(lookahead_s=0.5))
    still = Studio(TileLayout(), HD, FramingSettings(lookahead_s=0.5))
    moments = []
    for frame, (x, y) in enumerate(shake):
        boxes = [box_of((LEFT[0] + x, LEFT[1] + y, 200)), box_of((RIGHT[0] + x, RIGHT[1] + y, 180))]
        people = [Person(number, box, 0.9) for number, box in enumerate(boxes, start=1)]
        tracks = tuple(
            TrackView(number, number, box, 0.9)
            for number, box in enumerate(boxes, start=1)
            if box is not None
        )
        step = tuple(np.diff(shake, axis=0, prepend=shake[:1])[frame].tolist())
        facts = PictureFacts(WHOLE, motion_xy_px=(step[0], step[1]))
        moments.append(
            Moment(frame / FPS, SeatAssignment(people[0], people[1], tracks=tracks), facts)
        )

    def content_steps(studio: Studio, *, told: bool) -> float:
        """Root mean square step of the content in the left tile, source pixels."""
        places = []
        for n in range(80):
            window = moments[n : n + AHEAD]
            if not told:
                window = [Moment(m.time_s, m.assignment, PictureFacts(WHOLE)) for m in window]
            crop = studio.update(window).views[0].crop
            places.append((crop.x_px - shake[n, 0], crop.y_px - shake[n, 1]))
        return float(np.sqrt((np.diff(places[15:], axis=0) ** 2).mean()))

    assert content_steps(studio, told=True) < 0.35 * content_steps(still, told=False)


def test_nothing_outside_a_shaking_picture_is_shown() -> None:
    facts = [
        PictureFacts(WHOLE, motion_xy_px=(30.0 * (-1) ** n, 20.0 * (-1) ** n)) for n in range(40)
    ]
    empty = SeatAssignment(Person(), Person())
    moments = [Moment(n / FPS, empty, each) for n, each in enumerate(facts)]
    studio = Studio(TileLayout(), HD)
    for n in range(30):
        for view in studio.update(moments[n : n + AHEAD]).views:
            crop = view.crop
            assert crop.x_px >= -1e-6
            assert crop.x_px + crop.width_px <= 1920 + 1e-6
            assert crop.y_px >= -1e-6
            assert crop.y_px + crop.height_px <= 1080 + 1e-6


@pytest.mark.parametrize("first_alone", [0, 6])
def test_windows_that_are_found_late_part_people_who_sit_close_in_the_picture(
    first_alone: int,
) -> None:
    """Two windows above each other; boxes reach beyond them, as detectors' boxes do.

    They are found at once, or the second one some frames after the first.
    """
    whole = PictureFacts((0.0, 0.0, 1280.0, 720.0))
    panels = ((1022.0, 202.0, 1258.0, 333.0), (1022.0, 352.0, 1258.0, 483.0))
    upper, lower = box_of((1140.0, 300.0, 142.0)), box_of((1140.0, 400.0, 108.0))
    tracks = tuple(
        TrackView(number, number, box, 0.9)
        for number, box in enumerate((upper, lower), start=1)
        if box is not None
    )
    assignment = SeatAssignment(Person(1, upper, 0.9), Person(2, lower, 0.9), tracks=tracks)
    facts = [
        whole,
        PictureFacts(whole.content_xyxy_px, panels[:1]),
        PictureFacts(whole.content_xyxy_px, panels),
    ]
    moments = [
        Moment(n / FPS, assignment, facts[(n >= 40 - first_alone) + (n >= 40)]) for n in range(60)
    ]
    studio = Studio(TileLayout(), (1280, 720))
    plans = [studio.update(moments[n : n + AHEAD]) for n in range(50)]
    (_, (frame, name)) = layouts(plans)
    assert name == "pair"
    assert frame == 40 - AHEAD + 1  # as soon as the windows are known, of the frames that wait too


def test_a_named_neighbour_counts_wherever_they_are_and_a_nameless_face_only_elsewhere() -> None:
    own, near, far = face_box(LEFT), face_box((530.0, 430.0, 190.0)), face_box(RIGHT)
    seen = [(1, own), (2, near), (0, near), (0, far)]
    assert besides(seen, {1}, [own]) == (near, far)
    assert besides(seen, {1, 2}, [own]) == (far,)


@pytest.mark.parametrize("stays", [0, 1])
def test_the_camera_glides_from_both_to_whoever_stays(stays: int) -> None:
    faces = (900.0, 420.0, 200.0), (1030.0, 430.0, 200.0)

    def scene(time_s: float) -> list[tuple[float, float, float] | None]:
        return [face if time_s < 2 or n == stays else None for n, face in enumerate(faces)]

    plans = film(scene, 5)
    crops = [plan.views[0].crop.x_px for plan in plans]
    first = next(n for n, plan in enumerate(plans) if plan.layout.value == "solo")
    steps = [abs(b - a) for a, b in pairwise(crops[first - 2 : first + 10])]
    assert max(steps) < 10
