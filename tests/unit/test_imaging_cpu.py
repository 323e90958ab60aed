"""The host's implementation against the sampling rules, evaluated in float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dualface_client.imaging.cpu import CpuImaging
from dualface_client.imaging.geometry import (
    BACKDROP_GAIN,
    Axis,
    chip_chroma,
    content_of,
    preview_wh,
    rgb_matrix,
    similarity_matrix,
)
from dualface_client.imaging.resample import LANCZOS, bands, draw
from dualface_client.imaging.tiles import part_of
from dualface_client.types import (
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    ColorMatrix,
    ColorSpec,
    Crop,
    LayoutKind,
    Letterbox,
    Nv12Image,
    Rect,
    Side,
    TileLayout,
    View,
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


def tiles(layout: TileLayout, *crops: Crop) -> list[View]:
    return [View(crop, layout.area(side)) for side, crop in zip(Side, crops, strict=True)]


def composed(image: Nv12Image, layout: TileLayout, *views: View) -> Nv12Image:
    (canvas,) = CpuImaging().compose([image], [views], layout)
    return canvas


def inside(canvas: Nv12Image, area: Rect) -> ByteArray:
    """Luma of a part."""
    return np.asarray(part_of(canvas, area).y)


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
    canvas = composed(image, layout, *tiles(layout, crop, crop))
    x, y = tile_positions(crop, 160, 180)
    # At the very edge the outermost sample is repeated.
    inner = slice(8, -8), slice(8, -8)
    slope = luma_at(x + 0.5, y) - luma_at(x - 0.5, y)
    for tile in (canvas.y[:, :160], canvas.y[:, 160:]):
        error = tile - luma_at(x, y)
        assert np.abs(error).mean() < 0.9
        assert abs(displacement_px(error[inner], slope[inner])) < 0.02  # Lanczos's own error
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


def noise(width: int, height: int) -> Nv12Image:
    rng = np.random.default_rng(3)
    return Nv12Image(
        rng.integers(0, 256, (height, width), np.uint8),
        rng.integers(0, 256, (height // 2, width // 2, 2), np.uint8),
    )


def flat(width: int, height: int, luma: int = 99, chroma: int = 77) -> Nv12Image:
    return Nv12Image(
        np.full((height, width), luma, np.uint8),
        np.full((height // 2, width // 2, 2), chroma, np.uint8),
    )


def lanczos_rows(samples: int, start: float, size: float, drawn: int) -> Array:
    """Each drawn sample's weights of all source samples, by the definition, edges repeated."""
    first, last = int(np.floor(start)), int(np.ceil(start + size)) - 1
    rows = np.zeros((drawn, samples))
    for i in range(drawn):
        place = start + (i + 0.5) * size / drawn - 0.5
        near = np.arange(np.floor(place) - 3, np.floor(place) + 5)
        weights = np.sinc(place - near) * np.sinc((place - near) / 4)
        for k, weight in zip(near, weights / weights.sum(), strict=True):
            rows[i, min(max(int(k), first), last)] += weight
    return rows


@pytest.mark.parametrize(
    "crop",
    [
        pytest.param(Crop(30.0, 20.0, 64.0, 72.0), id="as-is"),
        pytest.param(Crop(30.5, 20.25, 64.0, 72.0), id="between-pixels"),
        pytest.param(Crop(11.3, 7.9, 37.7, 42.4), id="enlarged"),
        pytest.param(Crop(0.0, 0.0, 16.0, 18.0), id="at-the-corner"),
        pytest.param(Crop(120 - 21.3, 100 - 24.1, 21.3, 24.1), id="at-the-other-corner"),
    ],
)
def test_luma_is_enlarged_by_lanczos_to_the_level(crop: Crop) -> None:
    image, layout = noise(120, 100), TileLayout((128, 72))
    canvas = composed(image, layout, *tiles(layout, crop, crop))
    down = lanczos_rows(100, crop.y_px, crop.height_px, 72)
    across = lanczos_rows(120, crop.x_px, crop.width_px, 64)
    wanted = np.clip(down @ image.y.astype(np.float64) @ across.T, 0, 255)
    assert np.abs(canvas.y[:, 64:] - wanted).max() <= 0.501


