"""What one process decodes and draws, by who does it: threads of their own, or one in turn.

    python benchmarks/gpu/turns.py CLIP --out turns.json --streams 8 16

Every frame gets what the client does to it without inference: letterbox, thumbnail and preview, one
wait before a request would go out, and the canvas of two tiles; 16 frames at a time. Each row is a
process of its own.

`each`: a thread for each stream does all of it. `in turn`: one thread takes a frame of each stream
in turn and does all of it. `apart`: one thread decodes in turn, another one does the rest.
`shared`: the same on one CUDA stream, with frames of several streams in a launch.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from decode import repeated  # type: ignore[import-not-found] # the script beside this one

from dualface_client.cuda.stream import CudaStream
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.types import Crop, Frame, Letterbox, Side, TileLayout, View
from dualface_client.video.nvdec import NvdecSource

BATCH = 16
CROPS = Crop(300.3, 200.2, 480.0, 540.0), Crop(1000.7, 200.9, 720.0, 810.0)
_FIT, _LAYOUT = Letterbox.fit((1920, 1080), (640, 640)), TileLayout()
_VIEWS = [View(crop, _LAYOUT.area(side)) for crop, side in zip(CROPS, Side, strict=True)]


class Pixels:
    """The pixel work of one CUDA stream."""

    def __init__(self) -> None:
        self.stream = CudaStream()
        self._imaging = CudaImaging(self.stream)
        self._imaging.warm_up()
        with self.stream:
            self._slot = self.stream.cupy.empty((BATCH, 640, 640, 3), "u1")

    def do(self, frames: Sequence[Frame]) -> None:
        """Everything for up to a batch of frames."""
        images = [frame.image for frame in frames]
        self._imaging.letterbox(images, [_FIT] * len(images), self._slot[: len(images)])
        self._imaging.finish()
        self._imaging.thumbnails(images)
        for image in images:
            self._imaging.preview(image)
        self._imaging.compose(images, [_VIEWS] * len(images), _LAYOUT)


def endless(clip: Path, pixels: Pixels) -> Iterator[Frame]:
    """Frames of the clip again and again; the first one is there when this returns."""

    def frames() -> Iterator[Frame]:
        while True:
            yield from NvdecSource(clip, pixels.stream)

    found = frames()
    next(found)
    return found


Counted = Callable[[int], bool]
"""Takes how many frames are done; says whether to go on."""


def each(streams: list[Iterator[Frame]], pixels: list[Pixels], counted: Counted) -> None:
    """A thread for each stream."""

    def loop(frames: Iterator[Frame], own: Pixels) -> None:
        goes_on = True
        while goes_on:
            batch = [next(frames) for _ in range(BATCH)]
            own.do(batch)
            goes_on = counted(BATCH)

    threads = [
        threading.Thread(target=loop, args=pair) for pair in zip(streams, pixels, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_turn(streams: list[Iterator[Frame]], pixels: list[Pixels], counted: Counted) -> None:
    """One thread for everything."""
    batches = _batches_of_turns(streams, pixels)
    for own, batch in batches:
        own.do(batch)
        if not counted(BATCH):
            return


def apart(streams: list[Iterator[Frame]], pixels: list[Pixels], counted: Counted) -> None:
    """One thread decodes, and this one does the rest."""
    waiting: queue.Queue[tuple[Pixels, list[Frame]]] = queue.Queue(8)
    over = threading.Event()

    def decode() -> None:
        for found in _batches_of_turns(streams, pixels):
            waiting.put(found)
            if over.is_set():
                return

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    goes_on = True
    while goes_on:
        own, batch = waiting.get()
        own.do(batch)
        goes_on = counted(BATCH)
    over.set()


def _batches_of_turns(
    streams: list[Iterator[Frame]], pixels: list[Pixels]
) -> Iterator[tuple[Pixels, list[Frame]]]:
    batches: dict[int, list[Frame]] = {id(own): [] for own in pixels}
    while True:
        for frames, own in zip(streams, pixels, strict=True):
            batch = batches[id(own)]
            batch.append(next(frames))
            if len(batch) == BATCH:
                yield own, batch
                batches[id(own)] = []


WAYS = {"each": each, "in turn": in_turn, "apart": apart}


def one(clip: Path, name: str, count: int, seconds: float) -> None:
    """One row, printed as JSON."""
    way = name.removesuffix(" shared")
    pixels = [Pixels()] * count if name.endswith("shared") else [Pixels() for _ in range(count)]
    streams = [endless(clip, own) for own in pixels]
    done = [0]
    began_s, cpu_s = time.perf_counter(), time.process_time()

    def counted(frames: int) -> bool:
        done[0] += frames
        return time.perf_counter() - began_s < seconds

    WAYS[way](streams, pixels, counted)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    row = {"way": name, "streams": count, "frames_per_s": round(done[0] / took_s)}
    print(json.dumps({**row, "cpu_ms_per_frame": round(used_s / done[0] * 1e3, 3)}), flush=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--one-way", help="for the processes it starts")
    options = parser.parse_args()
    if options.one_way:
        one(options.clip, options.one_way, options.streams[0], options.seconds)
        return
    clip = repeated(options.clip, 10)
    rows = []
    for count in options.streams:
        for name in ("each", "in turn", "in turn shared", "apart", "apart shared"):
            command = [sys.executable, __file__, str(clip), "--one-way", name]
            command += ["--streams", str(count), "--seconds", str(options.seconds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
            print(json.dumps(rows[-1]))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
