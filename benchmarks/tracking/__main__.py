"""ByteTrack alone, ReID on every frame and conditional ReID, on the same detections.

python -m benchmarks.tracking [--seeds 4] [--split report] [--eval-python .venv-eval/bin/python]

Makes the cache of detections where it is missing (about 25 s of one core a clip, once), replays all
clips (seconds), has TrackEval count, and prints a table and the gates. With `--split report` (the
default) only odd seeds count, which nobody looked at while tuning. Results go to
`benchmarks/results/tracking.json` and the plot to `docs/quality-tracking.png`. The exit code is 1
where a gate fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tracking.build import build, cache_dir
from benchmarks.tracking.cache import Seen, Watcher
from benchmarks.tracking.clipset import KINDS, Clip, clips
from benchmarks.tracking.compare import Result, camera, figures, run, sweep
from benchmarks.tracking.gates import gates
from benchmarks.tracking.measures import total
from benchmarks.tracking.replay import TRACKERS

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = _options()
    wanted = [
        clip
        for clip in clips(range(options.seeds))
        if options.split == "all" or clip.reports == (options.split == "report")
    ]
    build(wanted, options.processes)
    watcher = Watcher(cache_dir())
    loaded = [(clip, Seen(watcher.path_of(clip))) for clip in wanted]
    result = compare(loaded, options.eval_python)
    result["settings"] = {"seeds": sorted({clip.seed for clip in wanted}), "split": options.split}
    show(result)
    if options.split == "report":
        _keep(result, options)
    return int(not all(gate["met"] for gate in result["gates"]))


def compare(loaded: Sequence[tuple[Clip, Seen]], eval_python: Path) -> dict[str, Any]:
    """Everything that is measured."""
    results, tracks = run(loaded, TRACKERS)
    scores = _scored(tracks, eval_python)
    conditional = [result for result in results if result.tracker == "conditional"]
    found: dict[str, Any] = {
        "trackers": {
            tracker: _by_group([r for r in results if r.tracker == tracker], scores[tracker])
            for tracker in TRACKERS
        },
        "kinds": _by_kind(conditional),
        "camera": camera(conditional),
        "sweep": sweep(loaded),
    }
    found["gates"] = gates(found, conditional)
    return found


def _scored(tracks: list[dict[str, Any]], eval_python: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "tracks.json", Path(scratch) / "scores.json"
        source.write_text(json.dumps(tracks))
        _evaluate(eval_python, HERE / "score.py", source, target)
        scores: dict[str, Any] = json.loads(target.read_text())
        return scores


def _evaluate(python: Path, *arguments: Path) -> None:
    """Runs a script of the other environment, without this one's paths."""
    if not python.is_file():
        raise SystemExit(f"{python} is missing: run `make eval-env`, or name one: --eval-python")
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([python, *arguments], check=True, env=environ)


def _by_group(
    results: Sequence[Result], scores: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    groups = {"all": list(results)}
    for result in results:
        groups.setdefault(result.clip.kind.group, []).append(result)
    return {
        name: {"clips": len(part), **figures(total(r.counts for r in part)), **scores[name]}
        for name, part in groups.items()
    }


def _by_kind(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    found = {}
    for kind in KINDS:
        part = [result.counts for result in results if result.clip.kind.name == kind.name]
        if part:
            worst = min(counts.accuracy for counts in part)
            found[kind.name] = {**figures(total(part)), "worst_tile_accuracy": worst}
    return found


def show(result: dict[str, Any]) -> None:
    """Prints the tables and the gates."""
    print(f"\n{'':32} {'HOTA':>6} {'AssA':>6} {'IDF1':>6} {'IDSW':>5}  {'tiles':>7}", end=" ")
    print(f"{'swaps/h':>8} {'recover':>8} {'ReID/min':>9} {'ReID':>7}")
    for tracker, groups in result["trackers"].items():
        for name, row in groups.items():
            label = f"{tracker}, {name} ({row['clips']:.0f})"
            print(
                f"{label:32}"
                f" {row['HOTA']:6.1%} {row['AssA']:6.1%} {row['IDF1']:6.1%} {row['IDSW']:5.0f}"
                f"  {row['tile_accuracy']:7.2%} {row['swaps_per_hour']:8.1f}"
                f" {row['recover_s']:7.2f}s {row['reid_per_minute']:9.1f} {row['reid_share']:7.2%}"
            )
    print(f"\n{'conditional, by kind of clip':32} {'tiles':>7} {'worst':>7} {'ReID':>6}", end=" ")
    print(f"{'centred':>8} {'off edge':>9} {'alone':>7}")
    for name, row in result["kinds"].items():
        print(
            f"{name:32} {row['tile_accuracy']:7.2%} {row['worst_tile_accuracy']:7.2%}"
            f" {row['reid_share']:6.2%} {row['centred']:8.2%} {row['centred_off_edge']:9.2%}"
            f" {row['centred_alone']:7.2%}"
        )
    print()
    for gate in result["gates"]:
        print(f"{'met   ' if gate['met'] else 'MISSED'} {gate['text']}")


def _keep(result: dict[str, Any], options: argparse.Namespace) -> None:
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    _evaluate(options.eval_python, HERE / "plot.py", options.json, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking")
    parser.add_argument("--seeds", type=int, default=4, help="per kind of clip; even ones tune")
    parser.add_argument("--split", choices=("report", "tune", "all"), default="report")
    parser.add_argument("--processes", type=int, default=2, help="that fill the cache")
    parser.add_argument("--eval-python", type=Path, default=ROOT / ".venv-eval" / "bin" / "python")
    results = ROOT / "benchmarks" / "results" / "tracking.json"
    parser.add_argument("--json", type=Path, default=results)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "quality-tracking.png")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
