"""One GPU with 16 streams against two with 16 each: `run --gpus 0` and `--gpus 0,1` in turns.

    python benchmarks/gpu/two_gpus.py CLIP --out results/two_gpus.json

Each run starts its own servers; `frames_per_s` counts from a stream's opening to the end of the
slowest one. Rates are medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from decode import repeated  # type: ignore[import-not-found] # the script beside this one

from dualface_client.observe.gpus import read_gpus

STREAMS = 16
_LIMIT_S = 120


def run(clip: Path, gpus: list[str], workers: int) -> dict[str, Any]:
    """One run; its streams are copies of the clip.

    Args:
        clip: What each stream reads.
        gpus: As `--gpus` names them.
        workers: Processes of each GPU.
    """
    work = Path(tempfile.mkdtemp())
    (work / "in").mkdir()
    count = STREAMS * len(gpus)
    for index in range(count):
        (work / "in" / f"copy{index}{clip.suffix}").symlink_to(clip)
    command = [sys.executable, "-m", "dualface_client", "run", str(work / "in"), "--quiet"]
    command += ["--gpus", ",".join(gpus), "--streams", str(count), "--encoder", "none"]
    command += ["--workers", str(workers * len(gpus)), "--summary", str(work / "summary.json")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    wall_s = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((work / "summary.json").read_text())
    reports = summary["streams"]
    slowest_s = max(report["elapsed_s"] for report in reports)
    frames = sum(report["frames_out"] for report in reports)
    return {
        "gpus": gpus,
        "streams": count,
        "frames": frames,
        "frames_per_s": round(frames / slowest_s, 1),
        "slowest_s": round(slowest_s, 2),
        "wall_s": round(wall_s, 2),
        "cores_used": round(cpu_s / wall_s, 2),
        "peaks": summary["hardware"]["peaks"],
        "places": summary.get("places", []),
        "states": sorted({report["state"] for report in reports}),
        "exit_status": done.returncode,
        "errors": done.stderr[-600:],
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpus", default="0,1", help="two of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=10, help="times the clip is in the file")
    parser.add_argument("--workers", type=int, default=4, help="processes of each GPU")
    options = parser.parse_args()
    clip = repeated(options.clip, options.repeat)
    both = options.gpus.split(",")
    rows: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        for gpus in (both[:1], both):
            rows.append(run(clip, gpus, options.workers))
            print(json.dumps(rows[-1]), flush=True)
            result = summed_up(rows)  # kept after each run: a machine may be lent for minutes only
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['frames_per_s']} frames/s: {result['ratio']} times")


def summed_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the runs so far, and the runs."""
    rates: dict[int, float] = {}
    for count in {len(row["gpus"]) for row in rows}:
        of_count = [row["frames_per_s"] for row in rows if len(row["gpus"]) == count]
        rates[count] = statistics.median(of_count)
    return {
        "machine": [gpu.name for gpu in read_gpus() or ()],
        "cpus": len(os.sched_getaffinity(0)),
        "frames_per_s": rates,
        "ratio": round(rates[2] / rates[1], 3) if len(rates) == 2 else None,
        "runs": rows,
    }


if __name__ == "__main__":
    main()
