"""A still photo as a picture of the data path."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dualface_client.errors import UsageError
from dualface_client.types import ColorMatrix, ColorSpec, Nv12Image

_LEAST_PX = 2


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
    except (OSError, cv2.error) as error:
        raise UsageError(f"{path}: cannot be read as a photo ({error})") from error
    if found is None or min(found.shape[:2]) < _LEAST_PX:
        raise UsageError(f"{path}: cannot be read as a photo; expected a JPEG or PNG file")
    height, width = (size & ~1 for size in found.shape[:2])
    planar = cv2.cvtColor(found[:height, :width], cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma, quarter = height * width, height * width // 4
    chroma = planar[luma:].reshape(2, quarter).T.reshape(height // 2, width // 2, 2)
    return Nv12Image(
        np.asarray(planar[:luma].reshape(height, width), np.uint8),
        np.ascontiguousarray(chroma, np.uint8),
        ColorSpec(ColorMatrix.BT601, full_range=False),
    )
