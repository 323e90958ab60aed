"""An hour of four live streams through the daemon on a CPU: does anything grow?

    python -m benchmarks.soak.live_hour --out benchmarks/results/soak            # 60 minutes
    python -m benchmarks.soak.live_hour --out DIR --minutes 20

A real daemon, a real RTSP server (GStreamer's, as for `benchmarks/live.py`) with four clients of
5 small frames a second with sound, each written into MP4 files of a minute and as HLS. Detector and
ReID cost nothing, so that the machine is not the limit. Memory, threads, open files, and files and
bytes in /dev/shm are sampled every 15 s; a line is laid through them from a sixth of the time on.
Writes live_hour.json and live_hour.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.soak import cheap_detector
from benchmarks.soak.fault_inputs import write_tiny
from benchmarks.soak.vitals import plot, slopes, tree, verdict
from dualface_client.memory.region import SHM_DIR
from dualface_client.triton.description import FACE_REID
from tests import media
from tests.daemons import PATIENCE_S, DaemonProcess
from tests.live_servers import free_port, rtsp_server, why_no_rtsp_server
from tests.processes import wait_until

NAMES = ("one", "two", "three", "four")
_EVERY_S = 15.0
_RATE = Fraction(5)
_MINUTE = media.Clip(
    frames=60 * int(_RATE),
    size_wh_px=(160, 96),
    rate=_RATE,
    options={"g": "10", "bf": "0"},
    audio=(media.Audio(seconds=60.0),),
)
_SETTINGS = {
    "output.size": "160x96",
    "output.preset": "ultrafast",
    "output.encoder_threads": 1,
    "output.segment_s": 60,
    "tracking.reid": "never",
}
#: Growth over the tested part that is still called flat: allocator noise.
LIMITS = {
    "memory_mib": 16.0,
    "server_memory_mib": 16.0,
    "threads": 1.0,
    "files": 2.0,
    "shared_files": 0.5,
    "shared_mib": 4.0,  # a model's pool grows by 1 MiB where more requests meet than before
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """One sample.

    Attributes:
        memory_mib: Resident size of the daemon and its workers.
        server_memory_mib: The same of the embedded server and its models.
        threads: Of the daemon and its workers.
        files: Open files of the same.
        shared_files: Files of all of these in /dev/shm.
        shared_mib: Their size on the disk.
    """

    memory_mib: float
    server_memory_mib: float
    threads: float
    files: float
    shared_files: float
    shared_mib: float


def take(pids: dict[str, int]) -> Vitals:
    """Samples once.

    Args:
        pids: From `DaemonProcess.pids`.
    """
    own = [psutil.Process(pid) for name, pid in pids.items() if name != "server"]
    names = {str(pid) for pid in pids.values()}
    shared = [path for path in SHM_DIR.glob("dualface-*") if names & set(path.name.split("-"))]
    return Vitals(
        sum(each.memory_info().rss for each in own) / 2**20,
        tree(pids["server"])[0],
        sum(each.num_threads() for each in own),
        sum(each.num_fds() for each in own),
        len(shared),
        sum(path.stat().st_blocks * 512 for path in shared) / 2**20,
    )


@contextmanager
def four_streams(folder: Path, minutes: float) -> Iterator[DaemonProcess]:
    """A daemon whose four live streams have all written frames.

    Args:
        folder: For everything; empty.
        minutes: How long the camera sends at least.
    """
    minute = media.make(folder / "minute.mp4", _MINUTE)
    clip = media.repeated(folder / "camera.mp4", minute, round(minutes) + 15)
    models = [cheap_detector.write(folder / "face_detect.onnx"), write_tiny(folder, FACE_REID)]
    port = free_port()
    lines = ["streams:"]
    for name in NAMES:
        outputs = [f"{folder}/{name}/", f"{folder}/{name}.m3u8"]
        lines.append(
            f"- {{name: {name}, input: 'rtsp://127.0.0.1:{port}/camera', "
            f"output: {json.dumps(outputs)}, settings: {json.dumps(_SETTINGS)}}}"
        )
    (folder / "streams.yaml").write_text("\n".join(lines) + "\n")
    options = ("--detector-onnx", models[0], "--reid-onnx", models[1], "--model-threads", "1")
    with rtsp_server(port, clip), DaemonProcess(folder, *options) as daemon:
        for name in NAMES:
            wait_until(partial(_runs, daemon, name), PATIENCE_S, f"{name} runs")
        yield daemon


def _runs(daemon: DaemonProcess, name: str) -> bool:
    return daemon.frames(name) > 2


def watch(daemon: DaemonProcess, minutes: float) -> list[tuple[float, Vitals]]:
    """Minutes since the start, and the signs at that time."""
    begin_s = time.monotonic()
    samples: list[tuple[float, Vitals]] = []
    while (passed_s := time.monotonic() - begin_s) < 60 * minutes:
        with suppress(TimeoutError):  # of a machine that was suspended; the sample is missing
            samples.append((passed_s / 60, take(daemon.pids())))
        time.sleep(_EVERY_S)
    return samples


def measure(folder: Path, minutes: float) -> tuple[dict[str, Any], list[tuple[float, Vitals]]]:
    """The result, with `checks` by name, and the samples."""
    with four_streams(folder, minutes) as daemon:
        samples = watch(daemon, minutes)
        streams = {name: daemon.stream(name) for name in NAMES}
        restarts, workers = daemon.metric("dualface_worker_restarts_total"), len(daemon.pids()) - 2
        ended = daemon.end()
        left = [name for name in os.listdir(SHM_DIR) if f"-{daemon.process.pid}-" in name]
    grown = slopes(samples, minutes / 6, limits=LIMITS)
    figures = ("frames_in", "frames_out", "dropped", "reconnects", "restarts", "sound_drift_s")
    timing = ("latency_p50_s", "latency_p99_s")
    result = {
        "minutes": minutes,
        "machine": f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[2]:.1f} at the end",
        "streams": {
            name: {key: each[key] for key in (*figures, *timing)} for name, each in streams.items()
        },
        "workers": workers,
        "growth": grown,
        "samples": [[round(x, 2), *(round(v, 1) for v in asdict(s).values())] for x, s in samples],
        "checks": {
            **{f"{name} is flat": bool(found["flat"]) for name, found in grown.items()},
            "every stream runs on": all(each["state"] == "running" for each in streams.values()),
            "no stream was restarted": not any(each["restarts"] for each in streams.values()),
            "no connection was lost": not any(each["reconnects"] for each in streams.values()),
            "no worker was restarted": restarts == 0,
            "exit code is 0": ended == 0,
            "nothing is left in /dev/shm": not left,
        },
    }
    return result, samples


def main() -> int:
    """Runs it and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of live_hour.json")
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    if why := why_no_rtsp_server():
        raise SystemExit(why)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result, samples = measure(Path(folder), options.minutes)
    (options.out / "live_hour.json").write_text(json.dumps(result) + "\n")
    plot(options.out / "live_hour.svg", samples, "min", LIMITS)
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))
    return verdict(result["checks"])


if __name__ == "__main__":
    raise SystemExit(main())
