"""This client on a CPU beside a plain script and `deface`: same clip, same machine, in turns.

    python benchmarks/compare_cpu.py CLIP --out comparison_cpu.json --rounds 3 --deface PYTHON

`script` is `compare_cpu_script.py`, what a person would write with OpenCV and ONNX Runtime: this
project's detector on every frame, two crops that follow the two largest faces, no sound, no idea of
who is who. `deface` (by the Python in which it is installed) finds faces with CenterFace in every
frame and blurs them: the closest well-known tool, with another output. `dualface` detects as by
default; `dualface every frame` looks at each. Frames per second are of the whole command, its start
included, and memory is the largest sum over its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import psutil

SCRIPT = Path(__file__).with_name("compare_cpu_script.py")


def commands(clip: Path, out: Path, deface: str) -> dict[str, list[str]]:
    """What is run, by name."""
    ours = [sys.executable, "-m", "dualface_client", "run", str(clip), "-o", str(out)]
    ours += ["--overwrite", "--quiet", "--device", "cpu"]
    found = {
        "dualface": ours,
        "dualface every frame": [*ours, "--detect-every", "1"],
        "script": [sys.executable, str(SCRIPT), str(clip), str(out)],
    }
    if deface:
        found["deface"] = [deface, "-m", "deface.deface", str(clip), "-o", str(out)]
        found["deface"] += ["--scale", "640x360"]  # detects on as many pixels as the others
    return found


def measured(command: list[str], frames: int) -> dict[str, float]:
    """One run: its rate, and its memory with that of its children."""
    started_s, most_bytes = time.monotonic(), 0
    with psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most_bytes = max(most_bytes, _pss_bytes(process.pid))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(f"{command}: exit status {process.returncode}")
    seconds = time.monotonic() - started_s
    return {
        "seconds": round(seconds, 2),
        "frames_per_s": round(frames / seconds, 2),
        "mib": round(most_bytes / (1 << 20)),
    }


def _pss_bytes(pid: int) -> int:
    """Memory of a process and its children, shared pages counted once."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:  # one has just ended
        return total
    return total


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deface", default="", help="Python with deface, empty to leave it out")
    options = parser.parse_args()
    with av.open(str(options.clip)) as container:
        frames = sum(packet.size > 0 for packet in container.demux(video=0))
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "out.mp4"
        for _ in range(options.rounds):
            for name, command in commands(options.clip, out, options.deface).items():
                rows.setdefault(name, []).append(measured(command, frames))
                print(name, rows[name][-1], flush=True)
    result: dict[str, Any] = {
        "clip": options.clip.name,
        "frames": frames,
        "cpus": len(os.sched_getaffinity(0)),
        "load_at_the_end": os.getloadavg()[0],
        "median": {
            name: {key: statistics.median(row[key] for row in found) for key in found[0]}
            for name, found in rows.items()
        },
        "rounds": rows,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
