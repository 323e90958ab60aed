"""The kernels against the OpenCV implementation on the same picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dualface_client.cuda.stream import CudaStream
from dualface_client.errors import MemoryRegionError
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.imaging.tiles import part_of
from dualface_client.memory.cuda_region import BLOCK_BYTES, CudaRegion
from dualface_client.memory.names import parse
from dualface_client.memory.slots import SizeClass, SlotPool
from dualface_client.types import (
    FACE_CHIP_PX,
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    ColorMatrix,
    ColorSpec,
    Crop,
    FloatArray,
    Letterbox,
    Nv12Image,
    Rect,
    Side,
    TileLayout,
    View,
)
from tests.gpu.pictures import download, natural_picture, psnr_db, upload

pytestmark = pytest.mark.gpu

UINT8 = np.dtype(np.uint8)
LETTERBOX_LEVELS = 1.0
CHIP_LEVELS = 1.0
THUMBNAIL_LEVELS = 1.0
COMPOSE_DB = 45.0


@pytest.fixture(scope="session")
def imaging(stream: CudaStream) -> CudaImaging:
    made = CudaImaging(stream)
    made.warm_up()
    return made


@pytest.fixture(scope="session")
def picture() -> Nv12Image:
    return natural_picture(1920, 1080)


def mean_difference(a: ByteArray, b: ByteArray) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


@pytest.mark.parametrize(
    "color", [ColorSpec(m, full) for m in ColorMatrix for full in (False, True)]
)
@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((1920, 1080), (640, 640)),
        ((1280, 720), (640, 640)),
        ((1080, 1920), (640, 640)),
        ((854, 480), (640, 640)),
        ((320, 180), (640, 640)),
        ((64, 48), (64, 64)),
    ],
)
def test_letterbox_agrees(
    imaging: CudaImaging,
    stream: CudaStream,
    color: ColorSpec,
    size: tuple[int, int],
    target: tuple[int, int],
) -> None:
    image = natural_picture(*size, color=color)
    fit = Letterbox.fit(size, target)
    expected = np.empty((target[1], target[0], 3), np.uint8)
    CpuImaging().letterbox([image], [fit], expected[None])
    with stream:
        out = stream.cupy.full(expected.shape, 77, np.uint8)
    imaging.letterbox([upload(image, stream)], [fit], out[None])
    found = download(out, stream)
    assert mean_difference(found, expected) <= LETTERBOX_LEVELS
    inside = found[fit.y_px : fit.y_px + fit.height_px, fit.x_px : fit.x_px + fit.width_px]
    assert int(found.astype(np.int64).sum()) == int(inside.astype(np.int64).sum())


@pytest.mark.parametrize("count", [1, 8, 16, 19])
def test_a_batch_is_as_one_after_the_other(
    imaging: CudaImaging, stream: CudaStream, count: int
) -> None:
    sizes = [(1920, 1080), (640, 480), (320, 180)]
    pictures = [natural_picture(*sizes[n % 3]) for n in range(count)]
    images = [upload(picture, stream) for picture in pictures]
    fits = [Letterbox.fit(sizes[n % 3], (64, 64)) for n in range(count)]
    with stream:
        alone = stream.cupy.zeros((count, 64, 64, 3), np.uint8)
        together = stream.cupy.zeros((count, 64, 64, 3), np.uint8)
    thumbnails, previews = [], []
    for n in range(count):
        imaging.letterbox(images[n : n + 1], fits[n : n + 1], alone[n : n + 1])
        thumbnails.append(imaging.thumbnail(images[n]))
        previews.append(imaging.preview(images[n]))
    imaging.letterbox(images, fits, together)
    assert np.array_equal(download(together, stream), download(alone, stream))
    for image, thumbnail, preview in zip(images, thumbnails, previews, strict=True):
        assert np.array_equal(imaging.thumbnail(image), thumbnail)
        assert np.array_equal(imaging.preview(image), preview)


def test_letterbox_fills_a_leased_slot(
    imaging: CudaImaging, stream: CudaStream, picture: Nv12Image
) -> None:
    shape = (640, 640, 3)
    fit = Letterbox.fit((1920, 1080), (640, 640))
    expected = np.empty(shape, np.uint8)
    CpuImaging().letterbox([picture], [fit], expected[None])
    with CudaRegion(1) as region:
        assert region.byte_size == BLOCK_BYTES
        pool = SlotPool(region, {"input": SizeClass(640 * 640 * 3, 1)})
        lease = pool.lease("input", 1.0)
        slot = lease.array(shape, UINT8)
        assert not download(slot, stream).any()
        imaging.letterbox([upload(picture, stream)], [fit], slot[None])
        imaging.finish()
        assert mean_difference(download(slot, stream), expected) <= LETTERBOX_LEVELS
        lease.release()


def tiles(layout: TileLayout, *crops: Crop) -> list[View]:
    return [View(crop, layout.area(side)) for side, crop in zip(Side, crops, strict=True)]


def assert_canvas_agrees(
    imaging: CudaImaging,
    stream: CudaStream,
    image: Nv12Image,
    views: Sequence[View],
    layout: TileLayout,
) -> None:
    """Each view in each plane, and the whole canvas exactly where no view is."""
    (expected,) = CpuImaging().compose([image], [views], layout)
    (canvas,) = imaging.compose([upload(image, stream)], [views], layout)
    assert canvas.color == expected.color
    found = Nv12Image(download(canvas.y, stream), download(canvas.uv, stream), canvas.color)
    for view in views:
        part, wanted = part_of(found, view.area), part_of(expected, view.area)
        assert psnr_db(part.y, wanted.y) >= COMPOSE_DB
        assert psnr_db(part.uv, wanted.uv) >= COMPOSE_DB
        part.y[:], part.uv[:] = wanted.y, wanted.uv
    assert np.array_equal(found.y, expected.y)
    assert np.array_equal(found.uv, expected.uv)


@pytest.mark.parametrize(
    "crop",
    [
        pytest.param(Crop(400.0, 40.0, 960.0, 1080.0 - 80.0), id="fitted-as-is"),
        pytest.param(Crop(300.0, 0.0, 960.0, 1080.0), id="as-is"),
        pytest.param(Crop(300.37, 0.0, 960.0, 1080.0), id="between-pixels"),
        pytest.param(Crop(300.37, 0.2, 960.3, 1079.7), id="one-axis-shrunk-by-a-hair"),
        pytest.param(Crop(700.2, 333.7, 320.0, 360.0), id="enlarged-threefold"),
        pytest.param(Crop(500.25, 120.6, 710.3, 799.09), id="enlarged"),
        pytest.param(Crop(1919.0 - 66.6, 1080.0 - 74.9, 66.6, 74.9), id="at-the-corner"),
        pytest.param(Crop(40.3, 20.2, 240.0, 135.0), id="small-and-wide"),
        pytest.param(Crop(900.7, 100.4, 130.0, 900.0), id="tall"),
        pytest.param(Crop(0.0, 0.0, 1920.0, 1080.0), id="all-of-it"),
    ],
)
def test_compose_agrees(
    imaging: CudaImaging, stream: CudaStream, picture: Nv12Image, crop: Crop
) -> None:
    layout = TileLayout((1920, 1080))
    views = tiles(layout, crop, Crop(900.5, 100.25, 480.0, 540.0))
    assert_canvas_agrees(imaging, stream, picture, views, layout)


@pytest.mark.parametrize("color", [ColorSpec(full_range=full) for full in (False, True)])
@pytest.mark.parametrize(
    "layout",
    [
        TileLayout((1920, 1080), "side-by-side", 40, (200, 30, 60)),
        TileLayout((1080, 1920), "stacked", 8, (255, 255, 255)),
        TileLayout((1080, 1920), "stacked"),
        TileLayout((1920, 1080), "solo"),
        TileLayout((634, 358), "solo"),
    ],
    ids=["gap", "stacked-gap", "stacked", "solo", "small-solo"],
)
def test_layouts_agree(
    imaging: CudaImaging, stream: CudaStream, layout: TileLayout, color: ColorSpec
) -> None:
    image = natural_picture(1920, 1080, color)
    crops = Crop(300.3, 200.2, 600.0, 337.5), Crop(900.5, 100.25, 480.0, 540.0)
    views = tiles(layout, *crops)
    if layout.kind == "solo":
        views = views[:1]
    assert_canvas_agrees(imaging, stream, image, views, layout)


def test_three_views_at_any_place_agree(
    imaging: CudaImaging, stream: CudaStream, picture: Nv12Image
) -> None:
    layout = TileLayout((1000, 700), gap_color=(9, 200, 100))
    views = [
        View(Crop(10.5, 7.25, 300.0, 310.0), Rect(6, 4, 602, 622)),
        View(Crop(600.1, 500.9, 500.0, 200.0), Rect(610, 10, 380, 300)),
        View(Crop(5.0, 5.0, 1700.0, 1000.0), Rect(630, 330, 350, 350)),
    ]
    assert_canvas_agrees(imaging, stream, picture, views, layout)


def test_compose_shrinks_a_large_picture_without_aliasing(
    imaging: CudaImaging, stream: CudaStream
) -> None:
    layout = TileLayout((640, 360))
    views = tiles(layout, Crop(100.3, 0.0, 1920.0, 2160.0), Crop(1700.7, 50.4, 1700.0, 1912.5))
    assert_canvas_agrees(imaging, stream, natural_picture(3840, 2160), views, layout)


@pytest.mark.parametrize("count", [2, 16, 19])
@pytest.mark.parametrize("canvas_wh", [(1920, 1080), (636, 358)])
def test_canvases_drawn_together_are_as_one_after_the_other(
    imaging: CudaImaging, stream: CudaStream, count: int, canvas_wh: tuple[int, int]
) -> None:
    sizes = [(1920, 1080), (640, 480), (320, 180)]
    images = [upload(natural_picture(*sizes[n % 3]), stream) for n in range(count)]
    layout = TileLayout(canvas_wh)
    views = [  # every third canvas with a backdrop, every fifth with one view alone
        tiles(
            layout,
            Crop(n + 0.3, 2.0 * n, 90.0, 100.0),
            Crop(3.0 * n, 0.5, 250.0, 50.0 if n % 3 == 0 else 270.0),
        )[: 1 if n % 5 == 0 else 2]
        for n in range(count)
    ]
    together = imaging.compose(images, views, layout)
    for n in range(count):
        (alone,) = imaging.compose([images[n]], [views[n]], layout)
        assert np.array_equal(download(together[n].y, stream), download(alone.y, stream))
        assert np.array_equal(download(together[n].uv, stream), download(alone.uv, stream))


def test_canvas_planes_lie_behind_one_another(
    imaging: CudaImaging, stream: CudaStream, picture: Nv12Image
) -> None:
    layout, crop = TileLayout(), Crop(0.0, 0.0, 960.0, 1080.0)
    (canvas,) = imaging.compose([upload(picture, stream)], [tiles(layout, crop, crop)], layout)
    assert canvas.uv.data.ptr == canvas.y.data.ptr + 1920 * 1080


def test_parts_of_a_canvas_are_kept_and_put_back(
    imaging: CudaImaging, stream: CudaStream, picture: Nv12Image
) -> None:
    canvas, area = upload(picture, stream), Rect(100, 200, 300, 50)
    kept = imaging.copy_tile(canvas, area)
    with stream:
        canvas.y[:], canvas.uv[:] = 7, 9
    imaging.put_tile(canvas, area, kept)
    wanted = Nv12Image(np.full_like(picture.y, 7), np.full_like(picture.uv, 9))
    part = part_of(wanted, area)
    part.y[:], part.uv[:] = part_of(picture, area).y, part_of(picture, area).uv
    assert np.array_equal(download(canvas.y, stream), wanted.y)
    assert np.array_equal(download(canvas.uv, stream), wanted.uv)


def landmarks(scale: float, angle: float, shift: tuple[float, float]) -> FloatArray:
    template = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32) - FACE_CHIP_PX / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(template @ turn.T * scale + shift, np.float32)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7, 3.9, 9.0])
@pytest.mark.parametrize("shift", [(900.0, 500.0), (20.0, 1060.0)])
def test_face_chips_agree(
    imaging: CudaImaging,
    stream: CudaStream,
    picture: Nv12Image,
    scale: float,
    shift: tuple[float, float],
) -> None:
    points = landmarks(scale, 0.3, shift)
    expected = np.empty((FACE_CHIP_PX, FACE_CHIP_PX, 3), np.uint8)
    CpuImaging().face_chip(picture, points, expected)
    with stream:
        out = stream.cupy.empty(expected.shape, np.uint8)
    imaging.face_chip(upload(picture, stream), points, out)
    assert mean_difference(download(out, stream), expected) <= CHIP_LEVELS


@pytest.mark.parametrize(
    "size", [(3840, 2160), (1920, 1080), (1280, 720), (720, 576), (500, 300), (64, 48)]
)
def test_thumbnails_agree(imaging: CudaImaging, stream: CudaStream, size: tuple[int, int]) -> None:
    image = natural_picture(*size)
    found = imaging.thumbnail(upload(image, stream))
    assert found.shape == (36, 64, 3)
    expected = CpuImaging().thumbnail(image)
    for channel in range(3):
        difference = mean_difference(found[..., channel], expected[..., channel])
        assert difference <= THUMBNAIL_LEVELS


def test_thumbnails_of_many_pictures_are_each_its_own(
    imaging: CudaImaging, stream: CudaStream
) -> None:
    """More than one launch takes; some were made with the letterbox."""

    def flat(level: int) -> Nv12Image:
        luma = np.full((180, 320), level, np.uint8)
        return upload(Nv12Image(luma, np.full((90, 160, 2), 128, np.uint8)), stream)

    images = [flat(10 + n) for n in range(40)]
    with stream:
        out = stream.cupy.empty((10, 64, 64, 3), np.uint8)
    imaging.letterbox(images[::4], [Letterbox.fit((320, 180), (64, 64))] * 10, out)
    found = imaging.thumbnails(images)
    assert [set(each[..., 0].ravel()) for each in found] == [{10 + n} for n in range(40)]


@pytest.mark.parametrize(
    "size", [(1920, 1080), (1080, 1920), (1280, 534), (720, 576), (320, 180), (64, 48)]
)
def test_previews_agree(imaging: CudaImaging, stream: CudaStream, size: tuple[int, int]) -> None:
    image = natural_picture(*size)
    found, expected = imaging.preview(upload(image, stream)), CpuImaging().preview(image)
    assert found.shape == expected.shape
    assert np.abs(found.astype(np.int16) - expected).max() <= 1  # only rounding may differ


def test_sharpness_agrees(imaging: CudaImaging, stream: CudaStream, picture: Nv12Image) -> None:
    width, height = picture.width_px, picture.height_px
    boxes = [
        (100.2, 80.7, 180.9, 175.1),
        (10, 20, 400, 500),
        (-50, -40, 90, 110),  # reaches beyond the picture
        (width - 60, height - 90, width + 60, height + 10),
        (30, 30, 32, 32),  # too small
        (width + 10, 0, width + 90, 90),  # outside
    ]
    found = imaging.sharpness(upload(picture, stream), np.array(4 * boxes, np.float32))
    expected = CpuImaging().sharpness(picture, np.array(4 * boxes, np.float32))
    assert found == pytest.approx(expected, rel=1e-4)
    assert (expected > 0).sum() == 4 * 4


def test_thumbnail_made_with_the_letterbox_belongs_to_its_picture(
    imaging: CudaImaging, stream: CudaStream
) -> None:
    fit = Letterbox.fit((320, 180), (64, 64))
    with stream:
        memory = stream.cupy.zeros((270, 320), np.uint8)
        out = stream.cupy.empty((64, 64, 3), np.uint8)

    def frame(level: int) -> Nv12Image:
        with stream:
            memory[:180] = level
        return Nv12Image(memory[:180], memory[180:].reshape(90, 160, 2))

    first = frame(50)
    imaging.letterbox([first], [fit], out[None])
    second = frame(90)  # the same memory, another frame
    assert set(imaging.thumbnail(second)[..., 0].ravel()) == {90}
    assert set(imaging.preview(second).ravel()) == {90}
    imaging.letterbox([first], [fit], out[None])
    assert set(imaging.thumbnail(first)[..., 0].ravel()) == {90}
    assert set(imaging.preview(first).ravel()) == {90}


def test_pictures_with_gaps_between_samples_are_refused(
    imaging: CudaImaging, stream: CudaStream, picture: Nv12Image
) -> None:
    image = upload(picture, stream)
    with pytest.raises(ValueError, match="gaps"):
        imaging.thumbnail(Nv12Image(image.y[:, ::2], image.uv[:, ::2]))


def test_region_is_cleared_named_and_exported(stream: CudaStream) -> None:
    region = CudaRegion(3 << 20)
    name = parse(region.name)
    assert name is not None
    assert name.kind == "cuda"
    assert region.byte_size == 2 * BLOCK_BYTES
    assert len(region.ipc_handle) == 64
    whole = region.view(0, (region.byte_size,), UINT8)
    assert not download(whole, stream).any()
    with pytest.raises(ValueError, match="offsets"):
        region.view(region.byte_size - 1, (2,), UINT8)
    region.close()
    region.close()
    with pytest.raises(MemoryRegionError, match="closed"):
        region.view(0, (1,), UINT8)


def test_a_region_larger_than_the_gpu_is_refused_with_a_remedy() -> None:
    with pytest.raises(MemoryRegionError, match="fewer streams"):
        CudaRegion(1 << 44)
