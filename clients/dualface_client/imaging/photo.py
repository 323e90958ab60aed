"""A still photo as a picture of the data path, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dualface_client.atomic_file import write_atomically
from dualface_client.errors import SinkError, UsageError
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.types import Box, ByteArray, ColorMatrix, ColorSpec, Letterbox, Nv12Image

_LEAST_PX = 2
#: Width and height of a portrait, and how many face heights of the picture it shows.
_PORTRAIT_PX = 512
_PORTRAIT_HEIGHTS = 2.2
_TIGHT_HEIGHTS = 1.2


def read_photo(path: Path) -> Nv12Image:
    """Reads what OpenCV reads (JPEG, PNG, WebP, ...), turned upright as its EXIF says.

    Args:
        path: The file.

    Returns:
        A host picture, BT.601 limited range (what OpenCV's conversion makes); an odd last row or
        column is left out.

    Raises:
        UsageError: It is not a photo.
    """
    try:
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as a photo ({error.strerror})") from error
    except cv2.error:  # its words are about its own source; a size beyond its limit is one reason
        found = None
    if found is None or min(found.shape[:2]) < _LEAST_PX:
        raise UsageError(
            f"{path}: cannot be read as a photo; expected a JPEG or PNG file of {_LEAST_PX} pixels "
            "a side or more and of 1,000 megapixels at most"
        )
    return image_of(np.asarray(found, np.uint8))


def image_of(bgr: ByteArray) -> Nv12Image:
    """A BGR picture, shape `(height, width, 3)` uint8, as `read_photo` returns it."""
    height, width = (size & ~1 for size in bgr.shape[:2])
    planar = cv2.cvtColor(bgr[:height, :width], cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma, quarter = height * width, height * width // 4
    chroma = planar[luma:].reshape(2, quarter).T.reshape(height // 2, width // 2, 2)
    return Nv12Image(
        np.asarray(planar[:luma].reshape(height, width), np.uint8),
        np.ascontiguousarray(chroma, np.uint8),
        ColorSpec(ColorMatrix.BT601, full_range=False),
    )


def write_portrait(path: Path, image: Nv12Image, face: Box, others: Sequence[Box] = ()) -> None:
    """Writes a square picture of one face, as JPEG.

    Args:
        path: The file; replaced if it exists.
        image: A host picture.
        face: The face's box, pixels.
        others: Boxes of other faces, which stay outside as far as that is possible.

    Raises:
        SinkError: It cannot be written.
    """
    rgb = np.zeros((1, _PORTRAIT_PX, _PORTRAIT_PX, 3), np.uint8)
    part = _around(image, face, others)
    fit = Letterbox.fit((part.width_px, part.height_px), (_PORTRAIT_PX, _PORTRAIT_PX))
    CpuImaging().letterbox([part], [fit], rgb)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[0, :, :, ::-1]))
    try:
        write_atomically(path, data.tobytes())
    except OSError as error:
        raise SinkError(f"{path}: cannot write the picture: {error.strerror}") from error


def _around(image: Nv12Image, face: Box, others: Sequence[Box]) -> Nv12Image:
    """The square part of a picture around a face, cut off at the picture's edges."""
    x_px, y_px, height_px = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2, face[3] - face[1]
    reach_px = _PORTRAIT_HEIGHTS / 2 * height_px
    for x1, y1, x2, y2 in others:
        gap_px = max(x1 - x_px, x_px - x2, y1 - y_px, y_px - y2)
        reach_px = min(reach_px, max(gap_px, _TIGHT_HEIGHTS / 2 * height_px))
    left, top = (max(int(v - reach_px), 0) & ~1 for v in (x_px, y_px))
    right = min(int(x_px + reach_px) & ~1, image.width_px)
    bottom = min(int(y_px + reach_px) & ~1, image.height_px)
    right, bottom = max(right, left + _LEAST_PX), max(bottom, top + _LEAST_PX)
    return Nv12Image(
        np.ascontiguousarray(image.y[top:bottom, left:right]),
        np.ascontiguousarray(image.uv[top // 2 : bottom // 2, left // 2 : right // 2]),
        image.color,
    )
