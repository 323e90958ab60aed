"""Time of each kernel, by CUDA events, and of its launch from Python.

python benchmarks/gpu/kernels.py --out results/kernels.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dualface_client.cuda.stream import CudaStream
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.types import (
    FACE_CHIP_PX,
    FACE_CHIP_TEMPLATE_PX,
    Crop,
    Letterbox,
    Nv12Image,
    Side,
    TileLayout,
    View,
)

PICTURES = 40  # 124 MB of frames: more than the L2 cache holds


def gpu_us(work: Callable[[int], None], stream: CudaStream, runs: int = 200) -> dict[str, float]:
    """Median and 10th/90th percentile of one call on the GPU, queue kept full, microseconds."""
    cuda = stream.cupy.cuda
    times = []
    for index in range(runs):
        # A few calls between the events: one alone is shorter than the gap between two launches.
        begin, end = cuda.Event(), cuda.Event()
        begin.record(stream.stream)
        for inner in range(8):
            work(index * 8 + inner)
        end.record(stream.stream)
        end.synchronize()
        times.append(cuda.get_elapsed_time(begin, end) * 1000 / 8)
    times.sort()
    return {
        "median": round(statistics.median(times), 2),
        "p10": round(times[runs // 10], 2),
        "p90": round(times[-runs // 10], 2),
    }


def launch_us(work: Callable[[int], None], stream: CudaStream, runs: int = 300) -> float:
    """Mean time of the calling thread for one call, microseconds."""
    stream.finish()
    begin = time.thread_time()
    for index in range(runs):
        work(index)
    spent = time.thread_time() - begin
    stream.finish()
    return round(spent / runs * 1e6, 1)


def captured_us(work: Callable[[int], None], stream: CudaStream) -> float:
    """Time of one call in a CUDA graph of one call per picture: no launch gaps, microseconds."""
    cuda = stream.cupy.cuda
    with stream:
        stream.stream.begin_capture()
        for index in range(PICTURES):
            work(index)
        graph = stream.stream.end_capture()
        graph.launch()
        begin, end = cuda.Event(), cuda.Event()
        begin.record(stream.stream)
        for _ in range(10):
            graph.launch()
        end.record(stream.stream)
        end.synchronize()
    return round(float(cuda.get_elapsed_time(begin, end)) * 1000 / 10 / PICTURES, 2)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    stream = CudaStream()
    began = time.perf_counter()
    imaging = CudaImaging(stream)
    imaging.warm_up()
    result: dict[str, Any] = {"warm_up_s": round(time.perf_counter() - began, 3)}
    rng = np.random.default_rng(1)
    pictures = []
    with stream:
        for _ in range(PICTURES):
            buffer = stream.cupy.asarray(rng.integers(16, 236, (1620, 1920), np.uint8))
            pictures.append(Nv12Image(buffer[:1080], buffer[1080:].reshape(540, 960, 2)))
        slots = stream.cupy.empty((8, 640, 640, 3), np.uint8)
        chip = stream.cupy.empty((FACE_CHIP_PX, FACE_CHIP_PX, 3), np.uint8)
    slot = slots[:1]

    def eight(n: int) -> list[Nv12Image]:
        return [pictures[(n * 8 + k) % PICTURES] for k in range(8)]

    fit = Letterbox.fit((1920, 1080), (640, 640))
    points = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32) * np.float32(2) + np.float32(300)
    layout = TileLayout()

    def views(*crops: Crop) -> list[View]:
        return [View(crop, layout.area(side)) for crop, side in zip(crops, Side, strict=True)]

    enlarged = views(Crop(300.3, 200.2, 480.0, 540.0), Crop(1000.7, 200.9, 480.0, 540.0))
    shrunk = views(Crop(0.3, 0.2, 959.0, 1078.9), Crop(500.7, 0.9, 1300.0, 1078.9))
    fitted = views(Crop(300.3, 200.2, 480.0, 270.0), Crop(1000.7, 200.9, 480.0, 270.0))
    works: dict[str, Callable[[int], Any]] = {
        "letterbox+thumbnail": lambda n: imaging.letterbox([pictures[n % PICTURES]], [fit], slot),
        "letterbox+thumbnail of 8": lambda n: imaging.letterbox(eight(n), [fit] * 8, slots),
        "thumbnail": lambda n: imaging.thumbnail_async(pictures[n % PICTURES]),
        "preview": lambda n: imaging.preview_async(pictures[n % PICTURES]),
        "face_chip, face of 300 px": lambda n: imaging.face_chip(
            pictures[n % PICTURES], points, chip
        ),
        "compose, both enlarged 2x": lambda n: imaging.compose(
            [pictures[n % PICTURES]], [enlarged], layout
        ),
        "compose, both fitted over a backdrop": lambda n: imaging.compose(
            [pictures[n % PICTURES]], [fitted], layout
        ),
        "compose, one as it is, one shrunk": lambda n: imaging.compose(
            [pictures[n % PICTURES]], [shrunk], layout
        ),
        "compose of 8, both enlarged 2x": lambda n: imaging.compose(
            eight(n), [enlarged] * 8, layout
        ),
    }
    for name, work in works.items():
        result[name] = {
            "gpu_us": gpu_us(work, stream),
            "launch_cpu_us": launch_us(work, stream),
        }
    for name, work in works.items():
        if not name.startswith("compose"):  # the others record events for the host
            continue
        try:
            result[name]["gpu_us_in_graph"] = captured_us(work, stream)
        except Exception as error:
            result[name]["gpu_us_in_graph"] = str(error)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
