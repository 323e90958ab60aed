"""How much memory of a GPU is taken at a time, which needs no GPU to calculate."""

from __future__ import annotations

import pytest

from dualface_client.cuda.pictures import at_once

BLOCK_BYTES = 2 << 20


@pytest.mark.parametrize(
    ("size_wh_px", "count"),
    [((1920, 1080), 2), ((3840, 2160), 1), ((7680, 4320), 1), ((1280, 720), 3), ((640, 480), 4)],
)
def test_so_many_pictures_are_allocated_together_that_little_of_the_blocks_is_lost(
    size_wh_px: tuple[int, int], count: int
) -> None:
    byte_size = size_wh_px[0] * size_wh_px[1] * 3 // 2
    assert at_once(byte_size) == count
    blocks = -(-count * byte_size // BLOCK_BYTES)
    assert blocks * BLOCK_BYTES / (count * byte_size) < 1.15
