"""Small JPEG pictures for people who look at a stream while it runs."""

from __future__ import annotations

import cv2
import numpy as np

from dualface_client.imaging.cpu import CpuImaging
from dualface_client.types import Letterbox, Nv12Image

_QUALITY = 70


def small_jpeg(image: Nv12Image, longest_px: int) -> bytes:
    """A picture scaled down.

    Args:
        image: On the host.
        longest_px: Its longer side then, at most that of the picture.
    """
    whole = image.size_wh_px
    scale = min(1.0, longest_px / max(whole))
    width, height = (max(2, round(side * scale / 2) * 2) for side in whole)
    rgb = np.empty((1, height, width, 3), np.uint8)
    CpuImaging().letterbox([image], [Letterbox.fit(whole, (width, height))], rgb)
    done, data = cv2.imencode(".jpg", rgb[0, ..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError(f"a picture of {width}x{height} cannot be written as JPEG")
    return data.tobytes()
