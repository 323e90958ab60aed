"""Checks planned CUDA pool sizes against a real server on this machine's GPU.

    python scripts/tune_pool.py --out DIR                  all three trial deployments
    python scripts/tune_pool.py --out DIR --trial chain --seconds 0 --full-load-s 300

Each trial is an ensemble whose tensors live in the pool, with as many requests under way as it was
planned for. The planned size must work; bisection then finds the smallest that does. A size works
when the server's log tells of no fallback and every answer carries its mark. Writes pools.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.memory.vram import MIB
from dualface_client.observe.gpus import read_gpus
from dualface_client.triton.ensembles import read_ensembles
from dualface_client.triton.pool_plan import Deployment, PoolPlan, plan_pools
from scripts.pools.trial import TRIALS, Outcome, Trial, attempt, write_repository

#: Bisection ends when the bounds are so close.
CLOSE = 1.06
#: Planned over needed: what the sizing rule promises.
PROMISED = (1.0, 2.0)


def planned(trial: Trial, repository: Path) -> PoolPlan:
    """The pool plan of a trial."""
    return plan_pools(
        Deployment(
            streams=trial.requests,
            requests_in_flight=1,
            batch=trial.batch,
            backend="python",
            ensembles=read_ensembles(repository),
        )
    )


def bisected(
    trial: Trial, repository: Path, plan_bytes: int, seconds: float
) -> tuple[int, list[Outcome]]:
    """The smallest size that works, in bytes, 0 where none did; and every attempt."""
    attempts: list[Outcome] = []

    def works(size: int) -> bool:
        attempts.append(attempt(trial, repository, size, seconds))
        print(json.dumps(asdict(attempts[-1])), flush=True)
        return attempts[-1].works

    low, high = MIB, plan_bytes
    while not works(high):
        low, high = high, high * 2
        if high > 8 * plan_bytes:
            return 0, attempts
    while high / low > CLOSE and high - low > MIB:
        middle = (low + high) // 2 // MIB * MIB
        low, high = (low, middle) if works(middle) else (middle, high)
    return high, attempts


def measured(trial: Trial, seconds: float, full_load_s: float) -> dict[str, Any]:
    """One trial: planned, needed, and what a longer load at the planned size meets."""
    with tempfile.TemporaryDirectory() as place:
        repository = write_repository(trial, Path(place) / "models", gpu=True)
        plan = planned(trial, repository)
        row: dict[str, Any] = {
            "trial": asdict(trial),
            "terms": [asdict(term) for term in plan.cuda_terms],
            "planned_bytes": plan.cuda_bytes,
        }
        if seconds > 0:
            row |= compared(*bisected(trial, repository, plan.cuda_bytes, seconds), plan.cuda_bytes)
        if full_load_s > 0:
            outcome = attempt(trial, repository, plan.cuda_bytes, full_load_s)
            row |= {"full_load_s": full_load_s, "full_load": asdict(outcome)}
            row["as_promised"] = row.get("as_promised", True) and outcome.works
        return row


def compared(needed: int, attempts: list[Outcome], planned_bytes: int) -> dict[str, Any]:
    """What bisection found beside the plan."""
    ratio = planned_bytes / needed if needed else 0.0
    too_small = next((o for o in attempts if not o.works), None)
    return {
        "needed_bytes": needed,
        "planned_over_needed": round(ratio, 3) if needed else None,
        "as_promised": PROMISED[0] <= ratio <= PROMISED[1],
        "guard_saw_too_small_after_s": too_small.seen_after_s if too_small else None,
        "attempts": [asdict(one) for one in attempts],
    }


def told(row: dict[str, Any]) -> str:
    """A row in words."""
    name, planned_mib = row["trial"]["name"], row["planned_bytes"] / MIB
    parts = [f"{name}: planned {planned_mib:.0f} MiB"]
    if "needed_bytes" in row:
        parts.append(f"needed {row['needed_bytes'] / MIB:.0f} MiB")
        parts.append(f"ratio {row['planned_over_needed']}")
    if "full_load" in row:
        full = row["full_load"]
        parts.append(
            f"{full['requests']} requests in {row['full_load_s']:g} s, fallbacks "
            f"{sum(full['fallbacks'].values())}, garbage {full['garbage']}"
        )
    return ", ".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trial", choices=[trial.name for trial in TRIALS])
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="load of one attempt; 0 leaves bisection out"
    )
    parser.add_argument("--full-load-s", type=float, default=0.0, help="load at the planned size")
    options = parser.parse_args(arguments)
    gpus = read_gpus()
    if not gpus:
        print("error: no GPU here (or no nvidia-ml-py): there is no CUDA pool to tune")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    trials = [trial for trial in TRIALS if options.trial in (None, trial.name)]
    rows = [measured(trial, options.seconds, options.full_load_s) for trial in trials]
    name = f"pools_{options.trial}.json" if options.trial else "pools.json"
    result = {"gpu": gpus[0].name, "cpus": os.cpu_count(), "rows": rows}
    (options.out / name).write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(told(row))
    return int(not all(row["as_promised"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
