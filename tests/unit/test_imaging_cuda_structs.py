"""What the kernels are told: the structs of `kernels.cu` as NumPy lays them out."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualface_client.imaging.cuda_structs import (
    BACKDROP_BATCH,
    BLOCKS_BATCH,
    CHIP,
    COMPOSE_BATCH,
    LETTERBOX_BATCH,
    MEANS_BATCH,
    views_of,
    warp_of,
)
from dualface_client.imaging.geometry import (
    MOST_CELLS,
    backdrop_of,
    chroma_axes,
    content_of,
    luma_axes,
    shrinks,
)
from dualface_client.types import Crop, Nv12Image, Rect, View

AREA = Rect(960, 0, 960, 1080)
EVEN = st.integers(16, 2160).map(lambda size: 2 * size)
CROPS = st.builds(
    Crop, st.floats(-50, 4000), st.floats(-50, 2000), st.floats(8, 4000), st.floats(8, 2200)
)
VIEWS = st.builds(View, CROPS, st.builds(Rect, st.just(0), st.just(0), EVEN, EVEN))


def picture(width: int = 1920, height: int = 1080) -> Nv12Image:
    """Only its size matters here."""
    return Nv12Image(
        np.empty((height, width), np.uint8), np.empty((height // 2, width // 2, 2), np.uint8)
    )


def test_sizes_are_those_of_the_compiler() -> None:
    image, warp, view = 2 * 8 + 4 * 4, 7 * 4, 6 * 4 + 12 * 2 + 8 + 2 * 2 + 4
    assert CHIP.itemsize == image + 8 + 2 * 4 + 2 * warp + 12 * 4
    end = 4  # to a multiple of 8, as there are pointers in them
    assert COMPOSE_BATCH.itemsize == 2 * 4 + 16 * (image + 2 * 8 + 4 + end) + 16 * 3 * view
    assert LETTERBOX_BATCH.itemsize == 16 * (image + 8 + 7 * 4 + 12 * 4 + end)
    assert BACKDROP_BATCH.itemsize == 48 * (image + 8 + 4 * 4 + 6 * 2 + 4)
    assert MEANS_BATCH.itemsize == 16 * (image + 8 + 2 * 4)
    assert BLOCKS_BATCH.itemsize == 16 * (image + 8 + 5 * 4 + end)
    for parameters in (COMPOSE_BATCH, LETTERBOX_BATCH, BACKDROP_BATCH):
        assert parameters.itemsize <= 4096  # at most, for one kernel


def viewed(view: View) -> Any:
    return views_of([view], [(1920, 1080)])[0]


@given(st.lists(st.tuples(VIEWS, st.tuples(EVEN, EVEN)), min_size=1))
def test_views_together_are_as_one_by_one(drawn: list[tuple[View, tuple[int, int]]]) -> None:
    rows = views_of([view for view, _ in drawn], [size for _, size in drawn])
    for row, (view, size_wh) in zip(rows, drawn, strict=True):
        content = content_of(view)
        luma = luma_axes(view.crop, (content.width_px, content.height_px), size_wh)
        axes = (*luma, *chroma_axes(luma))
        assert np.array_equal(row["starts"], np.array([axis.start for axis in axes], np.float32))
        assert np.array_equal(row["steps"], np.array([axis.step for axis in luma], np.float32))
        assert row["reach"].tolist() == [end for axis in luma for end in (axis.first, axis.last)]
        assert row["content"].tolist()[2:] == [content.width_px, content.height_px]
        assert row["shrinks"] == shrinks(luma)


def test_a_view_that_shows_its_part_as_it_is() -> None:
    found = viewed(View(Crop(480, 0, 960, 1080), AREA))
    assert found["starts"].tolist() == [480, 0, 240, 0]
    assert found["steps"].tolist() == [1, 1]
    assert found["reach"].tolist() == [480, 1439, 0, 1079]
    assert found["content"].tolist() == found["area"].tolist() == [960, 0, 960, 1080]
    assert (found["shrinks"], found["cells"]) == (0, 0)


def test_a_view_twice_as_large_whose_chroma_sits_left() -> None:
    found = viewed(View(Crop(100.25, 50.5, 480, 540), AREA))
    assert found["starts"].tolist() == [100.25, 50.5, 50.125 + 0.125, 25.25]
    assert found["steps"].tolist() == [0.5, 0.5]
    assert found["reach"].tolist() == [100, 580, 50, 590]


def test_a_fitted_view_has_cells_behind_it() -> None:
    image, view = picture(), View(Crop(200, 100, 480, 270), AREA)
    assert viewed(view)["content"].tolist() == [960, 270, 960, 540]
    backdrop = backdrop_of(view, image)
    assert backdrop is not None
    # The part that covers 960x1080: all of the height and the middle of the width.
    assert backdrop.cells_wh == (14, 16)
    across, down = backdrop.luma
    assert (across.start, across.step) == (200 + 480 / 2 - 120, 240 / 14)
    assert (down.start, down.step) == (100, 270 / 16)
    assert across.count * down.count <= MOST_CELLS**2


def test_a_warp_to_half_the_size_takes_two_samples_each_way() -> None:
    args = np.zeros((), CHIP)
    args["luma"] = warp_of(np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    assert args["luma"]["samples"] == 2
    assert args["luma"]["matrix"].tolist() == [[1.0, 0.0, -0.5], [0.0, 1.0, -0.5]]
