"""Scene cuts on thumbnails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dualface_client.settings.tracking import SceneSettings
from dualface_client.tracking.scene import CutDetector
from dualface_client.types import ByteArray


def shot(seed: int, noise: int = 0) -> ByteArray:
    """A smooth picture with a few objects, and sensor noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:18, 0:32]
    picture = np.full((18, 32), rng.uniform(60, 140))
    for _ in range(8):
        y, x, size = rng.uniform(0, 18), rng.uniform(0, 32), rng.uniform(2, 6)
        blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
        picture += rng.uniform(-90, 90) * blob
    picture += np.random.default_rng(noise).normal(0, 1.5, picture.shape)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def cuts(frames: list[ByteArray], fps: float = 30.0) -> list[int]:
    detector = CutDetector()
    return [index for index, frame in enumerate(frames) if detector.update(frame, index / fps)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_a_cut_is_found_on_its_first_frame(seed: int, fps: float) -> None:
    frames = [shot(seed, k) for k in range(30)] + [shot(seed + 50, k) for k in range(30)]
    found = cuts(frames, fps)
    # One frame later where the new shot is brighter or darker all over: that may be a flash.
    assert found in ([30], [31])


def test_a_still_shot_has_no_cut() -> None:
    assert cuts([shot(1, k) for k in range(200)]) == []


@pytest.mark.parametrize("light", [255, 0, 90])
def test_a_single_flash_or_dropped_light_is_no_cut(light: int) -> None:
    frames = [shot(1, k) for k in range(60)]
    if light == 90:
        frames[30] = np.clip(frames[30].astype(int) + light, 0, 255).astype(np.uint8)
    else:
        frames[30] = np.full((18, 32), light, np.uint8)
    assert cuts(frames) == []


def test_a_lamp_that_stays_on_is_no_cut() -> None:
    dark = [shot(1, k) // 2 for k in range(30)]
    assert cuts(dark + [shot(1, k) for k in range(30)]) == []


def test_a_pan_is_no_cut() -> None:
    wide = np.concatenate([shot(seed) for seed in range(4)], axis=1).astype(float)
    kernel = np.ones(9) / 9
    wide = np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), 1, wide)
    frames = [np.ascontiguousarray(wide[:, k : k + 32].astype(np.uint8)) for k in range(90)]
    assert cuts(frames) == []


def test_a_cut_right_after_a_flash_is_still_found() -> None:
    frames = [shot(1, k) for k in range(30)]
    frames[29] = np.full((18, 32), 255, np.uint8)
    assert cuts(frames + [shot(60, k) for k in range(5)]) == [30]


def _upright(picture: ByteArray) -> ByteArray:
    """In the middle third between black bars."""
    return _framed(picture[:, ::3], slice(0, 18), slice(10, 21))


def _letterboxed(picture: ByteArray) -> ByteArray:
    return _framed(picture[:13], slice(2, 15), slice(0, 32))


def _inset(picture: ByteArray) -> ByteArray:
    """A quarter of the picture, on grey."""
    return _framed(picture[::2, ::2], slice(6, 15), slice(8, 24), 128)


def _dark(picture: ByteArray) -> ByteArray:
    return (picture * 0.25 + 4).astype(np.uint8)


def _framed(picture: ByteArray, rows: slice, columns: slice, border: int = 16) -> ByteArray:
    canvas = np.full((18, 32), border, np.uint8)
    canvas[rows, columns] = picture
    return canvas


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("look", [_upright, _letterboxed, _inset, _dark])
def test_bars_and_darkness_hide_no_cut(look: Callable[[ByteArray], ByteArray], seed: int) -> None:
    frames = [shot(seed, k) for k in range(30)] + [shot(seed + 50, k) for k in range(30)]
    assert cuts([look(frame) for frame in frames]) in ([30], [31])


@pytest.mark.parametrize("look", [_upright, _letterboxed, _inset, _dark])
def test_bars_and_darkness_make_no_cut(look: Callable[[ByteArray], ByteArray]) -> None:
    assert cuts([look(shot(1, k)) for k in range(200)]) == []


def test_a_video_of_one_plain_colour_has_no_cut() -> None:
    assert cuts([np.full((18, 32), 16 + k % 2, np.uint8) for k in range(20)]) == []


def test_thresholds_are_settable() -> None:
    deaf = CutDetector(SceneSettings(max_correlation=-1.0))
    assert not any(deaf.update(shot(seed), seed / 30) for seed in range(10))
