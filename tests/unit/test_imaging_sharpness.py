"""Sharpness of a face: what it must depend on and what not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dualface_client.imaging.sharpness import face_sharpness
from dualface_client.types import ByteArray, Nv12Image

BOX = np.array([20, 20, 180, 180], np.float32)


def texture(size: int = 200) -> ByteArray:
    noise = np.random.default_rng(0).normal(128, 60, (size // 4, size // 4))
    grown = cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(grown, 0, 255).astype(np.uint8)


def picture(luma: ByteArray) -> Nv12Image:
    height, width = luma.shape
    return Nv12Image(luma, np.full((height // 2, width // 2, 2), 128, np.uint8))


def test_blur_lowers_it_step_by_step() -> None:
    values = [face_sharpness(picture(texture()), BOX)]
    for sigma in (1, 2, 4, 8):
        blurred = np.asarray(cv2.GaussianBlur(texture(), (0, 0), sigma), np.uint8)
        values.append(face_sharpness(picture(blurred), BOX))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.1 * values[0]


def test_light_hardly_changes_it() -> None:
    bright = face_sharpness(picture(texture()), BOX)
    dark = face_sharpness(picture((texture() * 0.3).astype(np.uint8)), BOX)
    assert dark == pytest.approx(bright, rel=0.1)


def test_size_hardly_changes_it() -> None:
    small = face_sharpness(picture(texture()), BOX)
    large = np.asarray(cv2.resize(texture(), (800, 800), interpolation=cv2.INTER_CUBIC), np.uint8)
    assert face_sharpness(picture(large), 4 * BOX) == pytest.approx(small, rel=0.5)


@pytest.mark.parametrize("box", [(300, 300, 380, 380), (-90, -90, -10, -10), (50, 50, 51, 51)])
def test_a_face_outside_of_the_picture_has_none(box: tuple[int, ...]) -> None:
    assert face_sharpness(picture(texture()), np.array(box, np.float32)) == 0.0


def test_a_flat_face_has_none() -> None:
    assert face_sharpness(picture(np.full((200, 200), 90, np.uint8)), BOX) == 0.0
