"""Where the tiles are, and which canvases have none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.load import load_of
from dualface_client.types import LayoutKind, Rect, Side, TileLayout

KINDS: list[LayoutKind] = ["side-by-side", "stacked", "solo"]


@pytest.mark.parametrize(
    ("layout", "left", "right"),
    [
        (TileLayout(), Rect(0, 0, 960, 1080), Rect(960, 0, 960, 1080)),
        (TileLayout(gap_px=20), Rect(0, 0, 950, 1080), Rect(970, 0, 950, 1080)),
        (TileLayout((1080, 1920), "stacked"), Rect(0, 0, 1080, 960), Rect(0, 960, 1080, 960)),
        (
            TileLayout((1080, 1920), "stacked", 8),
            Rect(0, 0, 1080, 956),
            Rect(0, 964, 1080, 956),
        ),
        (TileLayout(kind="solo"), Rect(0, 0, 1920, 1080), Rect(0, 0, 1920, 1080)),
    ],
)
def test_each_side_has_its_tile(layout: TileLayout, left: Rect, right: Rect) -> None:
    assert layout.area(Side.LEFT) == left
    assert layout.area(Side.RIGHT) == right
    assert layout.tile_wh_px == (left.width_px, left.height_px)
    assert layout.whole == Rect(0, 0, *layout.canvas_wh_px)


@given(
    kind=st.sampled_from(KINDS[:2]),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    gap=st.integers(-4, 200),
)
def test_tiles_are_even_of_one_size_and_fill_the_canvas_but_for_the_gap(
    kind: LayoutKind, width: int, height: int, gap: int
) -> None:
    try:
        layout = TileLayout((width, height), kind, gap)
    except ValueError:  # the tiles would not be even: refused, as the next test holds
        return
    left, right = layout.area(Side.LEFT), layout.area(Side.RIGHT)
    assert (left.width_px, left.height_px) == (right.width_px, right.height_px)
    for tile in (left, right):
        assert not any(size % 2 for size in (tile.x_px, tile.y_px, *layout.tile_wh_px))
    along = (width, height)[kind == "stacked"]
    size = layout.tile_wh_px[kind == "stacked"]
    assert 2 * size + gap == along
    assert max(right.x_px, right.y_px) == size + gap
    assert [layout.side_of(tile) for tile in (left, right)] == list(Side)


def test_a_canvas_without_room_for_tiles_is_refused() -> None:
    for canvas, kind, gap in (
        ((1922, 1080), KINDS[0], 0),
        ((1920, 1080), KINDS[0], 2),
        ((1080, 1922), KINDS[1], 0),
        ((1920, 1080), KINDS[0], 1918),
        ((1921, 1080), KINDS[2], 0),
    ):
        with pytest.raises(ValueError, match=f"canvas {canvas[0]}x{canvas[1]}.* gap of {gap}"):
            TileLayout(canvas, kind, gap)
    assert TileLayout((1922, 1080), "solo").tile_wh_px == (1922, 1080)
    assert TileLayout((1922, 1080), gap_px=2).tile_wh_px == (960, 1080)


def test_the_canvas_follows_the_layout_and_memory_follows_the_canvas() -> None:
    sizes = [OutputSettings(layout=kind).tile_layout.canvas_wh_px for kind in KINDS]
    assert sizes == [(1920, 1080), (1080, 1920), (1920, 1080)]
    output = OutputSettings((600, 800), "stacked", 16, (1, 2, 3))
    assert output.tile_layout == TileLayout((600, 800), "stacked", 16, (1, 2, 3))
    assert load_of(StreamSettings(output=output), 10).canvas_wh_px == (600, 800)
