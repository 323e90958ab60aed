"""The whole program on every kind of generated clip: who is in which tile, frames, times, sound.

    python benchmarks/quality.py [SCENARIO ...] [--seconds 10] [--seed 0]

Makes the clips, runs `dualface-client run` on all of them, looks at each output with
`scripts/verify_output.py` (which never asks the program who is who) and prints one table.
Results: `benchmarks/results/quality.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = (
    "side_by_side",
    "cross_once",
    "cross_often",
    "near_miss",
    "leave_and_return",
    "leave_and_return_other_side",
    "occlusion",
    "scene_cut",
    "sizes",
)


def main() -> int:
    """Runs everything; returns 1 if a check fails."""
    options = _options()
    out = ROOT / "out" / f"quality_{options.seconds:g}s_{options.seed}"
    out.mkdir(parents=True, exist_ok=True)
    for scenario in options.scenarios:
        if not (out / f"{scenario}.json").exists():
            _run(
                "scripts/make_clips.py",
                scenario,
                "--out",
                out,
                "--seconds",
                options.seconds,
                "--seed",
                options.seed,
            )
    tiles = out / "tiles"
    _run(
        "-m",
        "dualface_client",
        "run",
        *(out / f"{name}.mp4" for name in options.scenarios),
        "-o",
        tiles,
        "--overwrite",
        "--summary",
        out / "summary.json",
    )
    summary = json.loads((out / "summary.json").read_text())
    streams = {stream["name"]: stream for stream in summary["streams"]}
    rows = {name: _look(out, tiles, name) for name in options.scenarios}
    for name, row in rows.items():
        row["reid_ratio"] = streams[name]["reid_ratio"]
        row["fps"] = streams[name]["fps"]
    _print(rows)
    result = ROOT / "benchmarks" / "results" / "quality.json"
    settings = {"seconds": options.seconds, "seed": options.seed}
    result.write_text(json.dumps({"settings": settings, "scenarios": rows}, indent=2) + "\n")
    return int(any(row["failed"] for row in rows.values()))


def _look(out: Path, tiles: Path, name: str) -> dict[str, Any]:
    report = out / f"{name}.verify.json"
    _run(
        "scripts/verify_output.py",
        tiles / f"{name}_dualface.mp4",
        "--truth",
        out / f"{name}.json",
        "--source",
        out / f"{name}.mp4",
        "--json",
        report,
        check=False,
    )
    checks = {check["name"]: check for check in json.loads(report.read_text())["checks"]}
    return {
        "failed": sorted(key for key, check in checks.items() if not check["ok"]),
        "detail": {key: check["detail"] for key, check in checks.items()},
    }


def _print(rows: dict[str, dict[str, Any]]) -> None:
    print(f"\n{'clip':<28} {'fps':>5} {'ReID':>6}  tiles")
    for name, row in rows.items():
        failed = f"  FAILED: {', '.join(row['failed'])}" if row["failed"] else ""
        tiles = row["detail"]["tiles"]
        print(f"{name:<28} {row['fps']:5.1f} {row['reid_ratio']:6.1%}  {tiles}{failed}")


def _run(*arguments: object, check: bool = True) -> None:
    done = subprocess.run([sys.executable, *map(str, arguments)], check=False, cwd=ROOT)
    if check and done.returncode:
        raise SystemExit(done.returncode)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The whole program on every kind of clip.")
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
