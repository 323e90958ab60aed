"""The main job on a real clip: two faces cross, the tiles keep their person.

    python scripts/demo.py [--scenario cross_once] [--seconds 10] [--out out/demo]

Composes a two-face clip from two real recordings, runs `dualface-client run` on it, checks the
output with models of its own (never with the program's own tracks) and prints what was measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Runs the demo; returns 0 if the output holds what it should."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    clip = options.out / f"{options.scenario}.mp4"
    truth, output = clip.with_suffix(".json"), options.out / f"{options.scenario}_tiles.mp4"
    summary = options.out / "summary.json"
    if not truth.exists():
        _step(
            "1/3 composing a clip in which two real people cross",
            "scripts/make_clips.py",
            options.scenario,
            "--seconds",
            options.seconds,
            "--out",
            options.out,
        )
    started = time.monotonic()
    _step(
        "2/3 making the two-tile video through an embedded Triton",
        "-m",
        "dualface_client",
        "run",
        clip,
        "-o",
        output,
        "--overwrite",
        "--tracks",
        options.out / "tracks.txt",
        "--summary",
        summary,
    )
    elapsed_s = time.monotonic() - started
    failed = _step(
        "3/3 checking who is in which tile, the sound and the times",
        "scripts/verify_output.py",
        output,
        "--truth",
        truth,
        "--source",
        clip,
        check=False,
    )
    _tell(summary, output, elapsed_s)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The main job on a real clip.")
    parser.add_argument("--scenario", default="cross_once")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo")
    return parser.parse_args()


def _step(title: str, *arguments: object, check: bool = True) -> int:
    print(f"\n== {title}", flush=True)
    done = subprocess.run([sys.executable, *map(str, arguments)], check=False, cwd=ROOT)
    if check and done.returncode:
        sys.exit(done.returncode)
    return done.returncode


def _tell(summary: Path, output: Path, elapsed_s: float) -> None:
    (stream,) = json.loads(summary.read_text())["streams"]
    frames = stream["frames_out"]
    print(f"\nResult: {output}")
    print(
        f"{frames} frames of 1920x1080 in {elapsed_s:.1f} s, start of the server included; "
        f"{stream['fps']:.1f} frames/s while running; ReID on {stream['reid_ratio']:.1%} of frames"
    )
    stages = sorted(stream["stages"].items(), key=lambda item: -item[1]["wall_s"])
    times = ", ".join(f"{name} {1e3 * time_of['wall_s'] / frames:.1f}" for name, time_of in stages)
    print(f"ms per frame, stages overlap: {times}")


if __name__ == "__main__":
    sys.exit(main())
