"""Who gets a side, and who does not: order, unknown faces, pictures, crowds and the cast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dualface_client.settings.tracking import SideSettings, TrackingSettings
from dualface_client.tracking.checks import Reason
from dualface_client.tracking.director import Director
from dualface_client.tracking.pins import Pin
from dualface_client.tracking.stillness import FaceMotion
from dualface_client.types import Side
from tests.unit.test_tracking_director import (
    BOTH,
    WIDTH,
    Path,
    Scene,
    away,
    member,
    pin,
    play,
    sits,
    walks,
)

SWAPPED = TrackingSettings(sides=SideSettings(swap=True))
CROSSED = {"ann": Side.RIGHT, "bob": Side.LEFT}
TALK = frozenset(("ann", "bob"))
CAST = [member(Side.LEFT, "ann"), member(Side.RIGHT, "bob")]


# -- order by place -------------------------------------------------------------------------------


def test_of_two_people_above_each_other_the_upper_one_is_left() -> None:
    # The lower one is even a little further left, as in a call on an upright screen.
    people = {"ann": sits(980, y=250), "bob": sits(900, y=800)}
    for settings, sides in ((None, BOTH), (SWAPPED, CROSSED)):
        played = play(Scene(people, seconds=2), settings)
        for frame in range(60):
            assert {name: played.shown(frame, side) for name, side in sides.items()} == {
                name: name for name in sides
            }


def test_a_taller_person_beside_another_is_not_above() -> None:
    people = {"ann": sits(500, y=700), "bob": sits(1400, y=200)}
    assert play(Scene(people, seconds=2)).right_share(BOTH) == 1.0


@pytest.mark.parametrize("policy", ["identity", "position"])
def test_swap_exchanges_the_tiles(policy: str) -> None:
    settings = TrackingSettings(sides=SideSettings(swap=True, policy=policy))
    people = {"ann": sits(500), "bob": sits(1400)}
    assert play(Scene(people, seconds=3), settings).right_share(CROSSED) == 1.0


def test_swap_exchanges_the_tiles_of_people_who_come_one_after_the_other() -> None:
    people = {"ann": sits(500), "bob": away(sits(1400), 0, 5)}
    played = play(Scene(people, seconds=8), SWAPPED)
    assert played.shown(60, Side.RIGHT) == "ann"
    assert played.right_share(CROSSED, after_s=6) == 1.0


def test_a_photo_takes_precedence_over_swap() -> None:
    people = {"ann": sits(500), "bob": sits(1400)}
    pins = [pin(Side.LEFT, "ann")]
    assert play(Scene(people, seconds=3), SWAPPED, pins).right_share(BOTH, after_s=0.2) == 1.0


# -- people who turn out to be one ----------------------------------------------------------------


def mistaken_holder() -> Scene:
    """Bob, only ever seen from the side, takes the right; then his track shows Ann; then a cut."""

    def ann(time_s: float) -> tuple[float, float, float] | None:
        return None if 3 <= time_s < 6 else (500.0 if time_s < 9 else 1400.0, 400.0, 200.0)

    return Scene(
        {"ann": ann, "bob": away(away(sits(1400), 0, 3.4), 9, 99)},
        seconds=14,
        fps=25.0,
        shots=lambda t: int(t >= 12),
        turned=lambda name, _time: name == "bob",
    )


def test_somebody_who_turns_out_to_be_the_other_holder_frees_the_own_side() -> None:
    played = play(mistaken_holder())
    assert played.shown(round(8.9 * 25), Side.RIGHT) == "bob"
    assert played.shown(-1, Side.LEFT) == "ann"
    assert played.assignments[-1].right.identity == 0


def test_a_tile_given_by_hand_stays_with_a_face_that_was_known_all_along() -> None:
    told: list[dict[Side, int]] = []

    def look(director: Director, time_s: float) -> None:
        told.extend([director.seats] if director.seats else [])
        at_eight(director, time_s)

    at_eight = at(8.0, lambda director: director.hold(Side.RIGHT, 2))
    played = play(mistaken_holder(), wishes=look)
    assert {played.shown(frame, Side.RIGHT) for frame in range(10 * 25, 14 * 25)} == {"ann"}
    assert {each.left.identity for each in played.assignments[10 * 25 :]} == {0}
    # Frames that still wait are told of it too.
    assert told == [{Side.LEFT: 1, Side.RIGHT: 2}, {Side.LEFT: 0, Side.RIGHT: 1}]


# -- unknown stays unknown ------------------------------------------------------------------------


def test_a_face_that_says_nothing_after_a_cut_gets_no_absent_persons_side() -> None:
    """Ann and Bob; then a close-up of Cid from the side, in Bob's place."""
    people: dict[str, Path] = {
        "ann": away(sits(500), 4, 99),
        "bob": away(sits(1400), 4, 99),
        "cid": away(sits(1380), 0, 4),
    }
    scene = Scene(
        people,
        seconds=6,
        shots=lambda t: int(t >= 4),
        turned=lambda name, _time: name == "cid",
    )
    played = play(scene)
    assert {played.shown(frame, Side.RIGHT) for frame in range(121, 175)} == {""}
    assert {played.shown(frame, Side.LEFT) for frame in range(121, 175)} == {""}


