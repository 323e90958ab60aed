"""GPU memory of streams: estimated against measured, admission, queueing, and a full card.

    python benchmarks/gpu/vram_budget.py CLIP --out DIR

`rows` compares what NVML shows with the estimate that admits streams. `refused`, `queued` set
`--vram-limit` so that two streams of three fit. `full` fills the card with another process until
less than one stream is left: streams must fail by name, or wait, and the server must live.
Writes vram_budget.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from decode import repeated  # type: ignore[import-not-found] # the script beside this one

from dualface_client.background import BackgroundLoop
from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.memory.vram import MIB, WORKER_BYTES, StreamShape, stream_terms
from dualface_client.observe.gpus import GpuFacts, read_gpus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device_cuda import for_cuda
from dualface_client.stream.load import frames_held, load_of
from dualface_client.triton.connection import Connection
from dualface_client.video.header import read_header

HOG = """
import sys, cupy
keep = cupy.cuda.runtime.malloc(int(sys.argv[1]))
print("full", flush=True)
sys.stdin.readline()
"""


def gpu() -> GpuFacts:
    """The first GPU now."""
    gpus = read_gpus()
    if not gpus:
        raise SystemExit("no GPU here, or no nvidia-ml-py")
    return gpus[0]


class Peak(BackgroundLoop):
    """Largest use of the card while it is open."""

    def __init__(self) -> None:
        self.used_bytes = 0
        super().__init__(self._sample, name="peak", period_s=0.1)

    def _sample(self) -> None:
        self.used_bytes = max(self.used_bytes, gpu().memory_used_bytes)


def run(clip: Path, address: str, streams: int, *extra: str) -> dict[str, Any]:
    """One `dualface-client run` of copies of the clip; how its streams ended."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        copies = [work / f"copy{n}{clip.suffix}" for n in range(streams)]
        for copy in copies:
            copy.symlink_to(clip)
        command = [sys.executable, "-m", "dualface_client", "run", *map(str, copies)]
        command += ["--encoder", "none", "--device", "cuda", "--server", address, "--quiet"]
        command += ["--streams", str(streams), "--summary", str(work / "summary.json"), *extra]
        before = gpu().memory_used_bytes
        with Peak() as peak:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
        path = work / "summary.json"
        reports = json.loads(path.read_text())["streams"] if path.is_file() else []
    return {
        "exit_code": done.returncode,
        "states": [report["state"] for report in reports],
        "errors": sorted({report["error"] for report in reports if report["error"]}),
        "warnings": sorted({text for report in reports for text in report["warnings"]}),
        "grown_mib": round((peak.used_bytes - before) / MIB),
        "stderr": done.stderr[-800:],
    }


def estimate(clip: Path) -> int:
    """Bytes of one stream of the clip with the settings of a GPU run."""
    settings = for_cuda(StreamSettings(), 1)
    header = read_header(clip)
    shape = StreamShape("x", header.width_px, header.height_px, header.codec, header.bit_depth)
    return sum(stream_terms(shape, load_of(settings, frames_held(settings))).values())


def compared(clip: Path, address: str, streams: int) -> dict[str, Any]:
    """Streams in one process: what they took against what was estimated."""
    found = run(clip, address, streams, "--vram-limit", "1.0")
    expected = round((WORKER_BYTES + streams * estimate(clip)) / MIB)
    ratio = round(expected / found["grown_mib"], 3) if found["grown_mib"] else None
    return {"streams": streams, "estimated_mib": expected, "estimated_over_used": ratio, **found}


def limited(clip: Path, address: str, mode: str) -> dict[str, Any]:
    """Three streams where two fit."""
    # The run's own context comes on top of what is used now.
    wanted = gpu().memory_used_bytes + WORKER_BYTES + 2.5 * estimate(clip)
    limit = f"{wanted / gpu().memory_total_bytes:.6f}"
    return run(clip, address, 3, "--vram-limit", limit, "--on-oom", mode)


def full(clip: Path, address: str, left_bytes: float) -> dict[str, Any]:
    """Three streams on a card that somebody else fills."""
    free = gpu().memory_total_bytes - gpu().memory_used_bytes
    command = [sys.executable, "-c", HOG, str(int(free - left_bytes - 600 * MIB))]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as hog:
        said = hog.stdout.readline().strip() if hog.stdout else ""
        found = run(clip, address, 3, "--vram-limit", "1.0", "--on-oom", "queue")
        hog.communicate("\n")
    connection = Connection(address)
    alive = bool(connection.call("after", "is_server_live"))
    connection.close()
    return {"hog": said, "server_lives": alive, **found}


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=4, help="times the clip is in the file")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clip = repeated(options.clip, options.repeat)
    result: dict[str, Any] = {"gpu": gpu().name, "total_mib": gpu().memory_total_bytes // MIB}
    result["before_mib"] = gpu().memory_used_bytes // MIB
    with start_embedded(ServerChoice(device="cuda")) as server:
        address = server.grpc_address
        result["server_mib"] = gpu().memory_used_bytes // MIB - result["before_mib"]
        result["rows"] = [compared(clip, address, streams) for streams in (1, 2, 4)]
        result["refused"] = limited(clip, address, "refuse")
        result["queued"] = limited(clip, address, "queue")
        result["full_but_one"] = full(clip, address, WORKER_BYTES + 1.3 * estimate(clip))
        result["full"] = full(clip, address, 0.3 * estimate(clip))
    checks = {
        "estimates hold within 0.8 to 1.5": all(
            row["estimated_over_used"] and 0.8 <= row["estimated_over_used"] <= 1.5
            for row in result["rows"]
        ),
        "one of three is refused": sorted(result["refused"]["states"])
        == ["done", "done", "failed"],
        "all three run when queued": result["queued"]["states"] == ["done"] * 3,
        "one after the other where one fits": result["full_but_one"]["states"] == ["done"] * 3,
        "a full card ends no process by a signal": result["full"]["exit_code"] > 0,
        "the server outlives a full card": result["full"]["server_lives"],
    }
    result["checks"] = checks
    (options.out / "vram_budget.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return int(not all(checks.values()))


if __name__ == "__main__":
    sys.exit(main())
