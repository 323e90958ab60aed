"""Every frame gets a canvas: policies for a missing face, and pictures that cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dualface_client.framing.layouts import Layout
from dualface_client.framing.studio import Plan, TileShot
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.imaging.tiles import placeholder
from dualface_client.stream.canvases import MAX_FAILURES_IN_A_ROW, CanvasMaker
from dualface_client.types import Crop, Nv12Image, Rect, Side, TileLayout, View

LAYOUT = TileLayout((320, 180))
CROP = Crop(0, 0, 160, 180)
VIEWS = tuple(View(CROP, LAYOUT.area(side)) for side in Side)
#: Whether a tile's face is there, and whether it is away.
Shot = tuple[bool, bool]
SEEN, HELD, AWAY = (True, False), (False, False), (False, True)


def plan_of(left: Shot, right: Shot) -> Plan:
    shots = tuple(
        TileShot(side, LAYOUT.area(side), *shot)
        for side, shot in zip(Side, (left, right), strict=True)
    )
    return Plan(Layout.PAIR, VIEWS, shots)


def picture(luma: int) -> Nv12Image:
    return Nv12Image(np.full((180, 320), luma, np.uint8), np.full((90, 160, 2), 100, np.uint8))


class Brittle(CpuImaging):
    """Real pixel work that cannot draw black pictures."""

    def compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], canvas: TileLayout
    ) -> list[Nv12Image]:
        if not all(image.y.any() for image in images):
            raise ValueError("nothing to draw")
        return super().compose(images, views, canvas)


def maker(missing: str = "wide") -> tuple[CanvasMaker, list[str]]:
    warnings: list[str] = []
    return CanvasMaker(Brittle(), LAYOUT, missing, warnings.append), warnings


def draw(canvases: CanvasMaker, luma: int, left: Shot, right: Shot) -> Nv12Image:
    (canvas,) = canvases.draw([picture(luma)], [plan_of(left, right)])
    return canvas


def tiles(canvas: Nv12Image) -> tuple[float, float]:
    """Mean luma of both tiles."""
    return float(canvas.y[:, :160].mean()), float(canvas.y[:, 160:].mean())


@pytest.mark.parametrize("missing", ["wide", "hold"])
def test_an_empty_crop_is_shown_live(missing: str) -> None:
    canvases, _ = maker(missing)
    draw(canvases, 50, SEEN, SEEN)
    assert tiles(draw(canvases, 90, SEEN, AWAY)) == (90, 90)


def test_freeze_shows_the_last_picture_with_the_face() -> None:
    canvases, _ = maker("freeze")
    draw(canvases, 50, SEEN, SEEN)
    assert tiles(draw(canvases, 70, SEEN, HELD)) == (70, 70)
    frozen = draw(canvases, 90, SEEN, AWAY)
    assert tiles(frozen) == (90, 50)
    assert (frozen.uv == 100).all()
    assert tiles(draw(canvases, 110, SEEN, SEEN)) == (110, 110)
    assert tiles(draw(canvases, 130, AWAY, SEEN)) == (110, 130)


def test_freeze_without_any_picture_shows_what_is_there() -> None:
    canvases, _ = maker("freeze")
    assert tiles(draw(canvases, 90, AWAY, AWAY)) == (90, 90)


def test_a_placeholder_is_dark_and_neutral_with_somebody_in_it() -> None:
    canvases, _ = maker("placeholder")
    canvas = draw(canvases, 200, SEEN, AWAY)
    left, right = tiles(canvas)
    assert left == 200
    assert 32 < right < 62
    assert len(np.unique(canvas.y[:, 160:])) == 2
    assert canvas.y[72, 240] > canvas.y[5, 165]
    assert (canvas.uv[:, 80:] == 128).all()


def test_a_frame_that_cannot_be_drawn_shows_the_last_good_one_and_is_counted() -> None:
    canvases, warnings = maker()
    draw(canvases, 50, SEEN, SEEN)
    for _ in range(3):
        assert tiles(draw(canvases, 0, SEEN, SEEN)) == (50, 50)
    assert canvases.failures == 3
    assert len(warnings) == 1
    assert "nothing to draw" in warnings[0]
    assert tiles(draw(canvases, 60, SEEN, SEEN)) == (60, 60)


def test_of_frames_drawn_together_those_that_can_be_drawn_are() -> None:
    canvases, warnings = maker()
    pictures = [picture(luma) for luma in (50, 0, 60)]
    drawn = canvases.draw(pictures, [plan_of(SEEN, SEEN)] * 3)
    assert [tiles(canvas) for canvas in drawn] == [(50, 50), (50, 50), (60, 60)]
    assert (canvases.failures, len(warnings)) == (1, 1)


def test_a_tile_freezes_within_frames_drawn_together() -> None:
    canvases, _ = maker("freeze")
    pictures = [picture(luma) for luma in (50, 70, 90)]
    drawn = canvases.draw(pictures, [plan_of(SEEN, shot) for shot in (SEEN, HELD, AWAY)])
    assert [tiles(canvas) for canvas in drawn] == [(50, 50), (70, 70), (90, 50)]


def test_a_stream_that_can_draw_nothing_fails() -> None:
    canvases, _ = maker()
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(canvases, 0, SEEN, SEEN)
    draw(canvases, 50, SEEN, SEEN)
    for _ in range(MAX_FAILURES_IN_A_ROW):
        draw(canvases, 0, SEEN, SEEN)
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(canvases, 0, SEEN, SEEN)


def test_one_picture_has_no_tile_to_replace_and_keeps_none() -> None:
    canvases, _ = maker("freeze")
    draw(canvases, 90, SEEN, SEEN)
    whole = Plan(Layout.SOLO, (View(Crop(0, 0, 320, 180), LAYOUT.whole),))
    (canvas,) = canvases.draw([picture(110)], [whole])
    assert tiles(canvas) == (110, 110)
    assert tiles(draw(canvases, 130, SEEN, AWAY)) == (130, 90)


def test_a_kept_tile_is_a_copy() -> None:
    imaging, canvas = CpuImaging(), picture(50)
    area = LAYOUT.area(Side.RIGHT)
    kept = imaging.copy_tile(canvas, area)
    canvas.y[:], canvas.uv[:] = 0, 0
    assert (kept.y == 50).all()
    assert (kept.uv == 100).all()
    assert (kept.width_px, kept.height_px) == LAYOUT.tile_wh_px
    imaging.put_tile(canvas, area, kept)
    assert tiles(canvas) == (0, 50)


def test_a_part_is_put_where_it_belongs_in_both_planes() -> None:
    imaging, canvas = CpuImaging(), picture(50)
    area = Rect(40, 60, 100, 20)
    imaging.put_tile(canvas, area, placeholder(100, 20))
    changed = canvas.y != 50
    assert changed[60:80, 40:140].all()
    assert changed.sum() == 100 * 20
    assert (canvas.uv[30:40, 20:70] == 128).all()
    assert (canvas.uv == 128).sum() == 2 * 50 * 10
