"""Where the stream loop's time goes on a CPU: share of each stage in the frame time.

    python benchmarks/stream_profile.py [--clip CLIP] [--seconds 10]

The stages overlap in a normal run and fight for the cores, so their wall times would mean little.
Here one frame is processed at a time (one request in flight, one frame queued) and FFmpeg decodes
on one thread, so that the processor time of the thread is the stage's cost. `detect` and `encode`
are wall times: their work runs on threads of ONNX Runtime and x264. Every frame is detected: the
fewer are (`--detect-every auto`), the larger the share of the rest of a shorter time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.batch.server import ServerChoice, server_for
from dualface_client.observe.report import StreamReport
from dualface_client.settings.stream import OutputSettings, QueueSettings, StreamSettings
from dualface_client.stream.device_cpu import CpuDevice
from dualface_client.stream.job import new_statuses
from dualface_client.stream.session import run_worker
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop

ROOT = Path(__file__).resolve().parents[1]
#: Everything but detection and encoding has to stay below this share of the frame time.
LIMIT = 0.25
_WAITING = ("wait", "reid", "encode", "finish")


def main() -> int:
    """Measures, prints a table, writes JSON; returns 1 above the limit."""
    options = _options()
    clip = options.clip or _make_clip(options.seconds)
    report = _run(clip)
    rows = per_frame_ms(report)
    total_ms = sum(rows.values())
    rest = sum(ms for name, ms in rows.items() if name not in _WAITING) / total_ms
    print(f"{'stage':<10} {'ms/frame':>9} {'share':>7}")
    for name, milliseconds in sorted(rows.items(), key=lambda row: -row[1]):
        print(f"{name:<10} {milliseconds:9.2f} {milliseconds / total_ms:7.1%}")
    print(f"everything but detection and encoding: {rest:.1%} (limit {LIMIT:.0%})")
    result = {
        "clip": clip.name,
        "frames": report.frames_out,
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or "x86-64"},
        "ms_per_frame": {name: round(value, 3) for name, value in rows.items()},
        "rest_share": round(rest, 4),
    }
    path = ROOT / "benchmarks" / "results" / "stream_profile.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return int(rest > LIMIT)


def per_frame_ms(report: StreamReport) -> dict[str, float]:
    """Milliseconds per frame and stage, ReID taken out of the tracking that contains it."""
    seconds = {
        name: stage.wall_s if name in _WAITING else stage.cpu_s
        for name, stage in report.stages.items()
    }
    seconds["track"] -= report.stages["reid"].cpu_s if "reid" in report.stages else 0.0
    return {name: 1e3 * value / report.frames_out for name, value in seconds.items()}


def _run(clip: Path) -> StreamReport:
    settings = StreamSettings(output=OutputSettings(overwrite=True), queues=QueueSettings(1, 1))
    detection = replace(settings.detection, requests_in_flight=1, every=1)
    settings = replace(settings, detection=detection)
    with tempfile.TemporaryDirectory() as directory:
        jobs = jobs_of_inputs([str(clip)], str(Path(directory) / "out.mp4"))
        statuses = new_statuses(jobs)
        with server_for(ServerChoice()) as (address, _):
            setup = WorkerSetup(address, settings=settings)
            run_worker(setup, CpuDevice(decoder_threads=1), jobs, statuses, Stop())
        report = statuses[0].snapshot()
    if report.error:
        raise SystemExit(report.error)
    return report


def _make_clip(seconds: float) -> Path:
    out = ROOT / "out" / "profile"
    clip = out / "cross_once.mp4"
    if not clip.exists():
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "scripts" / "make_clips.py"), "cross_once"]
        subprocess.run([*command, "--seconds", str(seconds), "--out", str(out)], check=True)
    return clip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Share of each stage in the frame time.")
    parser.add_argument("--clip", type=Path, help="a 1080p clip; one is composed where missing")
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
