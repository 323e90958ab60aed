"""The order of two people by their places in the picture."""

from __future__ import annotations


def lead_px(dx_px: float, dy_px: float, above_ratio: float) -> float:
    """How far one person comes before another who is at an offset from them, in pixels.

    The left one comes first; where the two are clearly above each other, the upper one.

    Args:
        dx_px: The other's horizontal offset, to the right.
        dy_px: The other's vertical offset, downwards.
        above_ratio: How many times the horizontal offset the vertical one must be.

    Returns:
        Positive where the other comes second, negative where the other comes first.
    """
    return dy_px if abs(dy_px) > above_ratio * abs(dx_px) else dx_px
