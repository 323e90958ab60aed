"""The pattern that tells a written answer from one that was never written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from dualface_client.errors import StaleOutputError
from dualface_client.memory.region import SHM_DIR, SystemRegion
from dualface_client.memory.slots import SizeClass, SlotPool, bytes_needed
from dualface_client.triton.answers import AnswerPlace, AnswersApart

F32 = np.dtype(np.float32)


def place_of(dtype: str, values: int = 6) -> AnswerPlace:
    return AnswerPlace("dualface-x", 0, np.zeros((2, values // 2), dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_what_was_not_written_is_seen(dtype: str) -> None:
    place = place_of(dtype)
    place.poison()
    with pytest.raises(StaleOutputError, match="did not write 6 of 6 values"):
        place.take("model at server")
    place.array[0] = 1.0
    with pytest.raises(StaleOutputError, match=r"3 of 6 values .* dualface-x.*cuda-memory-pool"):
        place.take("model at server")
    place.array[1] = 0.0
    assert place.take("model at server").tolist() == [[1.0] * 3, [0.0] * 3]


def test_numbers_that_arithmetic_makes_are_no_pattern() -> None:
    place = place_of("float32")
    with np.errstate(all="ignore"):
        zero = np.zeros(1, np.float32)
        odd = [zero / zero, -(zero / zero), 1 / zero, -1 / zero, zero - 1 / zero, -zero]
    place.poison()
    place.array[:] = np.concatenate(odd).reshape(2, 3)
    place.take("x")
    nvidia_nan = np.array([0x7FFFFFFF] * 6, np.uint32).view(np.float32)
    place.array[:] = nvidia_nan.reshape(2, 3)
    place.take("x")


def test_integers_may_be_anything() -> None:
    place = place_of("int32")
    place.poison()
    assert (place.take("x") == -1).all()


def test_an_answer_is_a_copy() -> None:
    place = place_of("float32")
    place.array[:] = 3.0
    rows = place.take("x")
    place.poison()
    assert (rows == 3.0).all()


@pytest.fixture
def pool() -> Iterator[SlotPool]:
    sizes = {"a": SizeClass(100, 3), "b": SizeClass(9000, 2)}
    with SystemRegion(bytes_needed(sizes)) as region:
        yield SlotPool(region, sizes)


def test_every_slot_has_a_place_of_its_own(pool: SlotPool) -> None:
    counts = {"a": 3, "b": 2}
    sizes = {name: pool.size_of(name) for name in counts}
    answers = AnswersApart(sizes, {"a": 100, "b": 640})
    parts = []
    for name, output_bytes in (("a", 100), ("b", 640)):
        for _ in range(counts[name]):
            lease = pool.lease(name, 0.0)
            place = answers.place(lease, lease.hold(), 0, (output_bytes // 4,), F32)
            assert place.offset % 64 == 0
            parts.append((place.offset, place.offset + output_bytes))
    parts.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(parts))
    assert parts[-1][1] <= answers.region.byte_size
    answers.region.close()
    assert not (SHM_DIR / answers.region.name).exists()