def test_who_turns_to_the_camera_after_a_cut_is_known_at_once() -> None:
    people: dict[str, Path] = {"ann": away(sits(500), 4, 99), "bob": sits(1400)}
    scene = Scene(
        people,
        seconds=12,
        shots=lambda t: int(t >= 4),
        turned=lambda _name, time_s: 4 <= time_s < 9,
    )
    played = play(scene)
    assert {played.shown(frame, Side.RIGHT) for frame in range(125, 265)} == {""}
    assert played.shown(-1, Side.RIGHT) == "bob"
    late = next(f for f in range(270, 360) if played.shown(f, Side.RIGHT) == "bob")
    assert late <= 273
    assert Reason.UNKNOWN in played.requests[late].reasons
    # While nothing could be seen, it was hardly asked about.
    assert sum(len(request.face_rows) > 0 for request in played.requests[150:268]) <= 4


def test_a_face_that_may_be_the_absent_ones_takes_no_free_side_either() -> None:
    """Ann alone; after a cut Ann again, from the side and in the other half."""
    people: dict[str, Path] = {"ann": lambda t: (500.0 if t < 3 else 1400.0, 400.0, 200.0)}
    scene = Scene(people, seconds=6, shots=lambda t: int(t >= 3), turned=lambda _name, t: t >= 3)
    played = play(scene)
    assert {played.shown(frame, Side.RIGHT) for frame in range(180)} == {""}
    # Somebody who is certainly another one would take it.
    people = {"ann": away(sits(500), 3, 99), "cid": away(sits(1400), 0, 3)}
    assert (
        play(replace(scene, people=people, turned=lambda *_: False)).shown(-1, Side.RIGHT) == "cid"
    )


def test_motion_still_names_a_face_that_comes_back_at_once_at_its_place() -> None:
    """Lost for longer than a track lives, and then only seen from the side."""
    people: dict[str, Path] = {"ann": sits(500), "bob": away(sits(1400), 4, 5.2)}
    scene = Scene(people, seconds=8, turned=lambda name, t: name == "bob" and t > 5)
    played = play(scene)
    assert played.shown(-1, Side.RIGHT) == "bob"


def test_motion_names_nobody_where_two_faces_could_be_meant() -> None:
    people: dict[str, Path] = {
        "ann": sits(500),
        "bob": away(sits(1400, y=500), 4, 99),
        "cid": away(sits(1330, y=380), 0, 5.2),
        "dan": away(sits(1450, y=620), 0, 5.2),
    }
    side_on = frozenset(("cid", "dan"))
    played = play(Scene(people, seconds=6.5, turned=lambda name, _time: name in side_on))
    assert played.shown(-1, Side.RIGHT) == ""


