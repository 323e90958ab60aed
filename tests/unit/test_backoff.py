from __future__ import annotations

import doctest

import pytest

from dualface_client import backoff as module
from dualface_client.backoff import Backoff


def pauses(backoff: Backoff, failures: int) -> list[float]:
    found = []
    for _ in range(failures):
        backoff.fail()
        found.append(backoff.pause_s)
    return found


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (Backoff(0.5, 3.0), [0.5, 1.0, 2.0, 3.0, 3.0]),
        (Backoff(0.5), [0.5, 1.0, 2.0, 4.0, 8.0]),
        (Backoff(0.25, 8.0, retried_at_once=2), [0.0, 0.0, 0.25, 0.5, 1.0]),
        (Backoff(1.0, 100.0, factor=3.0), [1.0, 3.0, 9.0, 27.0, 81.0]),
        (Backoff(9.0, 4.0), [4.0, 4.0, 4.0, 4.0, 4.0]),
        (Backoff(0.0, 4.0), [0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_pauses_grow_up_to_their_limit(backoff: Backoff, expected: list[float]) -> None:
    assert backoff.pause_s == 0.0
    assert pauses(backoff, 5) == expected
    assert backoff.failures == 5
    backoff.reset()
    assert (backoff.failures, backoff.pause_s) == (0, 0.0)
    assert pauses(backoff, 5) == expected


def test_failures_without_end_are_no_overflow() -> None:
    assert pauses(Backoff(0.5, 30.0), 2000)[-1] == 30.0


def test_the_example_is_true() -> None:
    assert doctest.testmod(module).failed == 0
