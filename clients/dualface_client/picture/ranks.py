"""Middle values and shares of a few samples. NumPy's own take ten times as long for so few."""

from __future__ import annotations

import numpy as np

from dualface_client.types import FloatArray


def median(values: FloatArray) -> float:
    """The middle value of at least one, in one dimension; of two, the larger."""
    return float(np.sort(values)[len(values) // 2])


def quantile(values: FloatArray, share: float) -> float:
    """The value that a share of the others, from 0 to below 1, is not above."""
    rank = int(share * values.size)
    return float(np.partition(values, rank, axis=None)[rank])


def spread(places: FloatArray, outliers: float) -> FloatArray:
    """How far places reach in each direction, without some at either end.

    Args:
        places: Shape `(n, 2)`, at least two of them.
        outliers: Share that is left out at each end, from 0 to below 0.5.

    Returns:
        Shape `(2,)`; where an end is between two places, it is interpolated.
    """
    ordered = np.sort(places, axis=0)
    rank = outliers * (len(ordered) - 1)
    row = int(rank)
    inner, outer = rank - row, 1 - (rank - row)
    low = ordered[row] * outer + ordered[row + 1] * inner
    high = ordered[-1 - row] * outer + ordered[-2 - row] * inner
    return np.asarray(high - low, np.float32)