def test_a_holder_nobody_could_recognise_loses_the_side_at_a_cut() -> None:
    """Bob is only ever seen from the side; after the cut Cid sits in another place."""
    people: dict[str, Path] = {
        "ann": sits(500),
        "bob": away(sits(1400), 3, 99),
        "cid": away(sits(1000), 0, 3),
    }
    scene = Scene(
        people, seconds=5, shots=lambda t: int(t >= 3), turned=lambda name, _time: name == "bob"
    )
    played = play(scene)
    before, after = played.assignments[80].right.identity, played.assignments[-1].right.identity
    assert played.shown(-1, Side.RIGHT) == "cid"
    assert after != before


# -- pictures and crowds --------------------------------------------------------------------------


def test_a_poster_loses_its_side_to_somebody_who_moves() -> None:
    people = {"poster": sits(900, y=200, height=400), "ann": sits(400), "bob": sits(1500)}
    played = play(Scene(people, seconds=5, noise_px=0.1, talkers=TALK))
    assert played.right_share(BOTH, after_s=2.3) == 1.0


def test_who_is_pinned_keeps_the_tile_without_stirring() -> None:
    people = {"ann": sits(400), "bob": sits(1500)}
    scene = Scene(people, seconds=5, noise_px=0.1, talkers=frozenset(("ann",)))
    assert play(replace(scene, truth=[])).shown(-1, Side.RIGHT) == ""
    assert play(scene, pins=[pin(Side.RIGHT, "bob")]).right_share(BOTH) == 1.0


def test_who_was_given_a_tile_by_hand_keeps_it_without_stirring() -> None:
    people = {"ann": sits(400), "bob": sits(1500)}
    scene = Scene(people, seconds=6, noise_px=0.1, talkers=frozenset(("ann",)))
    played = play(scene, wishes=at(3.0, lambda director: director.hold(Side.RIGHT, 2)))
    assert played.right_share(BOTH, after_s=3.1) == 1.0


def test_a_poster_that_comes_into_the_picture_takes_no_free_side() -> None:
    people = {"poster": away(sits(1300, y=200, height=400), 0, 3), "ann": sits(400)}
    played = play(Scene(people, seconds=8, noise_px=0.1, talkers=TALK))
    assert all(assignment.right.identity == 0 for assignment in played.assignments)


def test_a_listener_who_does_not_stir_keeps_the_side_while_nobody_moves() -> None:
    people = {"ann": sits(400), "bob": sits(1500)}
    assert play(Scene(people, seconds=5, noise_px=0.2)).right_share(BOTH) == 1.0


def test_a_picture_that_comes_to_life_gets_a_side() -> None:
    people = {"ann": sits(400), "cid": sits(1500)}
    scene = Scene(people, seconds=4, noise_px=0.1, talkers=frozenset(("ann",)))
    assert play(scene).shown(-1, Side.RIGHT) == ""
    scene = replace(scene, talkers=frozenset(("ann", "cid")))
    assert play(scene).shown(-1, Side.RIGHT) == "cid"


def test_only_movements_within_the_face_count() -> None:
    """A poster under a camera that pans, zooms and rolls."""
    rng = np.random.default_rng(0)
    face = np.array([[-40, -20], [40, -20], [0, 20], [-40, 40], [40, 40]], np.float32)
    still = FaceMotion.begin(face, 0.0)
    lively = FaceMotion.begin(face, 0.0)
    for frame in range(1, 100):
        time_s = frame / 25
        angle, zoom = 0.2 * np.sin(time_s), 1 + 0.3 * np.sin(2 * time_s)
        turn = zoom * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32
        )
        place = np.array([300 * np.sin(time_s), 50 * time_s], np.float32)
        noise = rng.normal(0, 0.05, (5, 2)).astype(np.float32)
        still.see((face + noise) @ turn.T + place, time_s)
        nod = face.copy()
        nod[2, 1] += 2.0 * np.sin(3 * time_s)
        lively.see((nod + noise) @ turn.T + place, time_s)
    least = SideSettings().still_share
    assert still.watched_s == lively.watched_s == pytest.approx(3.96)
    assert still.moved_heights < least / 2
    assert lively.moved_heights > least


