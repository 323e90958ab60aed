"""One process of `compare.py`'s ways without a server: some streams from file to canvas.

    python benchmarks/gpu/compare_worker.py CLIP --detector onnx --decoder nvdec --streams 4

It loads a detector of its own, prints `ready`, waits for a line, and then decodes, detects and
composes every frame of all streams. Its last line is what it did, as JSON. One thread reads frames
(of all streams in turn where the GPU decodes, otherwise one thread for each stream), and one does
the rest in batches of frames of several streams, the next of which is queued while one is awaited.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import compare_torch  # type: ignore[import-not-found] # the module beside this one
import numpy as np
from in_process import config_of, embedded_model  # type: ignore[import-not-found] # the same

from dualface_client.settings.paths import models_dir
from dualface_client.triton.description import FACE_DETECT
from dualface_client.types import Crop, Letterbox, Rect, Side, TileLayout, View
from dualface_client.video.source import PyavSource

BATCH = 16
#: Latencies that a stream keeps, as many as a report of the client.
KEPT = 1024
#: Of a face's place between two frames, as in `compare_cpu_script.py`.
SMOOTHING = 0.9
_SIZE = FACE_DETECT.input.dims[0]

Table = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(slots=True)
class Taken:
    """A frame under way: of which stream, its picture, and when it was taken from its reader.

    That is also from when on the client counts latency, for files.
    """

    stream: int
    picture: Any
    taken_s: float = 0.0


class Detector(Protocol):
    """Runs batches in turn."""

    def queue(self, slot: Any, count: int) -> Callable[[], Table]:
        """Queues a batch; the function that comes back waits for its rows."""


class Pixels(Protocol):
    """Everything that is done to pixels, and where they come from."""

    def make_current(self) -> None:
        """Prepares the calling thread."""

    def frames(self, clip: Path) -> Iterator[Any]:
        """Pictures of a file, where the pixel work is done."""

    def letterbox(self, pictures: Sequence[Any]) -> Any:
        """A detector's input of some pictures, written when this returns."""

    def compose(self, pictures: Sequence[Any], crops: Sequence[Sequence[Crop]]) -> None:
        """Draws a canvas of two tiles for each picture and throws it away; drawn on return."""

    def wh_px(self, picture: Any) -> tuple[int, int]:
        """Width and height of a picture."""


class ClientPixels:
    """The client's own decoding and kernels."""

    def __init__(self, decoder: str, device: str) -> None:
        self._decoder, self._turn = decoder, 0
        self._layout = TileLayout()
        self.make_current: Callable[[], None] = lambda: None
        shape = (BATCH, *FACE_DETECT.input.dims)
        self._cuda: Any = None
        self._imaging: Any
        if device == "cuda":
            from dualface_client.cuda.stream import CudaStream
            from dualface_client.imaging.cuda import CudaImaging

            self._cuda = CudaStream()
            self.make_current = self._cuda.make_current
            self._imaging = CudaImaging(self._cuda)
            self._imaging.warm_up()
            with self._cuda:
                self._slots = [self._cuda.cupy.zeros(shape, np.uint8) for _ in range(2)]
            self._cuda.finish()
        else:
            from dualface_client.imaging.cpu import CpuImaging

            self._imaging = CpuImaging()
            self._slots = [np.zeros(shape, np.uint8) for _ in range(2)]

    def frames(self, clip: Path) -> Iterator[Any]:
        """As `Pixels` says."""
        is_uploaded = self._decoder == "pyav" and self._cuda
        source = self._opened(clip)
        try:
            for frame in source:
                yield self._imaging.upload_tile(frame.image) if is_uploaded else frame.image
        finally:
            source.close()

    def _opened(self, clip: Path) -> PyavSource:
        if self._decoder == "pyav":
            return PyavSource(clip, threads=1)
        from dualface_client.video.nvdec import NvdecSource

        return NvdecSource(clip, self._cuda)

    def letterbox(self, pictures: Sequence[Any]) -> Any:
        """As `Pixels` says."""
        self._turn = (self._turn + 1) % len(self._slots)
        slot = self._slots[self._turn]
        fits = [Letterbox.fit(self.wh_px(picture), (_SIZE, _SIZE)) for picture in pictures]
        filled = slot[: len(pictures)]
        if self._cuda:  # without the thumbnails and previews that only tracking and framing need
            from dualface_client.imaging.cuda_structs import pictures_of

            self._imaging._letterbox(pictures, pictures_of(pictures), fits, filled)
        else:
            self._imaging.letterbox(pictures, fits, filled)
        self._imaging.synchronize()
        return slot

    def compose(self, pictures: Sequence[Any], crops: Sequence[Sequence[Crop]]) -> None:
        """As `Pixels` says."""
        areas = [self._layout.area(side) for side in Side]
        views = [[View(*pair) for pair in zip(each, areas, strict=True)] for each in crops]
        self._imaging.compose(pictures, views, self._layout)
        self._imaging.synchronize()

    def wh_px(self, picture: Any) -> tuple[int, int]:
        """As `Pixels` says."""
        height, width = picture.y.shape
        return width, height


