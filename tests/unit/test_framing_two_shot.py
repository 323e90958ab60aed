"""Both tiles show one shot while the faces touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dualface_client.framing.camera import CameraPair
from dualface_client.settings.framing import FramingSettings
from dualface_client.types import FloatArray, Person, SeatAssignment, TileLayout

#: Centres of the left and the right person's face at a time; None while it is not seen.
Places = Callable[[float], tuple[float | None, float | None]]
Array = npt.NDArray[np.float64]
HD = (1920, 1080)
FPS = 30
FACE_PX = 200.0


def face(x: float | None) -> FloatArray | None:
    if x is None:
        return None
    half = 0.4 * FACE_PX
    return np.array([x - half, 400 - FACE_PX / 2, x + half, 400 + FACE_PX / 2], np.float32)


def film(
    places: Places, seconds: float, cut_s: float = -1.0, **changes: Any
) -> tuple[Array, list[list[bool]]]:
    """Crops `(frames, 2, 4)` of both tiles, and whether each tile's person counts as away."""
    cameras = CameraPair(TileLayout(), HD, FramingSettings(**{"two_shot": True, **changes}))
    rows, away = [], []
    for index in range(round(seconds * FPS)):
        time_s = index / FPS
        left, right = (Person(who + 1, face(x)) for who, x in enumerate(places(time_s)))
        cut = index == round(cut_s * FPS)
        shots = cameras.update(SeatAssignment(left, right, scene_cut=cut), time_s)
        crops = [shot.crop for shot in shots]
        rows.append([(c.x_px, c.y_px, c.width_px, c.height_px) for c in crops])
        away.append([shot.away for shot in shots])
    return np.array(rows), away


def meet(start_s: float, end_s: float) -> Callable[[float], tuple[float, float]]:
    """Apart, then cheek to cheek, then apart again; a second's walk each way."""

    def places(time_s: float) -> tuple[float, float]:
        nearness = np.clip(min(time_s - start_s, end_s - time_s) + 1.0, 0.0, 1.0)
        apart = 900 - nearness * 720
        return 960 - apart / 2, 960 + apart / 2

    return places


def same(rows: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(rows[:, 0] - rows[:, 1]).max(axis=1) < 2.0)


def test_both_tiles_show_one_shot_of_both_faces_and_part_again() -> None:
    rows, _ = film(meet(3, 8), 14)
    together = same(rows)
    assert together[6 * FPS : 8 * FPS].all()
    assert not together[: 3 * FPS].any()
    assert not together[12 * FPS :].any()
    crop = rows[7 * FPS, 0]
    for x in meet(3, 8)(7):
        assert crop[0] < x - 80
        assert x + 80 < crop[0] + crop[2]


def test_the_way_there_and_back_has_no_jump() -> None:
    rows, _ = film(meet(3, 8), 14)
    steps = np.abs(np.diff(rows, axis=0)).max(axis=(1, 2))
    assert steps.max() < 40
    changes = np.abs(np.diff(rows, n=2, axis=0)).max(axis=(1, 2))
    assert changes.max() < 10
    # Inside the source and in the tile's aspect all the way.
    assert (rows[..., 0] >= -0.01).all()
    assert (rows[..., 0] + rows[..., 2] <= HD[0] + 0.01).all()
    assert (rows[..., 1] + rows[..., 3] <= HD[1] + 0.01).all()
    np.testing.assert_allclose(rows[..., 2] / rows[..., 3], 960 / 1080, rtol=1e-6)


def test_a_crossing_is_too_short_for_it() -> None:
    def cross(time_s: float) -> tuple[float, float]:
        x = 400 + 1120 * np.clip((time_s - 2) / 2, 0, 1)
        return float(x), float(1920 - x)

    with_it, _ = film(cross, 6)
    without, _ = film(cross, 6, two_shot=False)
    np.testing.assert_array_equal(with_it, without)


def test_faces_at_the_limit_do_not_switch_to_and_fro() -> None:
    def wobble(time_s: float) -> tuple[float, float]:
        # Gaps between 0.15 and 0.5 face widths: across the limit of touching, not of being apart.
        gap = 160 * (0.325 + 0.175 * np.sin(time_s)) if time_s > 2 else 24.0
        return 960 - 80 - gap / 2, 960 + 80 + gap / 2

    rows, _ = film(wobble, 12)
    assert same(rows)[4 * FPS :].all()


def test_a_hidden_face_keeps_it_and_one_that_left_ends_it() -> None:
    def hides(time_s: float) -> tuple[float, float | None]:
        return 900.0, None if 4 <= time_s < 4.5 or time_s >= 7 else 1060.0

    rows, away = film(hides, 14)
    together = same(rows)
    assert together[3 * FPS : 8 * FPS].all()
    assert not together[11 * FPS :].any()
    assert not any(any(pair) for pair in away[: 8 * FPS])
    assert away[-1] == [False, True]


def test_a_cut_ends_it_at_once() -> None:
    def places(time_s: float) -> tuple[float, float]:
        return (880.0, 1040.0) if time_s < 4 else (480.0, 1440.0)

    rows, _ = film(places, 6, cut_s=4.0)
    together = same(rows)
    assert together[4 * FPS - 1]
    assert not together[4 * FPS :].any()


def test_it_is_off_unless_asked_for() -> None:
    rows, _ = film(meet(3, 8), 10, two_shot=FramingSettings().two_shot)
    assert not same(rows).any()
