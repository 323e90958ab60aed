"""How far a picture is shaken out of its camera's path."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from dualface_client.framing.steady import Moved, Steadier

FPS = 25
HD = (1920, 1080)
Array = npt.NDArray[np.float64]
Path = Callable[[float], tuple[float, float]]


def offsets(path: Path, count: int, ahead: int = 10, cut: int = -1) -> Array:
    """Offsets of `count` frames, each of which sees `ahead` frames that follow it."""
    places = np.array([path(frame / FPS) for frame in range(count + ahead)])
    moves = np.diff(places, axis=0, prepend=places[:1])
    film = [
        Moved(frame / FPS, (float(x), float(y)), frame in (0, cut))
        for frame, (x, y) in enumerate(moves)
    ]
    steadier = Steadier(HD)
    return np.array([steadier.update(film[n : n + ahead + 1]).now for n in range(count)])


def jitter(places: Array) -> float:
    """Mean change of the motion from frame to frame, in px."""
    return float(np.hypot(*np.diff(places, n=2, axis=0).T).mean())


def shake(time_s: float) -> tuple[float, float]:
    x = 8 * np.sin(2 * np.pi * 3.1 * time_s) + 5 * np.sin(2 * np.pi * 5.3 * time_s + 1)
    return float(x), float(6 * np.cos(2 * np.pi * 4.2 * time_s))


@pytest.mark.parametrize(("ahead", "left"), [(5, 0.25), (10, 0.12)])
def test_shake_is_what_lies_beside_the_path(ahead: int, left: float) -> None:
    count = 4 * FPS
    content = np.array([shake(frame / FPS) for frame in range(count)])
    steadied = content - offsets(shake, count, ahead)
    assert jitter(steadied[FPS:]) < left * jitter(content[FPS:])


def test_pans_and_drifts_pass() -> None:
    found = offsets(lambda time_s: (400 * time_s, -30 * time_s), 3 * FPS)
    assert np.abs(found).max() < 1e-6


def test_a_pan_that_starts_and_stops_passes_nearly() -> None:
    found = offsets(lambda time_s: (300 * min(max(time_s - 1, 0.0), 1.0), 0.0), 3 * FPS)
    assert np.abs(found).max() < 0.1 * 300


def test_a_still_camera_has_no_offset_at_all() -> None:
    assert not offsets(lambda time_s: (0.0, 0.0), FPS).any()


def test_offsets_are_limited() -> None:
    found = offsets(lambda time_s: (3000 * np.sin(15 * time_s), 0.0), FPS)
    assert np.abs(found[:, 0]).max() == pytest.approx(0.05 * HD[0])


def test_nothing_of_another_shot_counts() -> None:
    """The motion up to a cut says nothing of what follows it, and the other way round."""
    alone = offsets(shake, FPS, ahead=0)
    joined = offsets(shake, 2 * FPS, cut=FPS)
    assert joined[FPS].tolist() == pytest.approx(offsets(shake_from(1.0), 1)[0].tolist())
    assert joined[FPS - 1].tolist() == pytest.approx(alone[FPS - 1].tolist())


def shake_from(start_s: float) -> Path:
    return lambda time_s: shake(start_s + time_s)


def test_without_frames_ahead_there_is_still_less_shake() -> None:
    count = 4 * FPS
    content = np.array([shake(frame / FPS) for frame in range(count)])
    steadied = content - offsets(shake, count, ahead=0)
    assert jitter(steadied[FPS:]) < 0.8 * jitter(content[FPS:])


def test_the_room_for_shake_is_given_back_slowly_when_it_ends() -> None:
    steadier = Steadier(HD)
    moves = [(9.0 * (-1) ** n if n < 25 else 0.0, 0.0) for n in range(100)]
    film = [Moved(n / FPS, move, n == 0) for n, move in enumerate(moves)]
    sways = [steadier.update(film[n : n + 10]).sway[0] for n in range(90)]
    assert sways[20] > 3
    steps = -np.diff(sways[25:])
    assert steps.max() < 0.1 * sways[25]
    assert sways[-1] > 0.25 * sways[25]
