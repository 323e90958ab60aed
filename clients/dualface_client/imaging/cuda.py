"""Pixel work on an NVIDIA GPU with the kernels of `kernels.cu`, by the rules of `geometry`.

Nothing here waits for the GPU except `PendingMeans.result` and `CudaImaging.finish`.
Agreement with `CpuImaging` on the same picture, checked by `tests/gpu`: letterbox, chips,
thumbnails and previews within a mean difference of one level, canvases of at least 45 dB PSNR.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import chain, groupby
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualface_client.cuda.pictures import Pictures
from dualface_client.cuda.stream import CudaStream, Recorded
from dualface_client.imaging.cuda_structs import (
    BACKDROP_BATCH,
    BATCH,
    BLOCKS_BATCH,
    CHIP,
    COMPOSE_BATCH,
    LETTERBOX_BATCH,
    MEANS_BATCH,
    cells_of,
    picture_of,
    pictures_of,
    row_pitch_of,
    thumbnail_rows_of,
    views_of,
    warp_of,
)
from dualface_client.imaging.geometry import (
    MOST_CELLS,
    THUMBNAIL_WH_PX,
    backdrop_of,
    chip_chroma,
    preview_wh,
    rgb_matrix,
    similarity_matrix,
    ycbcr_of,
)
from dualface_client.imaging.sharpness import Blocks, blocks_of, detail
from dualface_client.imaging.tiles import copy_tile, put_tile
from dualface_client.types import (
    FACE_CHIP_PX,
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
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

# Rows of cells: those of luma, then those of chroma at half size.
_THUMBNAIL_ROWS = THUMBNAIL_WH_PX[1] * 3 // 2
# Thumbnails, and previews of one size, in pinned host memory at once; each is overwritten after
# this many more. A stream has fewer frames under way.
_PLACES = 256
_BLOCK = (32, 8)
# Blocks of two faces.
_USUAL_FLOATS = 2 * 120 * 120
# One block of `compose`, and the samples of a canvas that it computes; as in kernels.cu.
_DRAWN_BLOCK = (16, 16)
_DRAWN_SAMPLES = (64, 16)
_THUMBNAIL_THREADS = _CELL_THREADS = 128
_KERNELS = ("letterbox", "thumbnail", "preview", "block_means", "face_chip", "compose", "backdrops")


class _Done:
    """When some work is done; asks the GPU only once."""

    def __init__(self, event: Recorded) -> None:
        self._event: Recorded | None = event

    def wait(self) -> None:
        event = self._event
        if event is not None:
            event.wait()
            self._event = None

    def note(self) -> None:
        """Somebody has waited for later work of the same stream."""
        self._event = None


class PendingMeans:
    """A thumbnail or a preview that the GPU writes directly into pinned host memory."""

    def __init__(self, pixels: ByteArray, done: _Done) -> None:
        """Made by `CudaImaging` only."""
        self._pixels = pixels
        self._done = done

    def result(self) -> ByteArray:
        """Waits; shape `(height, width)`, uint8, valid until 256 more of its size were made."""
        self._done.wait()
        return self._pixels


class _PinnedRing:
    """Pictures of one size in pinned host memory, which the GPU writes to; used in turn."""

    def __init__(self, stream: CudaStream, size_wh: tuple[int, int]) -> None:
        width, height = size_wh
        with stream:
            memory = stream.cupy.cuda.alloc_pinned_memory(_PLACES * height * width)
        flat = np.frombuffer(memory, np.uint8, _PLACES * height * width)
        pictures = flat.reshape(_PLACES, height, width)
        self._pictures: list[tuple[ByteArray, int]] = [
            (picture, picture.ctypes.data) for picture in pictures
        ]
        self._next = 0

    def take(self) -> tuple[ByteArray, int]:
        """The picture that was handed out longest ago, and its address."""
        place, self._next = self._next, (self._next + 1) % _PLACES
        return self._pictures[place]


class CudaImaging:
    """Implements `stream.seams.Imaging` for CuPy pictures of one video stream.

    Every kernel is queued on the stream given at construction. One thread at a time, whose fibers
    may take turns while one waits for the GPU.
    """

    def __init__(self, stream: CudaStream) -> None:
        """Loads the kernels; CuPy compiles them once per GPU type and keeps them on disk.

        Args:
            stream: The stream on which the pictures are made and read.

        Raises:
            PlatformError: CuPy is missing.
        """
        self._stream = stream
        cupy = stream.cupy
        with stream:
            module = cupy.RawModule(
                code=Path(__file__).with_name("kernels.cu").read_text(),
                options=("--std=c++17",),
            )
            self._kernels = {name: module.get_function(name) for name in _KERNELS}
        self._rings: dict[tuple[int, int], _PinnedRing] = {}
        self._early: dict[tuple[str, int], tuple[Any, PendingMeans]] = {}
        self._under_way: list[_Done] = []
        self._canvases = Pictures(stream, (0, 0))
        self._floats: FloatArray = np.empty(0, np.float32)

    def synchronize(self) -> None:
        """Waits for everything queued on the stream so far."""
        # Another fiber of the thread may queue more while this one waits.
        under_way, self._under_way = self._under_way, []
        self._stream.finish()
        for done in under_way:
            done.note()

    def warm_up(self) -> None:
        """Runs every kernel once, so that no frame waits for a compiler or a module load."""
        cupy = self._stream.cupy
        with self._stream:
            buffer = cupy.zeros((96, 128), np.uint8)
            picture = Nv12Image(buffer[:64], buffer[64:].reshape(32, 64, 2))
            out = cupy.empty((1, 64, 64, 3), np.uint8)
            chip = cupy.empty((FACE_CHIP_PX, FACE_CHIP_PX, 3), np.uint8)
        self.letterbox([picture], [Letterbox.fit((128, 64), (64, 64))], out)
        self.face_chip(picture, np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32), chip)
        canvas = TileLayout((64, 32))
        crops = Crop(0.0, 0.0, 32.0, 32.0), Crop(0.0, 0.0, 64.0, 32.0)  # with a backdrop
        views = [View(crop, canvas.area(side)) for crop, side in zip(crops, Side, strict=True)]
        self.compose([picture], [views], canvas)
        self.thumbnail(picture)
        self.preview(picture)
        self.sharpness(picture, np.array([[0.0, 0.0, 128.0, 64.0]], np.float32))
        self.finish()

    def finish(self) -> None:
        """Waits for everything queued so far. Call it before a request goes to Triton."""
        self.synchronize()

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: Any
    ) -> None:
        """Scales, pads with 0 and converts to RGB, in one kernel for up to 16 pictures.

        It also computes the pictures' thumbnails and previews, while the frames are still in the
        cache, so that neither has to wait for later work of the stream.

        Args:
            images: Device pictures.
            fits: Placement made for each picture and this target.
            out_rgb: Device target, shape `(n, height, width, 3)` uint8, even sizes, rows of pixels
                without gaps; written in full.
        """
        for first in range(0, len(images), BATCH):
            part = slice(first, first + BATCH)
            pictures = pictures_of(images[part])
            self._letterbox(images[part], pictures, fits[part], out_rgb[part])
            self._remember("thumbnail", images[part], self._thumbnails_of(pictures))
            self._remember("preview", images[part], self._previews_of(pictures))

    def _letterbox(
        self,
        images: Sequence[Nv12Image],
        pictures: npt.NDArray[np.void],
        fits: Sequence[Letterbox],
        out_rgb: Any,
    ) -> None:
        count, height, width = out_rgb.shape[:3]
        args = np.zeros((), LETTERBOX_BATCH)
        items = args["items"][: len(images)]
        items["source"] = pictures
        items["out"] = out_rgb.data.ptr + out_rgb.strides[0] * np.arange(count, dtype=np.uint64)
        items["out_pitch"] = row_pitch_of(out_rgb)
        items["out_wh"] = width, height
        items["content_xywh"] = [(f.x_px, f.y_px, f.width_px, f.height_px) for f in fits]
        items["rgb"] = [rgb_matrix(image.color) for image in images]
        self._launch("letterbox", (*_grid(width // 2, height // 2), count), _BLOCK, args)

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: Any) -> None:
        """Warps one face onto the ReID model's chip, in one kernel.

        Args:
            image: Device picture.
            landmarks_px: Host array, shape `(5, 2)`, source pixels, as `Faces.landmarks_px`.
            out_rgb: Device target, shape `(112, 112, 3)` uint8; written in full.
        """
        luma = similarity_matrix(landmarks_px, np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32))
        chroma = chip_chroma(luma)
        size = out_rgb.shape[0]
        args = np.zeros((), CHIP)
        args["source"] = picture_of(image)
        args["out"], args["out_pitch"] = out_rgb.data.ptr, row_pitch_of(out_rgb)
        args["size"] = size
        args["luma"], args["chroma"] = warp_of(luma), warp_of(chroma)
        args["rgb"] = rgb_matrix(image.color)
        self._launch("face_chip", _grid(size, size), _BLOCK, args)

    def thumbnail(self, image: Nv12Image) -> ByteArray:
        """The picture averaged to `(36, 64, 3)` uint8, on the host; waits for the GPU."""
        return self.thumbnails([image])[0]

    def thumbnails(self, images: Sequence[Nv12Image]) -> list[ByteArray]:
        """The pictures averaged to `(36, 64, 3)` uint8, on the host; waits for the GPU."""
        early = [self._take_early("thumbnail", image) for image in images]
        late = [image for image, found in zip(images, early, strict=True) if found is None]
        parts = [late[first : first + BATCH] for first in range(0, len(late), BATCH)]
        started = chain.from_iterable(self._thumbnails_of(pictures_of(part)) for part in parts)
        pending = [found or next(started) for found in early]
        # In one copy, as each of NumPy's gives the interpreter lock away.
        pixels = b"".join(each.result().data for each in pending)
        width, height = THUMBNAIL_WH_PX
        return list(np.frombuffer(pixels, np.uint8).reshape(len(images), height, width, 3))

    def thumbnail_async(self, image: Nv12Image) -> PendingMeans:
        """Starts a thumbnail: 6912 bytes, into pinned host memory without a copy."""
        return self._thumbnails_of(pictures_of([image]))[0]

    def preview(self, image: Nv12Image) -> ByteArray:
        """Luma averaged to `geometry.preview_wh`, uint8, on the host; waits for the GPU.

        Valid until 256 more were made.
        """
        early = self._take_early("preview", image)
        return (early or self.preview_async(image)).result()

    def preview_async(self, image: Nv12Image) -> PendingMeans:
        """Starts a preview, at most 320 x 320 bytes, in the same way."""
        return self._previews_of(pictures_of([image]))[0]

    def _thumbnails_of(self, pictures: npt.NDArray[np.void]) -> list[PendingMeans]:
        width, height = THUMBNAIL_WH_PX
        grid, bytes_wh = (width, _THUMBNAIL_ROWS), (3 * width, height)
        rows = thumbnail_rows_of(pictures)
        block = (_THUMBNAIL_THREADS,)
        return self._means_of(rows, "thumbnail", bytes_wh, THUMBNAIL_WH_PX, grid, block)

    def _previews_of(self, pictures: npt.NDArray[np.void]) -> list[PendingMeans]:
        found: list[PendingMeans] = []
        sizes = zip(pictures["width"].tolist(), pictures["height"].tolist(), strict=True)
        for wh, group in groupby(map(preview_wh, sizes)):
            first = len(found)
            part = pictures[first : first + len(list(group))]
            found += self._means_of(part, "preview", wh, wh, _grid(*wh), _BLOCK)
        return found

    def _means_of(
        self,
        pictures: npt.NDArray[np.void],
        kernel: str,
        size_wh: tuple[int, int],
        cells_wh: tuple[int, int],
        grid: tuple[int, int],
        block: tuple[int, ...],
    ) -> list[PendingMeans]:
        """Starts means of one size, in bytes and in cells."""
        if size_wh not in self._rings:
            self._rings[size_wh] = _PinnedRing(self._stream, size_wh)
        places = [self._rings[size_wh].take() for _ in pictures]
        args = np.zeros((), MEANS_BATCH)
        items = args["items"][: len(pictures)]
        items["source"] = pictures
        items["out"] = [address for _, address in places]
        items["wh"] = cells_wh
        self._launch(kernel, (*grid, len(pictures)), block, args)
        done = _Done(self._stream.record())
        self._under_way = [*self._under_way[-_PLACES:], done]
        return [PendingMeans(pixels, done) for pixels, _ in places]

    def compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], canvas: TileLayout
    ) -> list[Nv12Image]:
        """Draws the views of each canvas, in one launch for up to 16 canvases.

        One more launch makes what is behind the crops that do not fill their areas.

        Args:
            images: Device pictures.
            views: What each canvas shows of its picture, one to three.
            canvas: Size, and the colour of what no view covers.

        Returns:
            New device pictures of the canvas's size with their source's colour description. The
            planes of each follow one another in one allocation, as NVENC needs them.
        """
        canvases: list[Nv12Image] = []
        for first in range(0, len(images), BATCH):
            part = slice(first, first + BATCH)
            canvases += self._compose(images[part], views[part], canvas)
        return canvases

    def _compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], layout: TileLayout
    ) -> list[Nv12Image]:
        canvases, addresses = zip(
            *(self._canvas(layout.canvas_wh_px, image.color) for image in images), strict=True
        )
        args = np.zeros((), COMPOSE_BATCH)
        args["wh"] = layout.canvas_wh_px
        items = args["items"][: len(images)]
        items["source"] = pictures_of(images)
        items["y"] = addresses
        items["uv"] = items["y"] + np.uint64(prod(layout.canvas_wh_px))
        items["background"] = [ycbcr_of(layout.gap_color, image.color) for image in images]
        items["views"] = [len(each) for each in views]
        flat = [(view, image) for image, each in zip(images, views, strict=True) for view in each]
        rows = views_of([view for view, _ in flat], [image.size_wh_px for _, image in flat])
        cells = self._add_backdrops(rows, flat)  # held until `compose` is queued
        first = 0
        for structs, each in zip(args["views"], views, strict=False):
            structs[: len(each)] = rows[first : first + len(each)]
            first += len(each)
        across, down = _grid(*layout.canvas_wh_px, _DRAWN_SAMPLES)
        self._launch("compose", (across, down + ceil(down / 2), len(images)), _DRAWN_BLOCK, args)
        del cells
        return list(canvases)

    def _add_backdrops(
        self, rows: npt.NDArray[np.void], views: Sequence[tuple[View, Nv12Image]]
    ) -> Any:
        """Makes the cells of every backdrop there is; the views' structs then name them.

        Args:
            rows: Structs of the views.
            views: Each with its picture.

        Returns:
            What holds the cells, None if there are none.
        """
        wanted = [
            (index, views[index][1], backdrop)
            for index in np.flatnonzero((rows["area"] != rows["content"]).any(axis=1)).tolist()
            if (backdrop := backdrop_of(*views[index]))
        ]
        if not wanted:
            return None
        with self._stream:
            cells = self._stream.cupy.empty((len(wanted), MOST_CELLS**2, 3), np.float32)
        args = np.zeros((), BACKDROP_BATCH)
        items = args["items"]
        for n, (index, image, backdrop) in enumerate(wanted):
            address = cells[n].data.ptr
            items[n] = cells_of(backdrop, image, address)
            rows["cells"][index], rows["cells_wh"][index] = address, backdrop.cells_wh
        most = max(prod(backdrop.cells_wh) for _, _, backdrop in wanted)
        self._launch("backdrops", (most, 1, len(wanted)), (_CELL_THREADS,), args)
        return cells

    def _canvas(self, size_wh_px: tuple[int, int], color: ColorSpec) -> tuple[Nv12Image, int]:
        """A canvas with any content, and its address."""
        if self._canvases.size_wh_px != size_wh_px:
            self._canvases = Pictures(self._stream, size_wh_px)
        return self._canvases.make(color)

    def free_canvases(self) -> None:
        """Returns the memory of canvases that nobody has any more."""
        self._canvases = Pictures(self._stream, self._canvases.size_wh_px)

    def sharpness(self, image: Nv12Image, boxes_xyxy_px: FloatArray) -> FloatArray:
        """How sharp faces are, see `imaging.sharpness`; waits for the GPU.

        Args:
            image: Device picture.
            boxes_xyxy_px: Shape `(n, 4)`, source pixels.

        Returns:
            Shape `(n,)`.
        """
        wh = image.size_wh_px
        blocks = [blocks_of(wh, box) for box in boxes_xyxy_px]
        measured = [each for each in blocks if each]
        found: list[FloatArray] = []
        for first in range(0, len(measured), BATCH):
            found += self._block_means(image, measured[first : first + BATCH])
        means = iter(found)
        return np.array([detail(next(means)) if each else 0.0 for each in blocks], np.float32)

    def _block_means(self, image: Nv12Image, blocks: Sequence[Blocks]) -> list[FloatArray]:
        """Means of each one's blocks, which the GPU writes into pinned host memory."""
        ends = np.cumsum([each.rows * each.columns for each in blocks])
        starts = np.array((0, *ends[:-1]))
        values = self._take_floats(int(ends[-1]))
        args = np.zeros((), BLOCKS_BATCH)
        items = args["items"][: len(blocks)]
        items["source"] = pictures_of([image])
        items["out"] = values.ctypes.data + values.itemsize * starts
        items["corner"] = [(each.left_px, each.top_px) for each in blocks]
        items["step"] = [each.step_px for each in blocks]
        items["wh"] = [(each.columns, each.rows) for each in blocks]
        most = max(each.columns for each in blocks), max(each.rows for each in blocks)
        self._launch("block_means", (*_grid(*most), len(blocks)), _BLOCK, args)
        self._stream.finish()
        parts = zip(blocks, np.split(values[: ends[-1]].copy(), starts[1:]), strict=True)
        self._floats = values
        return [part.reshape(each.rows, each.columns) for each, part in parts]

    def _take_floats(self, count: int) -> FloatArray:
        """At least so many values in pinned host memory, usually the same ones each time."""
        found, self._floats = self._floats, np.empty(0, np.float32)  # nobody else's meanwhile
        if len(found) >= count:
            return found
        size = max(count, _USUAL_FLOATS)
        with self._stream:
            memory = self._stream.cupy.cuda.alloc_pinned_memory(4 * size)
        return np.frombuffer(memory, np.float32, size)

    def copy_tile(self, canvas: Nv12Image, area: Rect) -> Nv12Image:
        """A copy of a part of a canvas."""
        with self._stream:
            return copy_tile(canvas, area)

    def put_tile(self, canvas: Nv12Image, area: Rect, tile: Nv12Image) -> None:
        """Replaces a part of a canvas."""
        with self._stream:
            put_tile(canvas, area, tile)

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        """The picture in device memory."""
        cupy = self._stream.cupy
        with self._stream:
            return Nv12Image(cupy.asarray(tile.y), cupy.asarray(tile.uv), tile.color)

    def _launch(
        self,
        name: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: np.ndarray[Any, np.dtype[np.void]],
    ) -> None:
        # CuPy asks NumPy for a description of the struct's fields, which nobody reads.
        plain = args.reshape(1).view(np.dtype((np.void, args.nbytes)))
        with self._stream:
            self._kernels[name](grid, block, (plain,))

    def _remember(
        self, kernel: str, images: Sequence[Nv12Image], pending: Sequence[PendingMeans]
    ) -> None:
        for image, means in zip(images, pending, strict=True):
            if len(self._early) >= 2 * _PLACES:  # one of each kernel
                self._early.pop(next(iter(self._early)))
            self._early[kernel, image.y.data.ptr] = (weakref.ref(image), means)

    def _take_early(self, kernel: str, image: Nv12Image) -> PendingMeans | None:
        found = self._early.pop((kernel, image.y.data.ptr), None)
        # The same memory may hold another frame by now.
        return found[1] if found is not None and found[0]() is image else None


def _grid(width: int, height: int, block: tuple[int, int] = _BLOCK) -> tuple[int, int]:
    return ceil(width / block[0]), ceil(height / block[1])
