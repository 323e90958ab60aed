"""Frames between two looks: evenly moved faces, or None where something may have happened."""

from __future__ import annotations

import numpy as np
import pytest

from dualface_client.tracking.between import between
from dualface_client.types import Faces

HALVES, SHORT_S, LONG_S = [0.25, 0.75], 0.12, 0.25


def faces(*found: tuple[float, float, float]) -> Faces:
    """Faces of 60 x 80 px by centre and score."""
    boxes = np.array([(x - 30, y - 40, x + 30, y + 40) for x, y, _ in found], np.float32)
    marks = np.array([[(x, y)] * 5 for x, y, _ in found], np.float32)
    scores = np.array([score for _, _, score in found], np.float32)
    return Faces(boxes.reshape(-1, 4), scores, marks.reshape(-1, 5, 2))


def centres(found: Faces) -> list[tuple[float, float]]:
    boxes = found.boxes_xyxy_px
    return [tuple(row) for row in ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()]


def test_everybody_moves_evenly_whatever_the_order_of_rows() -> None:
    before = faces((100, 100, 0.9), (400, 100, 0.8))
    after = faces((408, 104, 0.95), (112, 100, 0.7))
    quarter, three = between(before, after, HALVES, SHORT_S) or []
    assert centres(quarter) == [(103, 100), (402, 101)]
    assert centres(three) == [(406, 103), (109, 100)]
    assert quarter.scores.tolist() == pytest.approx([0.85, 0.8375])
    assert quarter.landmarks_px[0, 0].tolist() == [103, 100]
    assert quarter.boxes_xyxy_px.dtype == quarter.scores.dtype == np.float32


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (faces((100, 100, 0.9)), "somebody has gone"),
        (faces((100, 100, 0.9), (400, 100, 0.8), (700, 100, 0.9)), "somebody has come"),
        (faces((100, 100, 0.9), (450, 100, 0.8)), "somebody has moved far"),
        (faces((100, 100, 0.9), (150, 100, 0.8)), "they touch"),
    ],
)
def test_what_motion_does_not_explain_has_to_be_looked_at(after: Faces, why: str) -> None:
    assert between(faces((100, 100, 0.9), (400, 100, 0.8)), after, HALVES, SHORT_S) is None, why


def test_people_near_each_other_may_only_move_a_little() -> None:
    before = faces((100, 100, 0.9), (180, 100, 0.8))  # a quarter of a height apart
    assert between(before, faces((104, 100, 0.9), (184, 100, 0.8)), HALVES, SHORT_S) is not None
    assert between(before, faces((118, 100, 0.9), (198, 100, 0.8)), HALVES, SHORT_S) is None
    far = faces((100, 100, 0.9), (400, 100, 0.8))
    assert between(far, faces((118, 100, 0.9), (418, 100, 0.8)), HALVES, SHORT_S) is not None


def test_after_a_long_time_people_may_be_near_nobody_and_only_move_a_little() -> None:
    before = faces((100, 100, 0.9), (220, 100, 0.8))  # three quarters of a height apart
    assert between(before, before, HALVES, SHORT_S) is not None
    assert between(before, before, HALVES, LONG_S) is None
    far = faces((100, 100, 0.9), (400, 100, 0.8))
    assert between(far, faces((104, 100, 0.9), (404, 100, 0.8)), HALVES, LONG_S) is not None
    assert between(far, faces((118, 100, 0.9), (418, 100, 0.8)), HALVES, LONG_S) is None


def test_who_becomes_clear_or_faint_has_to_be_looked_at() -> None:
    clear, faint = faces((100, 100, 0.9), (400, 100, 0.7)), faces((100, 100, 0.9), (400, 100, 0.3))
    assert between(faint, clear, HALVES, SHORT_S) is None
    assert between(clear, faint, HALVES, SHORT_S) is None
    assert between(clear, clear, HALVES, SHORT_S) is not None
    assert between(faint, faint, HALVES, SHORT_S) is not None


def test_faint_detections_stay_where_they_were_found() -> None:
    before = faces((100, 100, 0.9), (600, 300, 0.2))
    after = faces((100, 100, 0.9), (800, 300, 0.3))
    quarter, three = between(before, after, HALVES, SHORT_S) or []
    assert centres(quarter) == [(100, 100), (600, 300)]
    assert centres(three) == [(100, 100), (800, 300)]


def test_nobody_is_nobody() -> None:
    found = between(Faces.empty(), Faces.empty(), HALVES, SHORT_S)
    assert found is not None
    assert [len(each) for each in found] == [0, 0]
