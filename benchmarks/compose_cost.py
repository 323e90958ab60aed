"""What drawing a canvas on a CPU costs, and how sharp an enlarged picture is.

    python benchmarks/compose_cost.py

The cost is the calling thread's CPU time for one 1080p canvas, the least and the median of 40,
while both cameras move. For sharpness, frames of the fetched clips are halved, enlarged again by a
view that begins on a pixel and by one that begins between two, and compared with the original.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import islice

import cv2
import numpy as np

from dualface_client.imaging.cpu import CpuImaging
from dualface_client.settings import paths
from dualface_client.types import ByteArray, Crop, Nv12Image, Side, TileLayout, View
from dualface_client.video.source import PyavSource

RUNS, CLIPS, EVERY, FRAMES = 40, 3, 40, 11
HD, UHD = (1920, 1080), (3840, 2160)
CASES = {
    "both enlarged 2.5x": (HD, (384.0, 432.0)),
    "both enlarged 2x": (HD, (480.0, 540.0)),
    "both enlarged 1.3x": (HD, (738.0, 830.0)),
    "both as they are": (HD, (942.0, 1059.75)),
    "both shrunk, of a UHD source": (UHD, (1728.0, 1944.0)),
    "both fitted, panels of 240x135": (HD, (240.0, 135.0)),
    "both fitted, panels of 900x500": (HD, (900.0, 500.0)),
}


def picture(width: int, height: int) -> Nv12Image:
    """Noise that is as soft as a photograph."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    luma = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5))
    return Nv12Image(luma, np.ascontiguousarray(np.dstack([luma[::2, ::2]] * 2)))


def costs_ms(image: Nv12Image, crop_wh_px: tuple[float, float]) -> list[float]:
    """Sorted CPU times of single canvases."""
    layout, imaging = TileLayout(), CpuImaging()
    left, right = layout.area(Side.LEFT), layout.area(Side.RIGHT)
    times = []
    for run in range(RUNS):
        drift = 0.013 * run
        views = [
            View(Crop(300.3 + drift, 20.2, *crop_wh_px), left),
            View(Crop(700.3 - drift, 0.1 + drift, *crop_wh_px), right),
        ]
        began = time.thread_time()
        imaging.compose([image], [views], layout)
        times.append((time.thread_time() - began) * 1e3)
    return sorted(times)


def luma_of_clips() -> Iterator[ByteArray]:
    """A few frames of the fetched clips, their sizes multiples of four."""
    for path in islice(sorted(paths.clips_dir().glob("*.mp4")), CLIPS):
        for frame in islice(PyavSource(path), 0, EVERY * FRAMES, EVERY):
            height, width = (size // 4 * 4 for size in frame.image.y.shape)
            yield np.ascontiguousarray(frame.image.y[:height, :width])


def psnr_db(luma: ByteArray, offset_px: float) -> float:
    """Of a halved and enlarged picture.

    Args:
        luma: The original.
        offset_px: Where the view begins, in pixels of the half, a multiple of 0.5.
    """
    height, width = luma.shape
    half = np.asarray(cv2.resize(luma, (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    image = Nv12Image(half, np.full((height // 4, width // 4, 2), 128, np.uint8))
    crop_w, crop_h = width // 2 - 16, height // 2 - 16
    layout = TileLayout((2 * crop_w, 2 * crop_h), "solo")
    view = View(Crop(4 + offset_px, 4 + offset_px, crop_w, crop_h), layout.whole)
    (canvas,) = CpuImaging().compose([image], [[view]], layout)
    first = 8 + round(2 * offset_px)
    wanted = luma[first : first + 2 * crop_h, first : first + 2 * crop_w].astype(np.float64)
    inner = slice(16, -16), slice(16, -16)
    return float(10 * np.log10(255**2 / ((wanted - canvas.y)[inner] ** 2).mean()))


def main() -> None:
    """Prints both tables."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    cv2.setNumThreads(1)
    pictures = {size: picture(*size) for size in (HD, UHD)}
    for name, (size, crop_wh_px) in CASES.items():
        times = costs_ms(pictures[size], crop_wh_px)
        print(f"{name:32} {times[0]:6.2f} ms, median {statistics.median(times):6.2f}")
    frames = list(luma_of_clips())
    for offset_px in (0.0, 0.5):
        mean_db = statistics.mean(psnr_db(luma, offset_px) for luma in frames)
        print(f"halved and enlarged, {offset_px} px off: {mean_db:.2f} dB, {len(frames)} frames")


if __name__ == "__main__":
    main()