def test_nobody_of_an_audience_takes_a_side() -> None:
    row: dict[str, Path] = {
        f"guest {index}": away(sits(200 + 300 * index, height=120), 4, 99) for index in range(6)
    }
    played = play(Scene({**row, "ann": away(sits(900), 0, 4)}, seconds=7))
    assert all(a.left.identity == a.right.identity == 0 for a in played.assignments[:119])
    assert "ann" in {played.shown(-1, Side.LEFT), played.shown(-1, Side.RIGHT)}


def test_before_an_audience_the_two_who_are_larger_take_the_sides() -> None:
    row: dict[str, Path] = {
        f"guest {index}": sits(50 + 300 * index, y=900, height=100) for index in range(7)
    }
    played = play(Scene({**row, "ann": sits(500), "bob": sits(1400)}, seconds=3))
    assert {played.shown(frame, Side.LEFT) for frame in range(90)} == {"ann"}
    assert {played.shown(frame, Side.RIGHT) for frame in range(90)} == {"bob"}


# -- the cast -------------------------------------------------------------------------------------


def test_the_cast_is_known_from_the_first_frame_of_every_shot() -> None:
    """Bob alone and large at the left, then both, then Ann alone at the right."""
    people: dict[str, Path] = {
        "ann": away(lambda t: (500.0, 400.0, 200.0) if t < 4 else (1500.0, 500.0, 500.0), 0, 2),
        "bob": away(lambda t: (500.0, 500.0, 500.0) if t < 2 else (1400.0, 400.0, 200.0), 4, 99),
    }
    scene = Scene(people, seconds=6, shots=lambda t: int(t >= 2) + int(t >= 4))
    played = play(scene, cast=CAST)
    assert {(a.left.identity, a.right.identity) for a in played.assignments} == {(1, 2)}
    assert {played.shown(frame, Side.RIGHT) for frame in range(120)} == {"bob"}
    assert {played.shown(frame, Side.LEFT) for frame in range(60)} == {""}
    assert {played.shown(frame, Side.LEFT) for frame in range(60, 180)} == {"ann"}
    # Without the cast the close-up would have been given the other side.
    assert play(scene).shown(30, Side.LEFT) == "bob"


def test_a_small_face_of_the_cast_is_not_kept_waiting_on_the_first_frame() -> None:
    """Faces that are too poor for an enrolment wait for a better moment, but not here."""
    people = {"ann": sits(500, height=42), "bob": sits(1400, height=42)}
    played = play(Scene(people, seconds=1, noise_px=0.2), cast=CAST)
    assert played.shown(0, Side.LEFT) == "ann"
    assert played.shown(0, Side.RIGHT) == "bob"


def test_who_comes_in_over_the_edge_is_known_once_the_face_is_whole() -> None:
    """Half a face looks like a stranger, however well it is seen."""
    people = {"ann": sits(500), "bob": walks(1970, 1500, 0, 4)}
    played = play(Scene(people, seconds=4), cast=CAST)
    whole = next(f for f in range(120) if played.truth[f]["bob"][0] + 40 < WIDTH)
    known = next(f for f in range(120) if played.shown(f, Side.RIGHT) == "bob")
    assert whole <= known <= whole + 6


