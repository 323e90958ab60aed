"""What the stream loop itself costs a frame: everything but decoding, pixels and networks.

    python -m benchmarks.loop_cost CLIP [--streams 1 4] [--repeat 6] [--profile]

The clip's faces, thumbnails and previews are made once; then loops run on them in one process,
as the streams of a worker do, with a detector that answers at once. What is left is Python and
NumPy, most of it under the interpreter lock, so that its CPU time per frame bounds what one process
reaches with any GPU.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.tracking.cache import Models, Sight
from dualface_client.decisions.pool import Deciders
from dualface_client.fibers import Fibers
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.observe.stage_clock import StageClock
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.loop import StreamLoop, StreamParts
from dualface_client.stream.turns import Turns
from dualface_client.types import (
    ByteArray,
    Embeddings,
    Faces,
    FloatArray,
    Frame,
    Letterbox,
    Nv12Image,
    Rect,
    TileLayout,
    VideoInfo,
    View,
)
from dualface_client.video.null_sink import NullSink
from dualface_client.video.source import PyavSource


@dataclass(frozen=True, slots=True)
class Seen:
    """What a GPU would hand to the loop for one frame."""

    sight: Sight
    preview: ByteArray


class Replay:
    """One stream's source, imaging, detector and embedder: answers that are there already."""

    decode_errors = 0
    is_short_to_read = True
    incomplete = ""
    warnings: tuple[str, ...] = ()
    model_version = "replay/1"
    resends = 0

    def __init__(self, info: VideoInfo, seen: Sequence[Seen], repeat: int) -> None:
        self.info = info
        self._seen, self._count = seen, len(seen) * repeat
        height, width = info.height_px, info.width_px
        uv = np.broadcast_to(np.uint8(128), (height // 2, width // 2, 2))
        lines = np.broadcast_to(np.uint8(0), (height, width))
        # A picture's identity says which frame it is of; its pixels are never looked at.
        self._images = [Nv12Image(lines[:], uv) for _ in seen]
        self._of = {id(image): each for image, each in zip(self._images, seen, strict=True)}

    def __iter__(self) -> Iterator[Frame]:
        """The clip again and again, as one that goes on."""
        step = 1 / (self.info.frame_rate or Fraction(25))
        for index in range(self._count):
            yield Frame(index, index, step, self._images[index % len(self._seen)])

    def close(self) -> None:
        """Nothing is open."""

    def submit(self, images: Sequence[Nv12Image], imaging: object) -> _Answer:
        """Faces that were found before."""
        return _Answer([self._of[id(image)].sight.faces for image in images])

    def embed(self, image: Nv12Image, landmarks_px: FloatArray, imaging: object) -> Embeddings:
        """Embeddings of the faces with these landmarks."""
        sight = self._of[id(image)].sight
        rows = [
            int(np.argmin(np.abs(sight.faces.landmarks_px - points).sum(axis=(1, 2))))
            for points in landmarks_px
        ]
        return Embeddings(sight.embeddings[rows], self.model_version)

    def thumbnail(self, image: Nv12Image) -> ByteArray:
        """Made before; copied, as from pinned memory."""
        return self._of[id(image)].sight.thumbnail.copy()

    def thumbnails(self, images: Sequence[Nv12Image]) -> list[ByteArray]:
        """`thumbnail` of each."""
        return [self.thumbnail(image) for image in images]

    def preview(self, image: Nv12Image) -> ByteArray:
        """Made before; copied, as from pinned memory."""
        return self._of[id(image)].preview.copy()

    def compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], canvas: TileLayout
    ) -> list[Nv12Image]:
        """Draws nothing."""
        return list(images)

    def sharpness(self, image: Nv12Image, boxes_xyxy_px: FloatArray) -> FloatArray:
        """That of sharp faces."""
        return np.ones(len(boxes_xyxy_px), np.float32)

    def copy_tile(self, canvas: Nv12Image, area: Rect) -> Nv12Image:
        """The same."""
        return canvas

    def put_tile(self, canvas: Nv12Image, area: Rect, tile: Nv12Image) -> None:
        """Draws nothing."""

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        """The same."""
        return tile

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: Any
    ) -> None:
        """Draws nothing."""

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: Any) -> None:
        """Draws nothing."""

    def synchronize(self) -> None:
        """Nothing is under way."""


@dataclass(frozen=True, slots=True)
class _Answer:
    faces: list[Faces]
    resends: int = 0

    def result(self) -> list[Faces]:
        return self.faces


def watched(clip: Path, frames: int) -> tuple[VideoInfo, list[Seen]]:
    """What is seen in a clip's first frames."""
    models, imaging = Models(2), CpuImaging()
    source = PyavSource(clip)
    try:
        found = []
        for frame in source:
            found.append(Seen(models.sight(frame), imaging.preview(frame.image)))
            if len(found) == frames:
                break
        return source.info, found
    finally:
        source.close()


def loop_over(
    replay: Replay, clock: StageClock, deciders: Deciders, turns: Turns | None = None
) -> Callable[[], None]:
    """A stream as a worker on a GPU runs it."""
    settings = StreamSettings()
    detection = replace(settings.detection, every=1, frames_per_request=16, requests_in_flight=1)
    parts = StreamParts(
        replay, NullSink(), replay, replay, replay, deciders=deciders.open, turns=turns
    )
    status = StreamStatus(StreamReport("replay", "clip", ""))
    settings = replace(settings, detection=detection)
    return StreamLoop(parts, settings, status, threading.Event(), clock).run


def measured(
    info: VideoInfo,
    seen: Sequence[Seen],
    streams: int,
    repeat: int,
    deciders: Deciders,
    fibers: Fibers | None,
) -> dict[str, Any]:
    """Loops of one process, side by side."""
    clocks = [StageClock() for _ in range(streams)]
    turns = None if fibers is None else Turns()

    def run(clock: StageClock) -> None:
        loop = loop_over(Replay(info, seen, repeat), clock, deciders, turns)
        if fibers is None:
            loop()
        else:
            fibers.run(loop, "replay")

    threads = [threading.Thread(target=run, args=(clock,)) for clock in clocks]
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    frames = streams * repeat * len(seen)
    stages = clocks[0].totals()
    return {
        "streams": streams,
        "deciders": deciders.count,
        "fibers": fibers is not None,
        "frames_per_s": round(frames / wall_s, 1),
        "cpu_ms_per_frame": round(1e3 * cpu_s / frames, 3),
        "stages_cpu_ms_per_frame": {
            name: round(1e3 * time_.cpu_s / (repeat * len(seen)), 3)
            for name, time_ in stages.items()
        },
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--deciders", type=int, nargs="+", default=[0], help="processes")
    parser.add_argument("--frames", type=int, default=300, help="of the clip")
    parser.add_argument("--repeat", type=int, default=6, help="times the clip is played")
    parser.add_argument("--profile", action="store_true", help="says where one stream's time goes")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sys.setswitchinterval(0.0005)
    info, seen = watched(options.clip, options.frames)
    if options.profile:
        with cProfile.Profile() as profile:
            loop_over(Replay(info, seen, options.repeat), StageClock(), Deciders(0))()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    ways = product(options.streams, options.deciders, (False, True))
    for streams, count, with_fibers in ways:
        fibers = Fibers() if with_fibers else None
        with Deciders(count) as deciders:
            found = measured(info, seen, streams, options.repeat, deciders, fibers)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
