"""Photos as pictures of the data path, and pictures of faces as photos."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from dualface_client.errors import SinkError, UsageError
from dualface_client.imaging.photo import image_of, read_photo, write_portrait
from dualface_client.types import Box, Nv12Image

GREY, WHITE, BLACK = 120, 230, 20
FACE: Box = (100.0, 60.0, 140.0, 110.0)
OTHER: Box = (160.0, 60.0, 200.0, 110.0)


def two_faces() -> Nv12Image:
    """A white face and a black one before grey."""
    bgr = np.full((180, 320, 3), GREY, np.uint8)
    for (x1, y1, x2, y2), level in ((FACE, WHITE), (OTHER, BLACK)):
        bgr[int(y1) : int(y2), int(x1) : int(x2)] = level
    return image_of(bgr)


def share_of(image: Nv12Image, level: int) -> float:
    return float((np.abs(image.y.astype(int) - (16 + level * 219 / 255)) < 12).mean())


def test_a_portrait_shows_one_face_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "person-1.jpg"
    write_portrait(path, two_faces(), FACE)
    photo = read_photo(path)
    assert photo.width_px == photo.height_px == 512
    assert share_of(photo, WHITE) == pytest.approx(40 * 50 / (2.2 * 50) ** 2, rel=0.1)
    columns = np.flatnonzero(photo.y[256] > 200)
    assert abs(columns.mean() - 256) < 8
    assert share_of(photo, BLACK) > 0.02


def test_another_face_stays_outside(tmp_path: Path) -> None:
    path = tmp_path / "person-1.jpg"
    write_portrait(path, two_faces(), FACE, [OTHER])
    photo = read_photo(path)
    assert share_of(photo, BLACK) < 0.002
    assert share_of(photo, WHITE) > 0.3


@pytest.mark.parametrize("face", [(0.0, 0.0, 30.0, 40.0), (300.0, 150.0, 340.0, 200.0)])
def test_a_face_at_the_edge_is_cut_where_the_picture_ends(tmp_path: Path, face: Box) -> None:
    write_portrait(tmp_path / "a.jpg", two_faces(), face)
    assert read_photo(tmp_path / "a.jpg").width_px == 512


def test_a_picture_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"none/a\.jpg: cannot write the picture: No such file"):
        write_portrait(tmp_path / "none" / "a.jpg", two_faces(), FACE)


def test_a_photo_of_impossible_size_is_refused_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    head = struct.pack(">4sIIBBBBB", b"IHDR", 65535, 65535, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + crc)
    with pytest.raises(UsageError, match=r"big\.png: cannot be read as a photo; .* megapixels at"):
        read_photo(path)
