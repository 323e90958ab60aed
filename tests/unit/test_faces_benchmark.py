"""The face benchmark: what it counts, and that an archive of faces is read as it was written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.faces import CONDITIONS, Faces, compared, equal_error_rate, read
from dualface_client.errors import AssetError
from dualface_client.settings.tracking import IdentitySettings
from dualface_client.types import ByteArray, FloatArray


def turned(*degrees: float) -> FloatArray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def people(*names: str, groups: str) -> Faces:
    chips = np.zeros((len(names), 1, 1, 3), np.uint8)
    return Faces(chips, np.array(names), np.array(list(groups)))


def test_false_accepts_are_counted_in_all_and_in_each_group() -> None:
    """Ann and Bob look alike, both of group x; Cy and Di of group y do not."""
    faces = people("ann", "ann", "bob", "cy", "di", groups="xxxyy")
    vectors = turned(0, 5, 10, 90, 180)
    found = compared(faces, vectors, vectors)
    assert found["groups"]["x"]["pairs"] == 4
    assert found["groups"]["x"]["accepted"] == 1
    assert found["groups"]["y"]["accepted"] == 0
    assert found["worst_group_accepted"] == 1
    assert found["accepted"] == pytest.approx(4 / 18)
    assert found["same"]["count"] == 2
    assert found["same_refused"] == 0


def test_a_person_who_looks_otherwise_is_refused_and_rejected() -> None:
    settings = IdentitySettings()
    faces = people("ann", "ann", "bob", groups="xxx")
    between = np.degrees(np.arccos((settings.match_cosine + settings.reject_cosine) / 2))
    for degrees, rejected in ((between, 0.0), (80.0, 1.0)):
        vectors = turned(0, degrees, 180)
        found = compared(faces, vectors, vectors)
        assert (found["same_refused"], found["same_rejected"]) == (1.0, rejected)


def test_the_equal_error_rate_is_half_where_nothing_is_told_apart() -> None:
    same = np.array([True, False] * 50)
    assert equal_error_rate(np.where(same, 0.9, 0.1).astype(np.float32), same) == 0
    cosine = np.linspace(1, 0, 100, dtype=np.float32)
    assert equal_error_rate(cosine, same) == pytest.approx(0.5, abs=0.02)


def face() -> ByteArray:
    noise = np.random.default_rng(3).integers(0, 256, (14, 14, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (112, 112), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_an_archive_is_read_as_rgb(tmp_path: Path) -> None:
    files = [cv2.imencode(".jpg", chip)[1] for chip in (face(), face()[::-1].copy())]
    np.savez(
        tmp_path / "a.npz",
        data=np.concatenate(files),
        length=np.array([len(file) for file in files]),
        person=np.array(["ann", "bob"]),
        group=np.array(["x", "y"]),
    )
    faces = read(tmp_path / "a.npz")
    assert np.abs(faces.chips[0].astype(int) - face()[..., ::-1]).mean() < 6
    assert faces.person.tolist() == ["ann", "bob"]
    with pytest.raises(AssetError, match=r"b\.npz: .* expected an \.npz with data"):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name != "as it is"])
def test_each_condition_changes_the_face_and_keeps_its_shape(name: str) -> None:
    worse = CONDITIONS[name](face(), np.random.default_rng(1))
    assert worse.shape == face().shape
    assert worse.dtype == np.uint8
    assert np.abs(worse.astype(int) - face()).mean() > 1
