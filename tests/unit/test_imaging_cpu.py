"""The OpenCV implementation against the sampling rules, evaluated in float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dualface_client.imaging.cpu import CpuImaging
from dualface_client.imaging.geometry import covered_part, preview_wh, rgb_matrix, similarity_matrix
from dualface_client.types import (
    FACE_CHIP_TEMPLATE_PX,
    ColorMatrix,
    ColorSpec,
    Crop,
    Letterbox,
    Nv12Image,
    TileLayout,
)

Array = npt.NDArray[np.float64]


def smooth_picture(width: int, height: int, color: ColorSpec | None = None) -> Nv12Image:
    """Gentle waves: any sampling error of a pixel shows as a few grey levels, noise does not."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    luma = 128 + 60 * np.sin(x / 17.0) + 40 * np.cos(y / 23.0 + x / 91.0)
    # Chroma sample (i, j) lies at luma index (2 i, 2 j + 1/2).
    cy, cx = np.mgrid[0 : height // 2, 0 : width // 2].astype(np.float64)
    blue = 128 + 50 * np.sin(2 * cx / 9.0)
    red = 128 + 50 * np.cos((2 * cy + 0.5) / 10.0)
    uv = np.stack([blue, red], axis=-1)
    return Nv12Image(
        np.rint(luma).astype(np.uint8), np.rint(uv).astype(np.uint8), color or ColorSpec()
    )


def luma_at(x: Array, y: Array) -> Array:
    return np.asarray(128 + 60 * np.sin(x / 17.0) + 40 * np.cos(y / 23.0 + x / 91.0))


def blue_at(x: Array) -> Array:
    return np.asarray(128 + 50 * np.sin(x / 9.0))


def red_at(y: Array) -> Array:
    return np.asarray(128 + 50 * np.cos(y / 10.0))


def tile_positions(crop: Crop, width: int, height: int) -> tuple[Array, Array]:
    """Source luma index under each tile pixel's centre."""
    x = crop.x_px + (np.arange(width) + 0.5) * crop.width_px / width - 0.5
    y = crop.y_px + (np.arange(height) + 0.5) * crop.height_px / height - 0.5
    grid_x, grid_y = np.meshgrid(x, y)
    return grid_x, grid_y


@pytest.mark.parametrize(
    "crop",
    [
        pytest.param(Crop(100.0, 40.0, 160.0, 180.0), id="as-is"),
        pytest.param(Crop(100.37, 40.61, 160.0, 180.0), id="between-pixels"),
        pytest.param(Crop(90.2, 33.7, 80.4, 90.45), id="enlarged"),
        pytest.param(Crop(61.3, 20.9, 213.3, 239.96), id="shrunk"),
        pytest.param(Crop(20.5, 8.25, 480.0, 540.0), id="shrunk-threefold"),
    ],
)
def test_tiles_show_the_crop_to_a_fraction_of_a_pixel(crop: Crop) -> None:
    image = smooth_picture(640, 560)
    layout = TileLayout((320, 180))
    (canvas,) = CpuImaging().compose([image], [(crop, crop)], layout)
    x, y = tile_positions(crop, 160, 180)
    for tile in (canvas.y[:, :160], canvas.y[:, 160:]):
        assert np.abs(tile - luma_at(x, y)).mean() < 0.9
        assert (
            abs(displacement_px(tile - luma_at(x, y), luma_at(x + 0.5, y) - luma_at(x - 0.5, y)))
            < 0.03
        )
    chroma = canvas.uv[:, :80]
    # Tile chroma (i, j) lies at tile luma (2 i, 2 j + 1/2).
    x_c, y_c = x[::2, ::2], y[::2, ::2] + crop.height_px / 180 / 2
    blue_error, red_error = chroma[:, :, 0] - blue_at(x_c), chroma[:, :, 1] - red_at(y_c)
    assert abs(displacement_px(blue_error, blue_at(x_c + 0.5) - blue_at(x_c - 0.5))) < 0.1
    assert abs(displacement_px(red_error, red_at(y_c + 0.5) - red_at(y_c - 0.5))) < 0.1


def displacement_px(error: Array, slope: Array) -> float:
    """How far the picture is shifted along the slope's axis, by least squares."""
    return float((error * slope).sum() / (slope**2).sum())


def test_a_tenth_of_a_pixel_of_shift_would_be_seen() -> None:
    """The bounds above are tight enough to fail on the commonest mistakes."""
    x, y = tile_positions(Crop(100.0, 40.0, 160.0, 180.0), 160, 180)
    slope = luma_at(x + 0.5, y) - luma_at(x - 0.5, y)
    assert displacement_px(luma_at(x + 0.1, y) - luma_at(x, y), slope) == pytest.approx(
        0.1, abs=0.01
    )


def test_left_and_right_tiles_show_their_own_crop() -> None:
    y = np.zeros((120, 200), np.uint8)
    y[:, :100], y[:, 100:] = 50, 200
    image = Nv12Image(y, np.full((60, 100, 2), 128, np.uint8))
    crops = Crop(10.0, 10.0, 60.0, 90.0), Crop(120.0, 10.0, 60.0, 90.0)
    (canvas,) = CpuImaging().compose([image], [crops], TileLayout((120, 90)))
    assert set(np.unique(canvas.y[:, :60])) == {50}
    assert set(np.unique(canvas.y[:, 60:])) == {200}


def test_whatever_lies_outside_the_picture_is_black() -> None:
    image = Nv12Image(np.full((40, 40), 99, np.uint8), np.full((20, 20, 2), 77, np.uint8))
    crop = Crop(-20.0, -20.0, 80.0, 80.0)
    (canvas,) = CpuImaging().compose([image], [(crop, crop)], TileLayout((160, 80)))
    left, top, right, bottom = covered_part(crop, (40, 40), (80, 80))
    assert (left, top, right, bottom) == (20, 20, 60, 60)
    assert set(np.unique(canvas.y[top:bottom, left:right])) == {99}
    outside = canvas.y[:, :80].copy()
    outside[top:bottom, left:right] = 16
    assert set(np.unique(outside)) == {16}
    assert tuple(canvas.uv[0, 0]) == (128, 128)


@pytest.mark.parametrize("size", [(2, 2), (16, 2), (2, 16), (1920, 2)])
def test_tiny_and_thin_pictures_are_composed(size: tuple[int, int]) -> None:
    width, height = size
    image = Nv12Image(
        np.full((height, width), 60, np.uint8), np.full((height // 2, width // 2, 2), 90, np.uint8)
    )
    crop = Crop(0.0, 0.0, float(width), float(height))
    (canvas,) = CpuImaging().compose([image], [(crop, crop)], TileLayout((64, 36)))
    assert set(np.unique(canvas.y)) == {60}
    assert set(np.unique(canvas.uv)) == {90}


def test_letterbox_centres_pads_and_converts() -> None:
    color = ColorSpec(ColorMatrix.BT709, full_range=False)
    image = Nv12Image(np.full((90, 160), 81, np.uint8), np.full((45, 80, 2), 0, np.uint8), color)
    image.uv[...] = (90, 240)  # red in BT.601; in BT.709 a slightly different one
    fit = Letterbox.fit((160, 90), (64, 64))
    out = np.full((64, 64, 3), 7, np.uint8)
    CpuImaging().letterbox([image], [fit], out[None])
    assert (fit.x_px, fit.y_px, fit.width_px, fit.height_px) == (0, 14, 64, 36)
    assert not out[:14].any()
    assert not out[50:].any()
    expected = rgb_matrix(color) @ np.array([81.0, 90.0, 240.0, 1.0])
    assert np.abs(out[14:50].astype(float) - np.clip(expected, 0, 255)).max() <= 1.0


def test_letterbox_writes_into_a_strided_slot() -> None:
    image = smooth_picture(320, 180)
    slot = np.zeros((64, 80, 3), np.uint8)
    fit = Letterbox.fit((320, 180), (64, 64))
    CpuImaging().letterbox([image], [fit], slot[None, :, 8:72])
    alone = np.zeros((64, 64, 3), np.uint8)
    CpuImaging().letterbox([image], [fit], alone[None])
    assert np.array_equal(slot[:, 8:72], alone)
    assert not slot[:, :8].any()


@pytest.mark.parametrize(
    ("color", "ycbcr", "rgb"),
    [
        # Reference points of BT.601/709: white, black and the primaries' corners.
        (ColorSpec(ColorMatrix.BT601, full_range=False), (235, 128, 128), (255, 255, 255)),
        (ColorSpec(ColorMatrix.BT709, full_range=False), (16, 128, 128), (0, 0, 0)),
        (ColorSpec(ColorMatrix.BT601, full_range=False), (81, 90, 240), (255, 0, 0)),
        (ColorSpec(ColorMatrix.BT709, full_range=False), (63, 102, 240), (255, 0, 0)),
        (ColorSpec(ColorMatrix.BT709, full_range=True), (18, 255, 117), (0, 0, 255)),
    ],
)
def test_rgb_matrix_meets_the_standards_reference_points(
    color: ColorSpec, ycbcr: tuple[int, int, int], rgb: tuple[int, int, int]
) -> None:
    found = rgb_matrix(color) @ np.array([*ycbcr, 1.0])
    assert np.abs(np.clip(found, 0, 255) - rgb).max() < 2.0


def test_similarity_brings_landmarks_onto_the_template() -> None:
    template = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32)
    angle, scale, shift = 0.4, 2.3, np.array([310.0, 95.0])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (template @ rotation.T * scale + shift).astype(np.float32)
    matrix = similarity_matrix(landmarks, template)
    index = np.hstack([template - 0.5, np.ones((5, 1))])
    assert np.allclose(index @ matrix.T + 0.5, landmarks, atol=1e-3)


def test_chip_is_upright_and_smooth_when_the_face_is_large() -> None:
    """A face six times the chip: means of samples, not aliased single ones."""
    rng = np.random.default_rng(5)
    noise = Nv12Image(
        rng.integers(0, 256, (1200, 1200), np.uint8), np.full((600, 600, 2), 128, np.uint8)
    )
    template = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32)
    chip = np.zeros((112, 112, 3), np.uint8)
    CpuImaging().face_chip(noise, template * 6 + 100, chip)
    single = np.zeros((112, 112, 3), np.uint8)
    CpuImaging().face_chip(noise, template + 100, single)
    assert chip[10:100, 10:100, 0].std() < single[10:100, 10:100, 0].std() / 3


def test_chip_colours_follow_the_picture() -> None:
    image = smooth_picture(400, 400)
    template = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32)
    chip = np.zeros((112, 112, 3), np.uint8)
    CpuImaging().face_chip(image, template + np.float32(100), chip)
    position = np.arange(112) + 100.0
    x, y = np.meshgrid(position, position)
    ycbcr = np.stack([luma_at(x, y), blue_at(x), red_at(y), np.ones_like(x)])
    expected = np.einsum("ij,jhw->hwi", rgb_matrix(image.color), ycbcr).clip(0, 255)
    assert np.abs(chip - expected).mean() < 2.5


