"""What a later frame finds out changes the frames that still wait."""

from __future__ import annotations

import numpy as np

from dualface_client.tracking.hindsight import reseated, revised
from dualface_client.tracking.links import Relink
from dualface_client.types import FloatArray, Person, SeatAssignment, Side, TrackView

ANN, BOB, CID = 1, 2, 3


def box(x: float) -> FloatArray:
    return np.array([x, 0, x + 10, 10], np.float32)


def seen(**tracks: tuple[int, int]) -> SeatAssignment:
    """Tracks by name: id and identity; a track's box starts at ten times its id."""
    views = tuple(TrackView(key, who, box(10 * key), 0.9) for key, who in tracks.values())
    by_identity = {view.identity: view for view in views}
    left, right = (
        Person(who, view.box_xyxy_px, view.score) if (view := by_identity.get(who)) else Person(who)
        for who in (ANN, BOB)
    )
    return SeatAssignment(left, right, risk=0.7, tracks=views)


def places(assignment: SeatAssignment) -> list[float | None]:
    boxes = [assignment.left.box_xyxy_px, assignment.right.box_xyxy_px]
    return [None if each is None else float(each[0]) for each in boxes]


def test_swapped_tracks_change_places() -> None:
    before = seen(one=(7, ANN), other=(8, BOB))
    after = revised(before, 1.0, [Relink(7, BOB, 0.9), Relink(8, ANN, 0.9)])
    assert places(before) == [70, 80]
    assert places(after) == [80, 70]
    assert (after.left.identity, after.right.identity) == (ANN, BOB)
    assert {view.id: view.identity for view in after.tracks} == {7: BOB, 8: ANN}
    assert after.risk == before.risk


def test_frames_before_the_doubtful_moment_stay() -> None:
    before = seen(one=(7, ANN), other=(8, BOB))
    assert revised(before, 0.8, [Relink(7, BOB, 0.9), Relink(8, ANN, 0.9)]) is before


def test_a_face_that_is_named_late_is_shown_from_its_first_frame() -> None:
    before = seen(one=(7, ANN), newcomer=(9, 0))
    assert places(before) == [70, None]
    assert places(revised(before, 1.0, [Relink(9, BOB, 0.5)])) == [70, 90]


def test_who_loses_a_name_to_another_track_shows_nothing() -> None:
    before = seen(one=(7, ANN), other=(8, BOB))
    after = revised(before, 1.0, [Relink(7, CID, 0.0)])
    assert places(after) == [None, 80]
    after = revised(before, 1.0, [Relink(7, BOB, 0.0)])
    assert places(after) == [None, 70]
    assert {view.id: view.identity for view in after.tracks} == {7: BOB, 8: 0}


def test_a_track_that_was_not_there_changes_nothing() -> None:
    before = seen(one=(7, ANN), other=(8, BOB))
    assert revised(before, 1.0, [Relink(11, ANN, 0.0)]) is before
    assert revised(before, 1.0, [Relink(7, ANN, 0.0)]) is before


def test_a_recognised_photo_turns_the_sides_of_frames_that_wait() -> None:
    before = seen(one=(7, ANN), other=(8, BOB), third=(9, CID))
    turned = reseated(before, {Side.LEFT: BOB, Side.RIGHT: ANN})
    assert places(turned) == [80, 70]
    assert turned.tracks == before.tracks
    third = reseated(before, {Side.LEFT: CID, Side.RIGHT: BOB})
    assert places(third) == [90, 80]
    assert places(reseated(before, {Side.LEFT: 4, Side.RIGHT: ANN})) == [None, 70]
