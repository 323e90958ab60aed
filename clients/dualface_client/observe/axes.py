"""Where times and values lie in the report's plots; `report.html.jinja` draws them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

#: Told apart in grey and by colour-blind readers too: after Okabe and Ito (2008).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5f6b7a")


def color_of(index: int) -> str:
    """The index-th colour, from the beginning again after the last."""
    return COLORS[index % len(COLORS)]


def nice_ticks(highest: float, count: int = 4) -> list[float]:
    """Round numbers from 0 to the first one at or above `highest`.

    >>> nice_ticks(87)
    [0.0, 25.0, 50.0, 75.0, 100.0]
    """
    if not highest > 0 or not math.isfinite(highest):
        return [0.0, 1.0]
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
    return [round(step * i, 12) for i in range(math.ceil(highest / step - 1e-9) + 1)]


class Axes:
    """Time to the right and values upward, both from 0.

    Args:
        end_s: Right end of the time axis, seconds.
        highest: The value axis ends at the first round number at or above it.
    """

    LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 66, 550, 14, 196

    def __init__(self, end_s: float, highest: float = 1.0) -> None:
        self.end_s = max(end_s, 1e-3)
        self._values = nice_ticks(highest)

    def x(self, time_s: float) -> float:
        """Pixels from the left."""
        return self.LEFT_PX + time_s / self.end_s * (self.RIGHT_PX - self.LEFT_PX)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return self.BOTTOM_PX - value / self._values[-1] * (self.BOTTOM_PX - self.TOP_PX)

    def value_ticks(self) -> Iterator[tuple[float, str]]:
        """Where (y) and text of each number beside the value axis."""
        return ((self.y(value), _number(value)) for value in self._values)

    def time_ticks(self) -> Iterator[tuple[float, str]]:
        """Where (x) and text of each number below the time axis."""
        shown = (tick for tick in nice_ticks(self.end_s, 6) if tick <= self.end_s * 1.001)
        return ((self.x(tick), _number(tick)) for tick in shown)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """Times and values as the points of a polyline."""
        return " ".join(f"{self.x(time_s):.1f},{self.y(value):.1f}" for time_s, value in points)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"