@pytest.mark.parametrize(
    ("source_wh", "expected_wh"),
    [
        ((1920, 1080), (320, 180)),
        ((1080, 1920), (180, 320)),
        ((1280, 534), (320, 134)),
        ((320, 180), (320, 180)),
        ((64, 48), (64, 48)),
        ((4000, 2), (320, 2)),
    ],
)
def test_a_preview_keeps_the_aspect_and_is_never_enlarged(
    source_wh: tuple[int, int], expected_wh: tuple[int, int]
) -> None:
    assert preview_wh(source_wh) == expected_wh


def test_a_preview_is_the_mean_of_what_each_sample_covers() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 256, (1080, 1920)).astype(np.uint8)
    preview = CpuImaging().preview(Nv12Image(y, np.full((540, 960, 2), 128, np.uint8)))
    means = y.reshape(180, 6, 320, 6).mean(axis=(1, 3))
    assert preview.dtype == np.uint8
    assert np.abs(preview - means).max() <= 0.5 + 1e-6


def test_thumbnail_is_the_mean_brightness_per_cell() -> None:
    y = np.zeros((180, 320), np.uint8)
    y[:90], y[90:] = 40, 200
    image = Nv12Image(y, np.full((90, 160, 2), 128, np.uint8))
    thumbnail = CpuImaging().thumbnail(image)
    assert thumbnail.shape == (18, 32)
    assert thumbnail.dtype == np.uint8
    assert set(np.unique(thumbnail[:9])) == {40}
    assert set(np.unique(thumbnail[9:])) == {200}
