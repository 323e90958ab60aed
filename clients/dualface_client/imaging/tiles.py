"""Parts of a canvas: kept, put back, replaced by a placeholder. For any device's arrays."""

from __future__ import annotations

import numpy as np

from dualface_client.types import ByteArray, Nv12Image, Rect

#: Luma of the placeholder's background and figure; chroma is neutral. Dark, within limited range.
_BACKGROUND, _FIGURE, _NEUTRAL = 32, 62, 128


def part_of(canvas: Nv12Image, area: Rect) -> Nv12Image:
    """A part of a picture, which it shares."""
    rows = slice(area.y_px, area.y_px + area.height_px)
    columns = slice(area.x_px, area.x_px + area.width_px)
    half_rows = slice(rows.start // 2, rows.stop // 2)
    half_columns = slice(columns.start // 2, columns.stop // 2)
    return Nv12Image(canvas.y[rows, columns], canvas.uv[half_rows, half_columns], canvas.color)


def copy_tile(canvas: Nv12Image, area: Rect) -> Nv12Image:
    """A copy of a part of a picture, on the picture's device."""
    part = part_of(canvas, area)
    return Nv12Image(part.y.copy(), part.uv.copy(), part.color)


def put_tile(canvas: Nv12Image, area: Rect, tile: Nv12Image) -> None:
    """Replaces a part of a picture.

    Args:
        canvas: Changed.
        area: Which part.
        tile: On the canvas's device, of the area's size.
    """
    part = part_of(canvas, area)
    part.y[...] = tile.y
    part.uv[...] = tile.uv


def placeholder(width_px: int, height_px: int) -> Nv12Image:
    """A dark tile with the outline of a person, on the host; the sizes are even."""
    luma: ByteArray = np.full((height_px, width_px), _BACKGROUND, np.uint8)
    x = (np.arange(width_px, dtype=np.float32)[None] - width_px / 2) / height_px
    y = np.arange(height_px, dtype=np.float32)[:, None] / height_px
    head = (x / 0.115) ** 2 + ((y - 0.40) / 0.145) ** 2 < 1
    body = (x / 0.30) ** 2 + ((y - 0.92) / 0.32) ** 2 < 1
    luma[head | body] = _FIGURE
    neutral = np.full((height_px // 2, width_px // 2, 2), _NEUTRAL, np.uint8)
    return Nv12Image(luma, neutral)
