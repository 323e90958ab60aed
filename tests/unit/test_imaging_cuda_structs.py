"""What the kernels are told: the structs of `kernels.cu` as NumPy lays them out."""

from __future__ import annotations

import numpy as np

from dualface_client.imaging.cuda_structs import (
    CHIP,
    COMPOSE_BATCH,
    LETTERBOX_BATCH,
    MEANS_BATCH,
    tile_of,
    warp_of,
)
from dualface_client.types import Crop

SOURCE, TILE = (1920, 1080), (960, 1080)


def test_sizes_are_those_of_the_compiler() -> None:
    picture, warp, tile = 2 * 8 + 4 * 4, 7 * 4, 4 * 16 + 5 * 4
    assert CHIP.itemsize == picture + 8 + 2 * 4 + 2 * warp + 12 * 4
    end = 4  # to a multiple of 8, as there are pointers in them
    assert COMPOSE_BATCH.itemsize == 16 * (picture + 2 * 8 + 3 * 4 + 2 * tile + end)
    assert COMPOSE_BATCH.itemsize <= 4096  # of parameters, at most, for one kernel
    assert LETTERBOX_BATCH.itemsize == 16 * (picture + 8 + 7 * 4 + 12 * 4 + end)
    assert MEANS_BATCH.itemsize == 16 * (picture + 8 + 2 * 4)


def test_a_tile_that_shows_its_part_as_it_is_and_one_twice_as_large() -> None:
    args = np.zeros((), COMPOSE_BATCH)["items"][0]
    crops = (Crop(480, 0, 960, 1080), Crop(-240, 100, 480, 540))
    args["tiles"] = [tile_of(crop, SOURCE, TILE) for crop in crops]
    plain, doubled = args["tiles"]
    assert plain["axes"].tolist() == [
        (480, 0, 1, 961),
        (0, 0, 1, 1081),
        (240, 0, 1, 481),
        (0, 0, 1, 541),
    ]
    assert plain["covered"].tolist() == [0, 0, 960, 1080]
    assert doubled["axes"]["step"].tolist() == [0.5] * 4
    assert doubled["axes"]["fraction"].tolist() == [0, 0, 0.125, 0]  # chroma sits left
    assert doubled["covered"].tolist() == [480, 0, 960, 1080]  # half of it lies off the picture
    assert (plain["shrinks"], doubled["shrinks"]) == (0, 0)


def test_a_warp_to_half_the_size_takes_two_samples_each_way() -> None:
    args = np.zeros((), CHIP)
    args["luma"] = warp_of(np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    assert args["luma"]["samples"] == 2
    assert args["luma"]["matrix"].tolist() == [[1.0, 0.0, -0.5], [0.0, 1.0, -0.5]]
