"""What a slot costs each request: lease and release, and the proof that the answer was written.

    python benchmarks/slot_cost.py --out benchmarks/results/slot_cost.json

Microseconds, the best of several rounds, so that other work on the machine does not count.
`unchecked` is the copy of the answer alone, as it was before the check.
"""

from __future__ import annotations

import argparse
import json
import os
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dualface_client.memory.region import SystemRegion
from dualface_client.memory.slots import SizeClass, SlotPool, bytes_needed
from dualface_client.triton.answers import AnswerPlace
from dualface_client.triton.description import FACE_DETECT, FACE_REID

CALLS, ROUNDS = 2000, 15


def best_us(call: Callable[[], object]) -> float:
    """Microseconds of one call."""
    return round(min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6, 3)


def answer(region: SystemRegion, shape: tuple[int, ...]) -> dict[str, float]:
    """Costs of one answer of a shape."""
    place = AnswerPlace(region.name, 0, region.view(0, shape, np.dtype(np.float32)))
    poison = best_us(place.poison)
    place.array[:] = 1.0
    checked, unchecked = best_us(lambda: place.take("x")), best_us(lambda: np.array(place.array))
    return {
        "poison": poison,
        "take": checked,
        "unchecked": unchecked,
        "added_in_all": round(poison + checked - unchecked, 3),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sizes = {"slot": SizeClass(1 << 16, 4)}
    rows: dict[str, object] = {"cpus": os.cpu_count(), "unit": "microseconds"}
    with SystemRegion(bytes_needed(sizes) + (1 << 20)) as region:
        pool = SlotPool(region, sizes, debug=False)
        rows["lease_and_release"] = best_us(lambda: pool.lease("slot", 1.0).release())
        debug = SlotPool(region, sizes, debug=True)
        rows["the_same_with_places"] = best_us(lambda: debug.lease("slot", 1.0).release())
        for spec, batch in ((FACE_DETECT, 1), (FACE_DETECT, 8), (FACE_REID, 4)):
            rows[f"{spec.name} batch {batch}"] = answer(region, (batch, *spec.output.dims))
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
