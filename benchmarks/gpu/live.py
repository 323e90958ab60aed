"""Live streams on a GPU: files at their own pace, look-ahead 0, one frame in a request.

    python benchmarks/gpu/live.py CLIP --out live.json --shapes 4x4 --seconds 300

A shape is workers x streams in each. Latency is from decoded to composed (`--encoder none`), as
each stream's report gives it: median and 99th percentile.
The first seconds, in which decoders and kernels are made, count too. `dropped_by_second` says when
frames were dropped, all streams together: seconds since the first one came, and how many.

`--device cpu --instant` tries it with small clips and a detector of no cost.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import stand_in  # type: ignore[import-not-found] # the script beside this one
from decode import repeated  # type: ignore[import-not-found] # the script beside this one
from end_to_end import Smi  # type: ignore[import-not-found] # the script beside this one
from prometheus_client.parser import text_string_to_metric_families

from dualface_client.background import BackgroundLoop
from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.triton.mps import multi_process_service
from dualface_client.triton.server_process import free_ports

CLIP_S = 10


class Drops(BackgroundLoop):
    """Reads the run's own metrics once a second while it is open."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.totals: list[tuple[float, int]] = []
        super().__init__(self._sample, name="drops", period_s=1.0)

    def _sample(self) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=1) as page:
                text = page.read().decode()
        except OSError:  # it has not begun, or has ended
            return
        samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
        came = sum(s.value for s in samples if s.name == "dualface_frames_in_total")
        if came:
            dropped = sum(
                s.value
                for s in samples
                if s.name == "dualface_frames_dropped_total" and s.labels["cause"] != "stopped"
            )
            self.totals.append((time.monotonic(), int(dropped)))

    def by_second(self) -> list[tuple[int, int]]:
        """Seconds since the first sample, and frames dropped since the sample before."""
        first_s = self.totals[0][0] if self.totals else 0.0
        earlier = (0, *(total for _, total in self.totals))
        pairs = zip(self.totals, earlier, strict=False)
        return [(round(at_s - first_s), total - before) for (at_s, total), before in pairs]


def row(
    clip: Path, address: str, workers: int, streams: int, seconds: float, device: str
) -> dict[str, Any]:
    """One shape."""
    work = Path(tempfile.mkdtemp())
    count = workers * streams
    for index in range(count):
        (work / f"camera{index:02}{clip.suffix}").symlink_to(clip)
    cameras = [str(path) for path in sorted(work.glob("camera*"))]
    command = [sys.executable, "-m", "dualface_client", "run", *cameras, "--realtime", "--quiet"]
    command += ["--encoder", "none", "--device", device, "--server", address]
    command += ["--streams", str(count), "--workers", str(workers)]
    command += ["--summary", str(work / "summary.json")]
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with Smi() as smi, Drops() as drops:
        command += ["--health-port", str(drops.port)]
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        running.send_signal(signal.SIGINT)
        errors = running.communicate(timeout=60)[1]
    after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started_s
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    reports = json.loads((work / "summary.json").read_text())["streams"]
    used_mib = [sample[2] for sample in smi.rows]
    return {
        "workers": workers,
        "streams": count,
        "seconds": round(wall_s, 1),
        "frames_in": sum(report["frames_in"] for report in reports),
        "frames_out": sum(report["frames_out"] for report in reports),
        "dropped": [report["dropped"] for report in reports],
        "dropped_by_second": drops.by_second(),
        "latency_p50_ms": sorted(round(1e3 * r["latency_p50_s"], 1) for r in reports),
        "latency_p99_ms": sorted(round(1e3 * r["latency_p99_s"], 1) for r in reports),
        "client_cores": round(used_s / wall_s, 2),
        "gpu_percent": max((sample[0] for sample in smi.rows), default=0),
        "gpu_used_mib_by_half_minute": used_mib[::60],
        "stages_of_first": reports[0]["stages"],
        "warnings": sorted({text for report in reports for text in report["warnings"]}),
        "stderr": errors[-600:],
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shapes", nargs="+", default=["4x4"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--mps", action="store_true", help="all processes share the GPU by MPS")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--instant", action="store_true", help="a detector of no cost")
    options = parser.parse_args()
    clip = repeated(options.clip, int(options.seconds / CLIP_S) + 2)
    rows: list[dict[str, Any]] = [{"cpus": os.cpu_count(), "mps": options.mps}]
    choice = ServerChoice(device=options.device)
    if options.instant:
        stand_in.write(file := options.out.with_suffix(".onnx").absolute())
        choice = replace(choice, detector_onnx=file)
    with multi_process_service(wanted=options.mps), start_embedded(choice) as server:
        for shape in options.shapes:
            workers, _, streams = shape.partition("x")
            size = int(workers), int(streams)
            found = row(clip, server.grpc_address, *size, options.seconds, options.device)
            rows.append(found)
            print(json.dumps(found), flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
