"""Who has the GPU when: the turns that clients and server take while the whole program runs.

    python benchmarks/gpu/timeline.py CLIP --cupti DIR_OF_CUPTI --out timeline.json --shape 4x4@2/16

Processes share a GPU in turns: one at a time, and a change costs. Every kernel and copy of every
process is recorded by the driver's own tracing (`cupti_timeline.c`), which slows the run. A turn is
what one process did until another one did something. `--traces DIR` only evaluates what an earlier
run left there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from copies import compiled  # type: ignore[import-not-found] # the script beside this one
from decode import repeated  # type: ignore[import-not-found] # the script beside this one
from end_to_end import Shape, row  # type: ignore[import-not-found] # the script beside this one

from dualface_client.batch.server import ServerChoice, start_embedded

SOURCE = Path(__file__).with_name("cupti_timeline.c")
HEAD = np.dtype(("u8", 6))
RECORD = np.dtype(
    [
        ("start", "u8"),
        ("end", "u8"),
        ("kind", "u4"),
        ("stream", "u4"),
        ("grid", "u4"),
        ("bytes", "u4"),
        ("name", "S40"),
    ]
)
#: NVDEC's picture is copied out by this kernel, one launch a frame.
FRAME = b"ConvertNV12BLtoNV12"


def records_of(path: Path) -> npt.NDArray[Any]:
    """One process's records, times on the clock that all processes share."""
    data = path.read_bytes()
    cupti_0, monotonic_0, _, _, dropped, count = np.frombuffer(data, "u8", 6).tolist()
    if dropped:
        raise SystemExit(f"{path}: {dropped} records were dropped")
    records = np.frombuffer(data, RECORD, count, HEAD.itemsize).copy()
    for edge in ("start", "end"):
        records[edge] = records[edge] - cupti_0 + monotonic_0
    return records


def roles_of(processes: dict[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Which process is which, by what it ran; there may be several clients."""
    roles: dict[str, str] = {}
    models: list[str] = []
    for pid, records in processes.items():
        names = set(records["name"].tolist())
        if b"compose" in names:
            roles[pid] = "client"
        elif names == {b""}:
            roles[pid] = "tritonserver"
        else:
            models.append(pid)
    models.sort(key=lambda pid: -len(processes[pid]))
    return {
        **roles,
        **dict.fromkeys(models, "other model"),
        **dict.fromkeys(models[:1], "detector"),
    }


def turns_of(processes: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    """Turns in order: process, first start and last end in ns, launches, decoded frames."""
    rows = sorted(
        (int(record["start"]), int(record["end"]), pid, record["name"] == FRAME)
        for pid, records in processes.items()
        for record in records
    )
    turns: list[dict[str, Any]] = []
    for start, end, pid, is_frame in rows:
        if not turns or turns[-1]["pid"] != pid:
            turns.append({"pid": pid, "start": start, "end": end, "launches": 0, "frames": 0})
        turn = turns[-1]
        turn["end"] = max(turn["end"], end)
        turn["launches"] += 1
        turn["frames"] += is_frame
    return turns


def evaluated(traces: Path, seconds: float) -> dict[str, Any]:
    """Turns of the middle of a run, where the clients are at work."""
    processes = {path.stem: records_of(path) for path in sorted(traces.glob("*.bin"))}
    processes = {pid: records for pid, records in processes.items() if len(records)}
    roles = roles_of(processes)
    clients = [processes[pid]["start"] for pid, role in roles.items() if role == "client"]
    first = int(max(np.quantile(starts, 0.4) for starts in clients))
    last = first + int(seconds * 1e9)
    middle = {
        pid: records[(records["start"] >= first) & (records["start"] < last)]
        for pid, records in processes.items()
    }
    turns = turns_of(middle)
    gaps_us = np.array([(b["start"] - a["end"]) / 1e3 for a, b in pairwise(turns)])
    # A kernel that was interrupted ends after the turns of others that began meanwhile.
    changes_us = gaps_us[gaps_us > 0]
    found: dict[str, Any] = {
        "seconds": seconds,
        "frames_per_s": round(sum(turn["frames"] for turn in turns) / seconds, 1),
        "turns_per_s": round(len(turns) / seconds, 1),
        "change_us_p10_median_p90": np.percentile(changes_us, (10, 50, 90)).round(1).tolist(),
    }
    for role in sorted(set(roles.values())):
        own = [turn for turn in turns if roles[turn["pid"]] == role]
        if own:
            found[role] = {
                "processes": list(roles.values()).count(role),
                "turns_per_s": round(len(own) / seconds, 1),
                "us_per_turn": round(float(np.mean([t["end"] - t["start"] for t in own])) / 1e3, 1),
                "frames_per_turn": round(float(np.mean([t["frames"] for t in own])), 2),
            }
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--cupti", type=Path)
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", default="4x4@2/16", help="as of end_to_end.py")
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.5, help="length that is evaluated")
    options = parser.parse_args()
    if options.traces is None:
        if options.clip is None or options.cupti is None:
            parser.error("CLIP and --cupti, or --traces")
        options.traces = Path(tempfile.mkdtemp())
        library = compiled(SOURCE, options.cupti, options.traces)
        os.environ |= {"CUDA_INJECTION64_PATH": str(library), "COUNTS_DIR": str(options.traces)}
        shape = Shape.of(options.shape)
        size, extra = shape.size, shape.options
        clip = repeated(options.clip, options.repeat)
        with start_embedded(ServerChoice(device="cuda")) as server:
            row(clip, server.grpc_address, server.pid, size, extra)
    found = evaluated(options.traces, options.seconds)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
