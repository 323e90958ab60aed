"""What is asked of the driver's decoder library, as far as no GPU is needed."""

from __future__ import annotations

import ctypes

import pytest

from dualface_client.video.nvcuvid import Caps, DecoderCaps

H264 = DecoderCaps(
    is_supported=True,
    engines=7,
    width_min=48,
    width_max=4096,
    height_min=16,
    height_max=4096,
    macroblocks_max=65536,
)


def test_the_structure_is_laid_out_as_the_header_says() -> None:
    offsets = {
        "bit_depth_minus_8": 8,
        "is_supported": 24,
        "engines": 25,
        "output_formats": 26,
        "width_max": 28,
        "height_max": 32,
        "macroblocks_max": 36,
        "width_min": 40,
        "height_min": 42,
        "histogram_bins_max": 46,
    }
    assert ctypes.sizeof(Caps) == 88
    assert {name: getattr(Caps, name).offset for name in offsets} == offsets


@pytest.mark.parametrize(
    ("size_wh_px", "takes"),
    [
        ((1920, 1080), True),
        ((48, 16), True),
        ((46, 16), False),
        ((48, 14), False),
        ((4096, 4096), True),
        ((4098, 1080), False),
        ((1080, 4098), False),
    ],
)
def test_sizes_are_held_to_the_engine(size_wh_px: tuple[int, int], takes: bool) -> None:
    assert H264.takes(*size_wh_px) is takes


def test_a_picture_with_too_many_blocks_is_not_taken() -> None:
    narrow = DecoderCaps(True, 1, 48, 8192, 48, 8192, 36864)
    assert narrow.takes(4096, 2304)
    assert not narrow.takes(4096, 2320)