@pytest.mark.parametrize("turned", [False, True])
def test_a_large_plane_is_drawn_in_parts_without_seams(turned: bool) -> None:
    """More rows than one strip takes, more columns than one product."""
    plane = noise(40, 3000).y
    thin, long = Axis.of(3.3, 30.2, 48, 40), Axis.of(7.7, 2980.1, 3300, 3000)
    rows = lanczos_rows(3000, 7.7, 2980.1, 3300)
    wanted = rows @ plane.astype(np.float64) @ lanczos_rows(40, 3.3, 30.2, 48).T
    across, down = (long, thin) if turned else (thin, long)
    target = np.empty((down.count, across.count), np.uint8)
    source = np.ascontiguousarray(plane.T) if turned else plane
    draw(source, bands(across, LANCZOS), bands(down, LANCZOS), target)
    found = target.T if turned else target
    assert np.abs(found - np.clip(wanted, 0, 255)).max() <= 0.501


def test_edges_of_full_contrast_do_not_overflow() -> None:
    """Lanczos swings beyond both levels; a wrapped sample would be at the other end."""
    image = flat(80, 60, 0)
    image.y[:, 40:] = 255
    canvas = composed(image, TileLayout((320, 240)), View(Crop(0, 0, 80, 60), Rect(0, 0, 320, 240)))
    assert canvas.y[:, :154].max() <= 30
    assert canvas.y[:, 166:].min() >= 225
    assert (np.diff(canvas.y[100, 154:166].astype(int)) >= 0).all()


def test_a_slow_pan_keeps_its_sharpness() -> None:
    """Fine detail is as strong between two source pixels as on them."""
    x = np.arange(400)
    image = flat(400, 300)
    image.y[:] = np.rint(128 + 100 * np.sin(2 * np.pi * x / 3.0))
    layout = TileLayout((640, 360))
    contrasts = [
        composed(image, layout, *tiles(layout, Crop(40 + part, 30.0, 160.0, 180.0), WHOLE))
        .y[90, 20:300]
        .std()
        for part in (0.0, 0.25, 0.5)
    ]
    assert min(contrasts) > 0.97 * 100 / np.sqrt(2)
    assert max(contrasts) < 1.03 * min(contrasts)


WHOLE = Crop(0.0, 0.0, 240.0, 270.0)


def test_shrinking_by_a_whole_factor_gives_plain_means() -> None:
    image, layout = noise(360, 300), TileLayout((60, 50))
    canvas = composed(image, layout, *tiles(layout, Crop(30, 60, 90, 150), Crop(30, 60, 90, 150)))
    means = image.y[60:210, 30:120].reshape(50, 3, 30, 3).mean(axis=(1, 3))
    assert np.abs(canvas.y[:, :30] - means).max() <= 0.501


def test_left_and_right_tiles_show_their_own_crop() -> None:
    image = flat(200, 120, 50)
    image.y[:, 100:] = 200
    layout = TileLayout((120, 90))
    crops = Crop(10.0, 10.0, 60.0, 90.0), Crop(120.0, 10.0, 60.0, 90.0)
    canvas = composed(image, layout, *tiles(layout, *crops))
    assert set(np.unique(canvas.y[:, :60])) == {50}
    assert set(np.unique(canvas.y[:, 60:])) == {200}


