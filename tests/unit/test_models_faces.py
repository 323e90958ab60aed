from __future__ import annotations

import numpy as np

from dualface_client.models.faces import faces_from_table
from dualface_client.types import Faces, FloatArray, Letterbox


def table_of(rows: list[list[float]]) -> FloatArray:
    table = np.zeros((64, 15), np.float32)
    for row, values in zip(table, rows, strict=False):
        row[:] = values
    return table


def test_rows_come_back_in_source_pixels() -> None:
    """1920x1080 in 640x640: content 640x360 at y 140, scale 1/3."""
    fit = Letterbox.fit((1920, 1080), (640, 640))
    points = [110, 160, 130, 160, 120, 170, 112, 180, 128, 180]
    faces = faces_from_table(table_of([[100, 150, 140, 200, 0.9, *points]]), fit, 0.3)
    assert np.allclose(faces.boxes_xyxy_px, [[300, 30, 420, 180]])
    assert np.allclose(faces.landmarks_px[0, 0], [330, 60])
    assert np.allclose(faces.landmarks_px[0, 4], [384, 120])
    assert faces.scores.dtype == np.float32


def test_the_threshold_is_kept_and_no_face_is_empty() -> None:
    fit = Letterbox.fit((640, 640), (640, 640))
    rows = [[0, 0, 10, 10, score, *([5] * 10)] for score in (0.9, 0.5, 0.3, 0.29)]
    assert len(faces_from_table(table_of(rows), fit, 0.3)) == 3
    none = faces_from_table(table_of([]), fit, 0.3)
    assert len(none) == 0
    assert none.boxes_xyxy_px.shape == Faces.empty().boxes_xyxy_px.shape
    assert none.landmarks_px.shape == (0, 5, 2)
