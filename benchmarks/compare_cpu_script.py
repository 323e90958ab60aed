"""What a person would write in an afternoon: OpenCV reads and writes, ONNX Runtime finds faces.

    python benchmarks/compare_cpu_script.py INPUT OUTPUT

Two crops follow the two largest faces, left and right. There is no sound, variable frame rates come
out constant, and when two people cross, so do their tiles.
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import numpy as np
import onnxruntime

from dualface_client.settings.paths import models_dir

SIDE = 640
TILE_WH = 960, 1080
SMOOTHING = 0.9


def letterboxed(bgr: Any) -> tuple[Any, float, int, int]:
    """The picture in the middle of a black square, and how it got there."""
    height, width = bgr.shape[:2]
    scale = SIDE / max(width, height)
    small = cv2.resize(bgr, (round(width * scale), round(height * scale)))
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small[..., ::-1]
    return square, scale, left, top


def centres(session: Any, bgr: Any) -> list[tuple[float, float, float]]:
    """Centre and height of the two largest faces, from left to right."""
    square, scale, left, top = letterboxed(bgr)
    name = session.get_inputs()[0].name
    table = session.run(None, {name: square[None]})[0][0]
    faces = table[table[:, 4] >= 0.5][:, :4]
    faces = (faces - [left, top, left, top]) / scale
    faces = sorted(faces, key=lambda box: box[1] - box[3])[:2]
    return sorted(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[3] - box[1]) for box in faces)


def tile(bgr: Any, x: float, y: float, size: float) -> Any:
    """A crop in which the face takes a third of the height."""
    height = min(3 * size, bgr.shape[0], bgr.shape[1] * TILE_WH[1] / TILE_WH[0])
    width = height * TILE_WH[0] / TILE_WH[1]
    left = int(np.clip(x - width / 2, 0, bgr.shape[1] - width))
    top = int(np.clip(y - 0.4 * height, 0, bgr.shape[0] - height))
    return cv2.resize(bgr[top : top + int(height), left : left + int(width)], TILE_WH)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("input")
    parser.add_argument("output")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(
        str(models_dir() / "face_detect.onnx"), providers=["CPUExecutionProvider"]
    )
    source = cv2.VideoCapture(options.input)
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    size = 2 * TILE_WH[0], TILE_WH[1]
    sink = cv2.VideoWriter(options.output, fourcc, source.get(cv2.CAP_PROP_FPS), size)
    cameras: list[Any] = [None, None]
    while True:
        ok, bgr = source.read()
        if not ok:
            break
        for number, found in enumerate(centres(session, bgr)):
            old = found if cameras[number] is None else cameras[number]
            cameras[number] = SMOOTHING * np.array(old) + (1 - SMOOTHING) * np.array(found)
        middle = np.array([bgr.shape[1] / 2, bgr.shape[0] / 2, bgr.shape[0] / 3])
        tiles = [tile(bgr, *(middle if camera is None else camera)) for camera in cameras]
        sink.write(np.hstack(tiles))
    sink.release()


if __name__ == "__main__":
    main()
