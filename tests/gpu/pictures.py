"""Pictures for the GPU tests, and the way between host and device."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from dualface_client.cuda.stream import CudaStream
from dualface_client.types import ByteArray, ColorSpec, Nv12Image


def natural_plane(shape: tuple[int, int], seed: int) -> ByteArray:
    """Detail at every scale, falling with frequency as in photographs, with edges and grain."""
    rng = np.random.default_rng(seed)
    height, width = shape
    total = np.zeros(shape, np.float32)
    for cell in (2, 4, 8, 16, 64, 256):
        small = rng.normal(0, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
        big = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
        total += big * 3.0 * cell**0.5
    for _ in range(40):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        total[y : y + height // 8, x : x + width // 8] += rng.normal(0, 30)
    total += rng.normal(0, 1.5, shape)
    return np.clip(total + 120, 0, 255).astype(np.uint8)


def natural_picture(width: int, height: int, color: ColorSpec | None = None) -> Nv12Image:
    uv = np.stack([natural_plane((height // 2, width // 2), seed) for seed in (2, 3)], axis=-1)
    return Nv12Image(natural_plane((height, width), 1), uv, color or ColorSpec())


def upload(image: Nv12Image, stream: CudaStream) -> Nv12Image:
    with stream:
        put = stream.cupy.asarray
        return Nv12Image(put(image.y), put(image.uv), image.color)


def download(array: Any, stream: CudaStream) -> ByteArray:
    with stream:
        return np.asarray(array.get())


def psnr_db(a: ByteArray, b: ByteArray) -> float:
    error = float(((a.astype(np.float64) - b) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
