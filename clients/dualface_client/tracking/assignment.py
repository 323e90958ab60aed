"""One-to-one assignment with the largest total gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lap import lapjv


def best_pairs(gains: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs of row and column that maximise the summed gain, each used once, rows ascending.

    Up to 2x2 is solved by comparing both ways; everything larger goes to `lap.lapjv` (Jonker and
    Volgenant). On a tie each row keeps its own column.

    Args:
        gains: Rows of equal length, any size.
    """
    rows, columns = len(gains), len(gains[0]) if gains else 0
    if rows == 0 or columns == 0:
        return []
    if rows == 1:
        return [(0, max(range(columns), key=lambda column: gains[0][column]))]
    if columns == 1:
        return [(max(range(rows), key=lambda row: gains[row][0]), 0)]
    if rows == 2 and columns == 2:
        straight = gains[0][0] + gains[1][1] >= gains[0][1] + gains[1][0]
        return [(0, 0), (1, 1)] if straight else [(0, 1), (1, 0)]
    _, column_of, _ = lapjv(-np.asarray(gains, np.float64), extend_cost=True)
    found = [(row, column) for row, column in enumerate(column_of.tolist()) if column >= 0]
    own = [(row, row) for row in range(min(rows, columns))]
    return own if _total(gains, own) >= _total(gains, found) else found


def _total(gains: Sequence[Sequence[float]], pairs: Sequence[tuple[int, int]]) -> float:
    return sum(gains[row][column] for row, column in pairs)
