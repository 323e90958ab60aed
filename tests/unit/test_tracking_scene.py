"""Scene cuts on thumbnails."""

from __future__ import annotations

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


def test_thresholds_are_settable() -> None:
    deaf = CutDetector(SceneSettings(min_difference=300.0))
    assert not any(deaf.update(shot(seed), seed / 30) for seed in range(10))
