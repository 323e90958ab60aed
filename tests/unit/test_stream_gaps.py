from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dualface_client.settings.tracking import SceneSettings
from dualface_client.stream.gaps import Gaps, frames_per_look, longest_s, strides
from dualface_client.types import ByteArray, Faces, Frame, Nv12Image

PICTURE = Nv12Image(np.zeros((2, 2), np.uint8), np.zeros((1, 1, 2), np.uint8))
ONE = Faces(
    np.array([[10, 10, 70, 90]], np.float32),
    np.array([0.9], np.float32),
    np.zeros((1, 5, 2), np.float32),
)


@pytest.mark.parametrize(
    ("rate", "every"), [(10, 1), (15, 1), (24, 3), (25, 3), (30, 3), (50, 6), (60, 6), (240, 6)]
)
def test_slow_videos_are_looked_at_more_densely(rate: int, every: int) -> None:
    assert frames_per_look(Fraction(rate)) == every


def test_a_video_of_unknown_rate_is_looked_at_in_every_frame() -> None:
    assert frames_per_look(None) == 1


def test_the_first_and_the_last_frame_are_looked_at() -> None:
    frames = [Frame(n, n, Fraction(1, 25), PICTURE) for n in range(9)]
    numbers = [[frame.index for frame in stride] for stride in strides(frames, 3)]
    assert numbers == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


def shot(seed: int) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (36, 64, 3), np.uint8)


def test_a_gap_is_filled_within_a_shot_only() -> None:
    gaps, first, second = Gaps(SceneSettings(), 0.2), shot(1), shot(2)
    assert gaps.fill([0.0], [first], ONE) == []
    filled = gaps.fill([0.04, 0.08, 0.12], [first] * 3, ONE)
    assert filled is not None
    assert [each.boxes_xyxy_px.tolist() for each in filled] == [[[10, 10, 70, 90]]] * 2
    assert gaps.fill([0.16, 0.2, 0.24], [first, second, second], ONE) is None
    assert gaps.fill([0.28, 0.32, 0.36], [second] * 3, ONE) is not None
    # A second cut, sooner than the tracker would count one.
    assert gaps.fill([0.4, 0.44, 0.48], [second, first, first], ONE) is None


def test_frames_of_one_time_are_looked_at() -> None:
    gaps, picture = Gaps(SceneSettings(), 0.2), shot(1)
    gaps.fill([1.0], [picture], ONE)
    assert gaps.fill([1.0, 1.0], [picture] * 2, ONE) is None


def test_black_frames_and_long_gaps_are_looked_at() -> None:
    gaps, picture, black = Gaps(SceneSettings(), 0.2), shot(1), np.zeros((36, 64, 3), np.uint8)
    gaps.fill([0.0], [picture], ONE)
    assert gaps.fill([0.04, 0.08, 0.12], [picture, black, picture], ONE) is None
    assert gaps.fill([0.16, 0.2, 2.2], [picture] * 3, ONE) is None
    assert gaps.fill([2.24, 2.28, 2.32], [picture] * 3, ONE) is not None


def test_the_longest_gap_follows_what_was_asked_for() -> None:
    assert longest_s(3, Fraction(25)) == 0.1875
    assert longest_s(16, Fraction(25)) == pytest.approx(0.96)
    assert longest_s(2, None) == 0.1875
