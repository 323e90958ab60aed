"""Middle values and shares, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from dualface_client.picture.ranks import median, quantile, spread


def test_the_median_of_an_even_count_is_the_larger_of_the_two_in_the_middle() -> None:
    assert median(np.array([3, 1, 2], np.float32)) == 2
    assert median(np.array([4, 1, 2, 3], np.float32)) == 3
    assert median(np.array([7], np.float32)) == 7


@pytest.mark.parametrize("share", [0.0, 0.2, 0.99])
def test_a_quantile_is_one_of_the_values_with_so_many_below(share: float) -> None:
    values = np.random.default_rng(1).permutation(100).reshape(10, 10).astype(np.float32)
    assert quantile(values, share) == round(100 * share)


@pytest.mark.parametrize("count", [2, 3, 20, 21, 57])
def test_the_spread_is_that_between_numpy_s_quantiles(count: int) -> None:
    places = np.random.default_rng(count).uniform(0, 1, (count, 2)).astype(np.float32)
    low, high = np.quantile(places, (0.05, 0.95), axis=0)
    assert spread(places, 0.05) == pytest.approx(high - low, abs=1e-6)