@pytest.mark.parametrize(
    "crop",
    [
        pytest.param(Crop(21.0, 11.0, 33.0, 45.0), id="odd"),
        pytest.param(Crop(20.4, 10.6, 33.4, 44.6), id="fractions"),
        pytest.param(Crop(20.0, 10.0, 90.0, 100.0), id="shrunk"),
        pytest.param(Crop(25.0, 15.0, 60.0, 20.0), id="fitted"),
    ],
)
def test_nothing_beyond_the_crop_is_seen(crop: Crop) -> None:
    image = flat(140, 130, 255, 255)
    x1, y1 = int(crop.x_px) // 2 * 2, int(crop.y_px) // 2 * 2
    x2 = -int(-(crop.x_px + crop.width_px + 1) // 2) * 2
    y2 = -int(-(crop.y_px + crop.height_px + 1) // 2) * 2
    image.y[int(crop.y_px) : y2, int(crop.x_px) : x2] = 99
    image.uv[y1 // 2 : y2 // 2, x1 // 2 : x2 // 2] = 77
    layout = TileLayout((128, 72))
    canvas = composed(image, layout, *tiles(layout, crop, crop))
    assert canvas.y.max() == 99
    assert canvas.uv.max() <= 98  # 77, and in a backdrop nearer to grey


def disc(width: int, height: int, x: float, y: float, radius: float) -> Nv12Image:
    image = flat(width, height, 40, 128)
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    image.y[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = 220
    return image


@pytest.mark.parametrize(
    ("layout", "crop"),
    [
        pytest.param(TileLayout((640, 360)), Crop(200.0, 100.0, 160.0, 180.0), id="side-by-side"),
        pytest.param(TileLayout((360, 640), "stacked"), Crop(150.3, 90, 270, 240), id="stacked"),
        pytest.param(TileLayout((640, 360), "solo"), Crop(120.0, 101.0, 320, 180), id="solo"),
        pytest.param(TileLayout((640, 360), "solo"), Crop(220.0, 50.0, 120, 260), id="tall"),
        pytest.param(TileLayout((640, 360)), Crop(110.0, 130.0, 340, 120), id="wide"),
    ],
)
def test_a_circle_stays_round(layout: TileLayout, crop: Crop) -> None:
    image = disc(560, 420, 280, 190, 50)
    view = View(crop, layout.area(Side.LEFT))
    drawn = inside(composed(image, layout, view), content_of(view)) > 130
    width, height = drawn.any(axis=0).sum(), drawn.any(axis=1).sum()
    scale = content_of(view).width_px / crop.width_px
    assert abs(int(width) - int(height)) <= 2
    assert width == pytest.approx(100 * scale, abs=2)
    # And it is where it was: the disc's centre.
    rows, columns = np.nonzero(drawn)
    assert columns.mean() + 0.5 == pytest.approx((280 - crop.x_px) * scale, abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx((190 - crop.y_px) * scale, abs=0.5)


@pytest.mark.parametrize(
    ("width", "content"),
    [
        (160.0, Rect(0, 0, 160, 180)),
        (161.5, Rect(0, 0, 160, 180)),
        (158.5, Rect(0, 0, 160, 180)),
        (163.0, Rect(0, 2, 160, 176)),
        (200.0, Rect(0, 18, 160, 144)),
        (80.0, Rect(40, 0, 80, 180)),
    ],
)
def test_a_crop_of_nearly_the_areas_shape_fills_it_and_others_are_fitted(
    width: float, content: Rect
) -> None:
    assert content_of(View(Crop(10, 10, width, 180), Rect(0, 0, 160, 180))) == content
    moved = content_of(View(Crop(10, 10, width, 180), Rect(60, 20, 160, 180)))
    assert (moved.x_px, moved.y_px) == (content.x_px + 60, content.y_px + 20)


def test_a_fitted_crop_is_drawn_over_a_dark_and_blurred_enlargement_of_itself() -> None:
    image = flat(400, 300, 40, 100)
    squares = np.indices((300, 400)).sum(axis=0) // 8 % 2  # diagonal stripes of full contrast
    image.y[:] = np.where(squares, 230, 30)
    image.y[:, 200:] //= 2
    layout = TileLayout((640, 360))
    view = View(Crop(100, 60, 200, 90), layout.area(Side.RIGHT))
    content = content_of(view)
    assert content == Rect(320, 108, 320, 144)
    canvas = composed(image, layout, view)
    alone = composed(image, layout, View(view.crop, content))
    assert np.array_equal(inside(canvas, content), inside(alone, content))
    for top, bottom in ((0, 108), (252, 360)):
        behind = canvas.y[top:bottom, 320:].astype(int)
        assert np.abs(np.diff(behind, axis=0)).max() <= 3
        assert np.abs(np.diff(behind, axis=1)).max() <= 3
        # The same part of the source: bright at its left, half as bright at its right.
        left, right = behind[:, :60].mean(), behind[:, -60:].mean()
        assert left == pytest.approx(16 + BACKDROP_GAIN * (130 - 16), abs=4)
        assert right == pytest.approx(16 + BACKDROP_GAIN * (65 - 16), abs=4)
        chroma = canvas.uv[top // 2 : bottom // 2, 160:]
        assert set(np.unique(chroma)) == {round(128 + BACKDROP_GAIN * (100 - 128))}
    assert (canvas.y[:, :320] == 16).all()


def test_a_backdrop_is_as_dark_as_the_same_picture_in_full_range() -> None:
    image = flat(400, 300, 100, 128)
    image = Nv12Image(image.y, image.uv, ColorSpec(full_range=True))
    layout = TileLayout((640, 360), "solo")
    canvas = composed(image, layout, View(Crop(0, 0, 100, 300), layout.whole))
    assert canvas.y[180, 10] == round(BACKDROP_GAIN * 100)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("kind", ["side-by-side", "stacked"])
def test_the_gap_has_its_colour_exactly(kind: LayoutKind, full_range: bool) -> None:
    color = ColorSpec(ColorMatrix.BT709, full_range)
    image = Nv12Image(flat(200, 200).y, flat(200, 200).uv, color)
    layout = TileLayout((200, 200), kind, 16, (200, 30, 60))
    size = [float(value) for value in layout.tile_wh_px]
    canvas = composed(image, layout, *tiles(layout, Crop(0, 0, *size), Crop(0, 0, *size)))
    luma, chroma = canvas.y, canvas.uv
    if kind == "stacked":
        luma, chroma = luma.T, chroma.swapaxes(0, 1)
    assert set(np.unique(luma[:, [0, 91, 108, 199]])) == {99}
    assert set(np.unique(chroma[:, [0, 45, 54, 99]])) == {77}
    (y,), (cb,), (cr,) = (
        np.unique(plane) for plane in (luma[:, 92:108], chroma[:, 46:54, 0], chroma[:, 46:54, 1])
    )
    found = rgb_matrix(color) @ np.array([y, cb, cr, 1.0])
    assert np.abs(found - (200, 30, 60)).max() < 2.0


def test_any_views_at_any_place_and_the_background_elsewhere() -> None:
    image = flat(200, 200, 10)
    image.y[:, 60:120], image.y[:, 120:] = 100, 200
    layout = TileLayout((300, 200), gap_color=(255, 255, 255))
    views = [
        View(Crop(0, 0, 50, 50), Rect(2, 4, 60, 60)),
        View(Crop(65, 10, 50, 100), Rect(100, 90, 50, 100)),
        View(Crop(130, 0, 60, 200), Rect(202, 0, 90, 196)),
    ]
    canvas = composed(image, layout, *views)
    expected = np.full((200, 300), 235)
    expected[4:64, 2:62], expected[90:190, 100:150] = 10, 100
    fitted = content_of(views[2])
    expected[0:196, 202:292] = round(16 + BACKDROP_GAIN * (200 - 16))
    expected[fitted.y_px : fitted.y_px + fitted.height_px, 218:276] = 200
    assert (fitted.x_px, fitted.width_px) == (218, 58)
    assert np.array_equal(canvas.y, expected)
    assert (canvas.uv == 128).sum() > 300 * 200 / 4


@pytest.mark.parametrize("size", [(2, 2), (16, 2), (2, 16), (1920, 2)])
@pytest.mark.parametrize("kind", ["side-by-side", "stacked", "solo"])
def test_tiny_and_thin_pictures_are_composed(size: tuple[int, int], kind: LayoutKind) -> None:
    image = flat(*size, luma=60, chroma=128)
    layout = TileLayout((64, 36), kind)
    crop = Crop(0.0, 0.0, *map(float, size))
    canvas = composed(image, layout, *[View(crop, layout.area(side)) for side in Side])
    assert set(np.unique(canvas.y)) <= {60, round(16 + BACKDROP_GAIN * (60 - 16))}
    assert set(np.unique(canvas.uv)) == {128}


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


def test_each_chip_pixel_takes_the_chroma_of_its_luma() -> None:
    """Chroma lies on every second column, and midway between two rows."""
    angle = np.array([[2.0, -0.5, 31.0], [0.5, 2.0, 17.0]])
    index = np.array([5.0, 9.0, 1.0])
    x, y = angle @ index
    assert np.allclose(chip_chroma(angle) @ index, [x / 2, (y - 0.5) / 2])


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


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (320, 180), (3840, 2160), (720, 576)])
def test_thumbnail_is_the_mean_colour_per_cell(width: int, height: int) -> None:
    y, uv = np.zeros((height, width), np.uint8), np.zeros((height // 2, width // 2, 2), np.uint8)
    y[: height // 2], y[height // 2 :] = 40, 200
    uv[:, : width // 4], uv[:, width // 4 :] = (30, 100), (220, 150)
    thumbnail = CpuImaging().thumbnail(Nv12Image(y, uv))
    assert thumbnail.shape == (36, 64, 3)
    assert thumbnail.dtype == np.uint8
    assert set(np.unique(thumbnail[:18, :, 0])) == {40}
    assert set(np.unique(thumbnail[18:, :, 0])) == {200}
    assert np.unique(thumbnail[:, :32, 1:].reshape(-1, 2), axis=0).tolist() == [[30, 100]]
    assert np.unique(thumbnail[:, 32:, 1:].reshape(-1, 2), axis=0).tolist() == [[220, 150]]
