from __future__ import annotations

import numpy as np
import pytest

from dualface_client.errors import InferenceFailedError
from dualface_client.models.faces import faces_from_tables
from dualface_client.models.plausible import refuse_odd_vectors
from dualface_client.types import Faces, FloatArray, Letterbox


def table_of(rows: list[list[float]]) -> FloatArray:
    table = np.zeros((64, 15), np.float32)
    for row, values in zip(table, rows, strict=False):
        row[:] = values
    return table


def faces_from_table(table: FloatArray, fit: Letterbox, score_threshold: float) -> Faces:
    return faces_from_tables(table[None], [fit], score_threshold)[0]


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


def test_pictures_of_several_sizes_are_read_together() -> None:
    sizes = (1920, 1080), (640, 640), (500, 800), (640, 640)
    fits = [Letterbox.fit(size, (640, 640)) for size in sizes]
    row = [200, 250, 240, 300, 0.9, *range(200, 210)]
    tables = [table_of(rows) for rows in ([row], [], [row, [*row[:4], 0.2, *row[5:]]], [row, row])]
    found = faces_from_tables(np.stack(tables), fits, 0.3)
    assert [len(each) for each in found] == [1, 0, 1, 2]
    for faces, table, fit in zip(found, tables, fits, strict=True):
        rows = table[: len(faces)]
        boxes = fit.to_source(rows[:, :4].reshape(-1, 2, 2)).reshape(-1, 4)
        np.testing.assert_allclose(faces.boxes_xyxy_px, boxes, rtol=1e-6)
        landmarks = fit.to_source(rows[:, 5:].reshape(-1, 5, 2))
        np.testing.assert_allclose(faces.landmarks_px, landmarks, rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (0, np.nan, "far outside"),
        (1, np.inf, "far outside"),
        (2, 1e30, "far outside"),
        (3, -5000.0, "far outside"),
        (9, np.nan, "far outside"),
        (4, np.nan, "scores are not within"),
        (4, np.inf, "scores are not within"),
        (4, 7.5, "scores are not within"),
        (4, -0.5, "scores are not within"),
    ],
)
def test_a_table_that_cannot_be_is_refused(column: int, value: float, says: str) -> None:
    fit = Letterbox.fit((1920, 1080), (640, 640))
    table = table_of([[100, 150, 140, 200, 0.9, *([160] * 10)] for _ in range(2)])
    table[1, column] = value
    with pytest.raises(InferenceFailedError, match=f"face_detect: .*{says}"):
        faces_from_table(table, fit, 0.3)


def test_boxes_without_area_are_no_faces_and_rounding_is_forgiven() -> None:
    fit = Letterbox.fit((1920, 1080), (640, 640))
    points = [160.0] * 10
    rows = [[140, 150, 100, 200, 0.9], [100, 150, 140, 150, 0.9], [-300, 0, 640, 900, 1.0005]]
    faces = faces_from_table(table_of([[*row, *points] for row in rows]), fit, 0.3)
    assert len(faces) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_embeddings_that_cannot_be_are_refused(value: float) -> None:
    vectors = np.full((2, 128), 0.09, np.float32)
    refuse_odd_vectors(vectors)
    vectors[1, 7] = value
    with pytest.raises(InferenceFailedError, match="face_reid: embeddings are not finite"):
        refuse_odd_vectors(vectors)
