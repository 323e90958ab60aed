"""Bytes that a run copies between host and GPU, per frame, counted by the driver's own tracing.

    python benchmarks/gpu/copies.py CLIP --cupti DIR_OF_CUPTI --out copies.json

Each way of encoding runs twice, once over a file of twice as many frames: the difference is the
steady state, without what a start copies. `cupti_counts.c` is compiled and loaded into the client.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from decode import repeated  # type: ignore[import-not-found] # the script beside this one

from dualface_client.batch.server import ServerChoice, start_embedded

SOURCE = Path(__file__).with_name("cupti_counts.c")


def compiled(source: Path, cupti: Path, work: Path) -> Path:
    """A tracing library; `cupti` has `include/` and `lib/` or `lib64/`."""
    library = next(path for path in sorted(cupti.glob("lib*/libcupti.so*")) if path.is_file())
    out = work / f"{source.stem}.so"
    flags = [f"-I{cupti / 'include'}", str(library), f"-Wl,-rpath,{library.parent}", "-lpthread"]
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", out, source, *flags], check=True)
    return out


def counted(clip: Path, address: str, extra: list[str], library: Path, work: Path) -> Counter[str]:
    """Bytes by direction, and frames, of one run."""
    folder = Path(tempfile.mkdtemp(dir=work))
    summary = folder / "summary"
    command = [sys.executable, "-m", "dualface_client", "run", str(clip), "--device", "cuda"]
    command += ["--server", address, "--quiet", "--summary", str(summary), *extra]
    env = {**os.environ, "CUDA_INJECTION64_PATH": str(library), "COUNTS_DIR": str(folder)}
    subprocess.run(command, check=True, env=env, timeout=200)
    found: Counter[str] = Counter()
    for path in folder.glob("*.json"):
        data = json.loads(path.read_text())
        found["dropped"] += data["dropped"]
        for kind, numbers in data["copies"].items():
            found[f"{kind}_bytes"] += numbers["bytes"]
            found[f"{kind}_copies"] += numbers["count"]
    report = json.loads(summary.read_text())["streams"][0]
    found["frames"], found["reid_faces"] = report["frames_out"], report["reid_faces"]
    return found


def steady(clip: Path, address: str, extra: list[str], library: Path, work: Path) -> dict[str, Any]:
    """Per frame, of the frames by which the longer run is longer."""
    short = counted(repeated(clip, 2), address, extra, library, work)
    long = counted(repeated(clip, 4), address, extra, library, work)
    frames = long["frames"] - short["frames"]
    keys = sorted(key for key in long if key.endswith(("bytes", "copies", "faces")))
    per_frame = {key: round((long[key] - short[key]) / frames, 3) for key in keys}
    return {"frames": frames, "dropped_records": long["dropped"], "per_frame": per_frame}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--cupti", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    library = compiled(SOURCE, options.cupti, work)
    x264 = ["-o", str(work / "out.mp4"), "--overwrite", "--encoder", "x264"]
    with start_embedded(ServerChoice(device="cuda")) as server:
        rows = {
            name: steady(options.clip, server.grpc_address, extra, library, work)
            for name, extra in (("none", ["--encoder", "none"]), ("x264", x264))
        }
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