class TorchPixels:
    """torchcodec's decoder on the GPU, and PyTorch for the rest."""

    def make_current(self) -> None:
        """PyTorch sees to that."""

    def frames(self, clip: Path) -> Iterator[Any]:
        """As `Pixels` says."""
        yield from compare_torch.torchcodec_frames(clip)

    def letterbox(self, pictures: Sequence[Any]) -> Any:
        """As `Pixels` says; padded with black squares to a whole batch."""
        import torch

        filled = compare_torch.letterboxed(pictures, _SIZE)
        missing = (0, 0, 0, 0, 0, 0, 0, BATCH - len(pictures))
        slot = torch.nn.functional.pad(filled, missing).contiguous()
        torch.cuda.current_stream().synchronize()
        return slot

    def compose(self, pictures: Sequence[Any], crops: Sequence[Sequence[Crop]]) -> None:
        """As `Pixels` says."""
        import torch

        area = TileLayout().area(Side.LEFT)
        for picture, each in zip(pictures, crops, strict=True):
            boxes = [(crop.x_px, crop.y_px, crop.width_px, crop.height_px) for crop in each]
            compare_torch.composed(picture, boxes, (area.width_px, area.height_px))
        torch.cuda.current_stream().synchronize()

    def wh_px(self, picture: Any) -> tuple[int, int]:
        """As `Pixels` says."""
        height, width = picture.shape[-2:]
        return width, height


class OnnxCuda:
    """The session of this project's server, in this process: the options that it found best."""

    def __init__(self) -> None:
        parameters = {
            "onnx_path": str(models_dir() / "face_detect_fp16.onnx"),
            "batches": str(BATCH),
            "intra_op_threads": "1",
        }
        self._runner = embedded_model()._CudaRunner(config_of(FACE_DETECT, BATCH), parameters)

    def queue(self, slot: Any, count: int) -> Callable[[], Table]:
        """As `Detector` says; the input is copied on the session's own stream."""
        runner = self._runner
        runner._cuda.copy(runner._pixels, slot.data.ptr, count * FACE_DETECT.input.byte_size)
        wait: Callable[[], Table] = runner.queue(count)
        return wait


class OnnxCpu:
    """The same on the host, to try the script without a GPU."""

    def __init__(self, model: Path) -> None:
        parameters = {"onnx_path": str(model), "intra_op_threads": "1"}
        self._runner = embedded_model()._CpuRunner(config_of(FACE_DETECT, BATCH), parameters)

    def queue(self, slot: Any, count: int) -> Callable[[], Table]:
        """As `Detector` says."""
        rows: Table = self._runner._infer(slot[:count])
        return lambda: rows


class Cameras:
    """Crops that follow the two largest faces of a stream, left and right."""

    def __init__(self) -> None:
        self._places: list[np.ndarray[Any, Any] | None] = [None, None]

    def crops(self, table: Table, wh_px: tuple[int, int], area: Rect) -> list[Crop]:
        """One for each tile.

        Args:
            table: Rows of one picture, in the detector's input.
            wh_px: Of the picture.
            area: Of a tile.
        """
        boxes = table[table[:, 4] >= 0.5][:, :4].reshape(-1, 2, 2)
        corners = Letterbox.fit(wh_px, (_SIZE, _SIZE)).to_source(boxes)
        largest = sorted(corners, key=lambda box: box[0, 1] - box[1, 1])[:2]
        found = [np.array([*box.mean(0), box[1, 1] - box[0, 1]]) for box in largest]
        for number, place in enumerate(sorted(found, key=lambda each: float(each[0]))):
            old = self._places[number]
            self._places[number] = (
                place if old is None else SMOOTHING * old + (1 - SMOOTHING) * place
            )
        middle = np.array([wh_px[0] / 2, wh_px[1] / 2, wh_px[1] / 3])
        return [
            _crop(middle if place is None else place, wh_px, area.width_px / area.height_px)
            for place in self._places
        ]


def _crop(place: np.ndarray[Any, Any], wh_px: tuple[int, int], aspect: float) -> Crop:
    """One in which the face takes a third of the height, inside of the picture."""
    x, y, size = (float(value) for value in place)
    height = max(16.0, min(3 * size, wh_px[1], wh_px[0] / aspect))
    width = height * aspect
    left = min(max(x - width / 2, 0.0), wh_px[0] - width)
    top = min(max(y - 0.4 * height, 0.0), wh_px[1] - height)
    return Crop(left, top, width, height)