def test_a_stranger_is_asked_about_again_while_somebody_of_the_cast_is_missing() -> None:
    """Bob takes his mask off: nothing but an embedding can tell."""
    people = {"ann": sits(500), "bob": sits(1400)}
    scene = Scene(people, seconds=20, fps=10, masked=lambda name, t: name == "bob" and t < 6)
    played = play(scene, cast=CAST)
    assert {played.shown(frame, Side.RIGHT) for frame in range(59)} == {""}
    known_s = played.times[next(f for f in range(200) if played.shown(f, Side.RIGHT) == "bob")]
    assert known_s < 6 + 8.0
    asked = sum(len(request.face_rows) > 0 for request in played.requests)
    assert asked <= 12


def test_a_blurred_face_is_asked_about_less_and_less() -> None:
    """Its box and landmarks say that it is seen well, and its embedding says nothing."""
    people = {"ann": sits(500), "bob": sits(1400)}
    for cast in (CAST, ()):
        scene = Scene(people, seconds=20, fps=25, blurred=lambda name, _time: name == "bob")
        played = play(scene, cast=cast)
        assert sum(len(request.face_rows) > 0 for request in played.requests) <= 20


def test_who_was_blurred_and_masked_is_known_within_seconds() -> None:
    """Questions that could not be answered do not count."""
    scene = Scene(
        {"ann": sits(500), "bob": sits(1400)},
        seconds=26,
        fps=10,
        blurred=lambda name, t: name == "bob" and t < 8,
        masked=lambda name, t: name == "bob" and 8 <= t < 16,
    )
    assert play(scene, cast=CAST).shown(-1, Side.RIGHT) == "bob"


def test_who_takes_a_side_while_nobody_has_a_gallery_is_enrolled_later() -> None:
    """Two small faces; one leaves, and a third person comes and walks up to the camera."""

    def comes_near(time_s: float) -> tuple[float, float, float]:
        return 960.0, 400.0, 34.0 + 45.0 * min(max(time_s - 14.0, 0.0), 4.0)

    people: dict[str, Path] = {
        "ann": sits(300, height=34),
        "bob": away(sits(1600, height=34), 6, 99),
        "cid": away(comes_near, 0, 2),
    }
    played = play(Scene(people, seconds=30, fps=25))
    assert played.shown(-1, Side.RIGHT) == "cid"
    assert any(len(request.face_rows) for request in played.requests)


def test_a_stranger_who_stays_is_asked_about_less_and_less() -> None:
    people = {"ann": sits(500), "cid": sits(1400)}
    played = play(Scene(people, seconds=130, fps=5), cast=CAST)
    asked_s = [
        time_s
        for time_s, request in zip(played.times, played.requests, strict=True)
        if Reason.UNKNOWN in request.reasons
    ]
    assert 3 <= len(asked_s) <= 6
    assert asked_s[0] < 2.0  # soon again: it may have been seen in a dissolve
    pauses_s = np.diff(asked_s)
    assert (pauses_s[1:] > 2 * pauses_s[:-1]).all()
    assert played.shown(-1, Side.RIGHT) == ""


def test_nobody_else_takes_a_side_of_the_cast() -> None:
    people = {"cid": sits(500, height=400), "bob": sits(1400), "ann": away(sits(900), 0, 30)}
    played = play(Scene(people, seconds=32, fps=10), cast=CAST)
    assert {played.shown(frame, Side.LEFT) for frame in range(299)} == {""}
    assert played.right_share(BOTH, after_s=30.2) == 1.0


def test_a_cast_of_one_leaves_the_other_side_to_who_stays() -> None:
    people = {"ann": sits(500), "cid": away(sits(1400), 2, 99), "dan": away(sits(1300), 0, 4)}
    played = play(Scene(people, seconds=9), cast=CAST[:1], join_s=3.0)
    assert {played.shown(frame, Side.LEFT) for frame in range(270)} == {"ann"}
    assert {played.shown(frame, Side.RIGHT) for frame in range(205)} == {""}
    assert played.shown(-1, Side.RIGHT) == "dan"


