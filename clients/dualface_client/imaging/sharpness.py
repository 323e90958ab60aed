"""How sharp a face is, on the host or on a GPU."""

from __future__ import annotations

from dualface_client.types import FloatArray, Nv12Image

#: A face is measured with about this many rows, as many as the recognition network can use.
_ROWS = 80
#: Sensor noise and coding noise of a flat face, as a variance of the averaged grey levels.
_NOISE = 4.0


def face_sharpness(image: Nv12Image, box_xyxy_px: FloatArray) -> float:
    """Fine detail relative to all contrast within a face box.

    Variance of the 4-neighbour Laplacian over the variance of the luma, on the box averaged down to
    about 80 rows, so that neither the size of the face nor the light matters. Only slices and means
    are used, so the same code runs on NumPy and CuPy arrays.

    Args:
        image: The picture.
        box_xyxy_px: Shape `(4,)`, source pixels; may reach beyond the picture.

    Returns:
        0 (flat or outside the picture) to about 1; 0.02 and less is a clearly blurred face.
    """
    left, top, right, bottom = (round(float(value)) for value in box_xyxy_px)
    luma = image.y[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    step = max(1, round((bottom - top) / _ROWS))
    rows, columns = luma.shape[0] // step, luma.shape[1] // step
    if rows < 3 or columns < 3:
        return 0.0
    blocks = luma[: rows * step, : columns * step].reshape(rows, step, columns, step)
    small = blocks.mean(axis=(1, 3), dtype="float32")
    inner = small[1:-1, 1:-1]
    around = small[:-2, 1:-1] + small[2:, 1:-1] + small[1:-1, :-2] + small[1:-1, 2:]
    detail = (around - 4 * inner).var()
    return float(detail / (small.var() + _NOISE))
