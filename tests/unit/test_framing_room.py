"""Where a crop may lie."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dualface_client.framing.room import Surroundings, is_apart, place, shows_part, size_for
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import Box

HD = Surroundings((0.0, 0.0, 1920.0, 1080.0))
TILE = 960 / 1080
MARGIN = 0.1


def face_at(x: float, y: float = 400.0, height: float = 200.0) -> Box:
    return x - 0.4 * height, y - height / 2, x + 0.4 * height, y + height / 2


def cropped(centre: tuple[float, float], size: tuple[float, float]) -> Box:
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2, *size


def test_nothing_moves_a_crop_that_shows_nobody_else() -> None:
    found = place((600, 500), (500, 560), face_at(600), HD, [face_at(1500)], MARGIN)
    assert found == (600, 500)


def test_a_crop_moves_just_so_far_that_a_neighbour_is_out() -> None:
    neighbour = face_at(820)
    size = 500.0, 560.0
    found = place((600, 500), size, face_at(600), HD, [neighbour], MARGIN)
    assert found is not None
    assert not shows_part(cropped(found, size), neighbour)
    assert found[1] == 500
    assert found[0] + size[0] / 2 == pytest.approx(neighbour[0] - MARGIN * 160)


def test_neighbours_on_both_sides_leave_a_place_between_them() -> None:
    size = 300.0, 340.0
    around = [face_at(360), face_at(880)]
    found = place((600, 420), size, face_at(600), HD, around, MARGIN)
    assert found is not None
    assert not any(shows_part(cropped(found, size), each) for each in around)


def test_the_own_head_is_not_given_up_for_a_neighbour() -> None:
    assert place((600, 500), (500, 560), face_at(600), HD, [face_at(690)], MARGIN) is None


def test_a_neighbour_above_is_cleared_downwards() -> None:
    size = 420.0, 470.0
    above = face_at(640, y=120, height=180)
    found = place((600, 440), size, face_at(600), HD, [above], MARGIN)
    assert found is not None
    assert not shows_part(cropped(found, size), above)


def test_a_small_face_may_be_inside_as_a_whole_but_never_in_part() -> None:
    size = 600.0, 675.0
    inside = face_at(700, y=250, height=40)
    assert place((600, 450), size, face_at(600), HD, [inside], MARGIN) == (600, 450)
    at_edge = face_at(900, y=300, height=40)
    found = place((600, 450), size, face_at(600), HD, [at_edge], MARGIN)
    assert found is not None
    x, _, width, _ = cropped(found, size)
    assert at_edge[2] <= x + width or at_edge[0] >= x + width


@settings(max_examples=200, deadline=None)
@example((548, 100, 30), [(218, 0, 35), (936, 66, 112)], 745)  # one pushes it towards the other
@given(
    st.tuples(st.floats(100, 1800), st.floats(100, 980), st.floats(30, 400)),
    st.lists(st.tuples(st.floats(0, 1900), st.floats(0, 1080), st.floats(20, 400)), max_size=4),
    st.floats(100, 1080),
)
def test_a_place_is_in_the_room_and_clear_of_every_large_face(
    own: tuple[float, float, float], others: list[tuple[float, float, float]], height: float
) -> None:
    face = face_at(*own)
    size = height * TILE, height
    boxes = [face_at(*each) for each in others]
    found = place((own[0], own[1]), size, face, HD, boxes, MARGIN)
    if found is None:
        return
    x, y, width, _ = cropped(found, size)
    assert -1e-6 <= x <= 1920 - width + 1e-6
    assert -1e-6 <= y <= 1080 - height + 1e-6
    for box in boxes:
        if box[3] - box[1] > 0.3 * own[2] * 1.3:
            assert not shows_part((x, y, width, height), box)


@pytest.mark.parametrize(
    ("face_px", "room", "width", "height"),
    [
        (200.0, (1920, 1080), 533, 600),  # room enough: a third of the tile
        (500.0, (1920, 1080), 960, 1080),  # a close-up fills the tile with what there is
        (95.0, (240, 135), 201, 135),  # a small window: so wide that the face is not too large
        (95.0, (240, 240), 213, 240),
        (250.0, (200, 720), 200, 595),  # a pillar: its full width, and so high
    ],
    ids=["room", "close-up", "small window", "square window", "pillar"],
)
def test_the_size_depends_on_the_face_and_its_room(
    face_px: float, room: tuple[float, float], width: float, height: float
) -> None:
    found = size_for(face_px, 1 / 3, TILE, room, 0.42 if min(room) < 300 else 0.62)
    assert found == pytest.approx((width, height), abs=1)


def test_people_are_apart_until_no_tile_can_hold_one_head_alone() -> None:
    def apart(distance: float) -> bool:
        around = Surroundings(HD.room_xyxy_px, (face_at(900 + distance),))
        return is_apart(face_at(900), (533, 600), around, MARGIN, 0.7)

    assert apart(600)
    assert apart(260)  # heads a face and a half apart
    assert not apart(170)
    assert not apart(0)


def test_no_tile_has_a_narrow_stripe_around_its_picture() -> None:
    """Faces of a window that grow and shrink: the surround comes late, goes early and is broad."""
    window = Surroundings((0.0, 0.0, 720.0, 638.0), is_window=True)
    heights = [*range(200, 500, 5), *range(500, 200, -5)]
    fitted, changes = False, []
    for height in heights:
        width, high = window.size_for(height, TILE, FramingSettings(), is_fitted=fitted)
        is_fitted = abs(width / high - TILE) > 1e-6
        if is_fitted:
            used = (960 / width) * high / 1080
            assert used < 0.88
        if is_fitted != fitted:
            changes.append(height / 638)
        fitted = is_fitted
    assert changes == [pytest.approx(0.56, abs=0.01), pytest.approx(0.483, abs=0.01)]