class Worker:
    """The streams of one process.

    Args:
        pixels: Where pictures come from and what is done to them.
        detector: Finds faces.
        streams: How many.
        progress: Frames composed so far, by stream; shared with whoever measures.
    """

    def __init__(self, pixels: Pixels, detector: Detector, streams: int, progress: Any) -> None:
        self._pixels, self._detector, self._progress = pixels, detector, progress
        self._frames: queue.Queue[Taken | None] = queue.Queue(BATCH)
        self._cameras = [Cameras() for _ in range(streams)]
        self._area = TileLayout().area(Side.LEFT)
        self._latencies_s: list[list[float]] = [[] for _ in range(streams)]
        self._ends_s = 0.0
        self._errors: list[str] = []

    def work(self, clip: Path, readers: Sequence[Sequence[int]], seconds: float) -> dict[str, Any]:
        """Works until the files end or the time is over.

        Args:
            clip: What each stream reads.
            readers: Streams of each reading thread.
            seconds: After so long nothing more is read; 0 for no limit.
        """
        began_s = time.perf_counter()
        self._ends_s = began_s + seconds if seconds else float("inf")
        for streams in readers:
            threading.Thread(target=self._read, args=(clip, streams), daemon=True).start()
        pending: tuple[list[Taken], Callable[[], Table]] | None = None
        for batch in self._batches(len(readers)):
            slot = self._pixels.letterbox([each.picture for each in batch])
            queued = batch, self._detector.queue(slot, len(batch))
            if pending:
                self._compose(*pending)
            pending = queued
        if pending:
            self._compose(*pending)
        return {
            "elapsed_s": time.perf_counter() - began_s,
            "frames": [int(count) for count in self._progress],
            "latency_p50_ms": self._quantiles_ms(50),
            "latency_p99_ms": self._quantiles_ms(99),
            "errors": self._errors,
        }

    def _read(self, clip: Path, streams: Sequence[int]) -> None:
        try:
            self._pixels.make_current()
            sources = {stream: self._pixels.frames(clip) for stream in streams}
            while sources:
                for stream, source in list(sources.items()):
                    picture = next(source, None)
                    if picture is None or time.perf_counter() > self._ends_s:
                        del sources[stream]
                    else:
                        self._frames.put(Taken(stream, picture))
        except Exception as error:  # whatever a decoder raises is a result
            self._errors.append(f"{type(error).__name__}: {error}")
        finally:
            self._frames.put(None)

    def _batches(self, readers: int) -> Iterator[list[Taken]]:
        batch: list[Taken] = []
        while readers:
            taken = self._frames.get()
            if taken is None:
                readers -= 1
                continue
            taken.taken_s = time.perf_counter()
            batch.append(taken)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _compose(self, batch: list[Taken], wait: Callable[[], Table]) -> None:
        pictures = [each.picture for each in batch]
        crops = [
            self._cameras[each.stream].crops(rows, self._pixels.wh_px(each.picture), self._area)
            for each, rows in zip(batch, wait(), strict=True)
        ]
        self._pixels.compose(pictures, crops)
        now_s = time.perf_counter()
        for each in batch:
            self._latencies_s[each.stream].append(now_s - each.taken_s)
            self._progress[each.stream] += 1

    def _quantiles_ms(self, percent: float) -> list[float]:
        kept = [each[-KEPT:] for each in self._latencies_s if each]
        return [round(float(np.percentile(each, percent)) * 1e3, 2) for each in kept]


def made(options: argparse.Namespace) -> tuple[Pixels, Detector, str]:
    """Pixels and detector, and which decoder they use."""
    device = "cpu" if options.detector == "onnx-cpu" else "cuda"
    if options.detector == "torch":
        reason = compare_torch.why_no_torchcodec(options.clip)
        detector = compare_torch.TorchDetector(models_dir() / "face_detect_fp16.onnx", BATCH)
        name = f"; {detector.how}"
        if not reason:
            return TorchPixels(), detector, "torchcodec" + name
        return ClientPixels("nvdec", device), detector, f"NvdecSource ({reason}){name}"
    name = {"nvdec": "NvdecSource", "pyav": "PyavSource"}[options.decoder]
    # The detector comes first: it loads the CUDA libraries that its session was made for.
    found: Detector
    if device == "cpu":
        found = OnnxCpu(options.model or models_dir() / "face_detect.onnx")
    else:
        found = OnnxCuda()
    return ClientPixels(options.decoder, device), found, name


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--detector", choices=["onnx", "torch", "onnx-cpu"], default="onnx")
    parser.add_argument("--decoder", choices=["nvdec", "pyav"], default="nvdec")
    parser.add_argument("--model", type=Path, help="another one than the exported, on a CPU")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="0 reads to the files' ends")
    parser.add_argument("--progress", type=Path, help="file for the count of frames by stream")
    options = parser.parse_args()
    pixels, detector, decoder = made(options)
    warm = detector.queue(pixels.letterbox([next(pixels.frames(options.clip))]), 1)
    warm()
    count = options.streams
    progress: Any = np.zeros(count, np.int64)
    if options.progress:
        progress = np.memmap(options.progress, np.int64, "w+", shape=(count,))
    worker = Worker(pixels, detector, count, progress)
    # Where the GPU decodes, one thread that takes a frame of each in turn is fastest (turns.py).
    in_turn = options.decoder == "nvdec"
    readers = [list(range(count))] if in_turn else [[stream] for stream in range(count)]
    print("ready", flush=True)
    if not sys.stdin.readline():  # who started this process has gone
        return
    found = worker.work(options.clip, readers, options.seconds)
    print(json.dumps({"decoder": decoder, **found}), flush=True)


if __name__ == "__main__":
    main()
