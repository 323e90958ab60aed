"""Whole tiles of a canvas: kept, put back, replaced by a placeholder. For any device's arrays."""

from __future__ import annotations

import numpy as np

from dualface_client.types import ByteArray, Nv12Image, Side, TileLayout

#: Luma of the placeholder's background and figure; chroma is neutral. Dark, within limited range.
_BACKGROUND, _FIGURE, _NEUTRAL = 32, 62, 128


def copy_tile(canvas: Nv12Image, side: Side, layout: TileLayout) -> Nv12Image:
    """A copy of one tile, on the canvas's device.

    Args:
        canvas: A composed picture.
        side: Which tile.
        layout: Sizes.
    """
    left, right = _columns(side, layout)
    luma = canvas.y[:, left:right].copy()
    return Nv12Image(luma, canvas.uv[:, left // 2 : right // 2].copy(), canvas.color)


def put_tile(canvas: Nv12Image, side: Side, layout: TileLayout, tile: Nv12Image) -> None:
    """Replaces one tile.

    Args:
        canvas: A composed picture; changed.
        side: Which tile.
        layout: Sizes.
        tile: On the canvas's device, of a tile's size.
    """
    left, right = _columns(side, layout)
    canvas.y[:, left:right] = tile.y
    canvas.uv[:, left // 2 : right // 2] = tile.uv


def placeholder(layout: TileLayout) -> Nv12Image:
    """A dark tile with the outline of a person, on the host."""
    width, height = layout.tile_wh_px
    luma: ByteArray = np.full((height, width), _BACKGROUND, np.uint8)
    x = (np.arange(width, dtype=np.float32)[None] - width / 2) / height
    y = np.arange(height, dtype=np.float32)[:, None] / height
    head = (x / 0.115) ** 2 + ((y - 0.40) / 0.145) ** 2 < 1
    body = (x / 0.30) ** 2 + ((y - 0.92) / 0.32) ** 2 < 1
    luma[head | body] = _FIGURE
    return Nv12Image(luma, np.full((height // 2, width // 2, 2), _NEUTRAL, np.uint8))


def _columns(side: Side, layout: TileLayout) -> tuple[int, int]:
    left = layout.tile_x_px(side)
    return left, left + layout.tile_wh_px[0]