def test_a_pin_takes_precedence_over_the_cast() -> None:
    people = {"ann": sits(500), "bob": sits(1400), "cid": away(sits(900), 0, 2)}
    swapped = play(Scene(people, seconds=2), pins=[pin(Side.LEFT, "bob")], cast=CAST)
    assert swapped.right_share(CROSSED) == 1.0
    third = play(Scene(people, seconds=6), pins=[pin(Side.LEFT, "cid")], cast=CAST)
    assert third.shown(-1, Side.LEFT) == "cid"


def test_under_the_policy_position_the_cast_follows_its_places() -> None:
    people = {"ann": walks(500, 1400, 2, 4), "bob": walks(1400, 500, 2, 4)}
    by_place = TrackingSettings(sides=SideSettings(policy="position"))
    played = play(Scene(people, seconds=7), by_place, cast=CAST)
    assert played.shown(45, Side.LEFT) == played.shown(-1, Side.RIGHT) == "ann"


def test_embeddings_of_another_version_empty_the_casts_galleries_and_nothing_breaks() -> None:
    cast = [replace(each, model_version="0") for each in CAST]
    played = play(Scene({"ann": sits(500), "bob": sits(1400)}, seconds=3), cast=cast)
    assert played.right_share(BOTH, after_s=1.0) == 1.0


# -- by hand --------------------------------------------------------------------------------------


def at(second: float, wish: Callable[[Director], None]) -> Callable[[Director, float], None]:
    """Wishes something once, at the first frame from a second on."""
    left = [wish]

    def look(director: Director, time_s: float) -> None:
        if time_s >= second and left:
            left.pop()(director)

    return look


@pytest.mark.parametrize("policy", ["identity", "position"])
@pytest.mark.parametrize("second", [0.2, 3.0])  # while places still decide, and later
@pytest.mark.parametrize("pins", [[], [pin(Side.LEFT, "ann")]])
def test_a_swap_by_hand_lasts_whatever_decided_before(
    policy: str, second: float, pins: list[Pin]
) -> None:
    settings = TrackingSettings(sides=SideSettings(policy=policy))
    scene = Scene({"ann": sits(500), "bob": sits(1400)}, seconds=8)
    played = play(scene, settings, pins, wishes=at(second, Director.swap))
    assert played.right_share(CROSSED, after_s=second + 0.1) == 1.0


def test_a_swap_by_hand_reaches_frames_that_still_wait() -> None:
    scene = Scene({"ann": sits(500), "bob": sits(1400)}, seconds=4)
    seats: list[dict[Side, int]] = []

    def look(director: Director, time_s: float) -> None:
        seats.append(director.seats)
        at_three(director, time_s)

    at_three = at(3.0, Director.swap)
    play(scene, wishes=look)
    told = [each for each in seats if each]
    assert told == [{Side.LEFT: 2, Side.RIGHT: 1}]  # once, not with every frame


def test_somebody_who_is_given_a_tile_keeps_it_through_exits_and_cuts() -> None:
    people = {
        "ann": sits(500),
        "bob": sits(960),
        "cid": away(sits(1500), 5, 8),
    }
    scene = Scene(people, seconds=14, shots=lambda time_s: int(time_s >= 10))
    before = play(scene)
    (cid,) = {
        view.identity
        for view in before.assignments[100].tracks
        if abs(float(view.box_xyxy_px[0]) - 1420) < 60
    }
    played = play(scene, wishes=at(3.5, lambda director: director.hold(Side.LEFT, cid)))
    for second in (4, 9, 13):
        assert played.shown(second * 30, Side.LEFT) == "cid"
    assert played.shown(13 * 30, Side.RIGHT) in ("ann", "bob")


def test_a_stranger_cannot_be_given_a_tile() -> None:
    scene = Scene({"ann": sits(500), "bob": sits(1400)}, seconds=1)
    with pytest.raises(ValueError, match="person 7: is not known; known are 1, 2"):
        play(scene).director.hold(Side.LEFT, 7)
