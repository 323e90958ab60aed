"""Streams added and removed by the daemon's API while four others run: is anything lost or left?

    python -m benchmarks.soak.churn --out benchmarks/results/soak            # 1,000 of them
    python -m benchmarks.soak.churn --out DIR --cycles 50

A real daemon with models that cost nothing. Four streams play a long clip at its own pace. One more
is added, has to write its first frames (of every third one nothing is awaited), and is removed,
again and again. Afterwards the four must have gone on without a restart, a drop or a gap, and
threads, files, slots and shared memory must be as many as after the first cycles. Writes
churn.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.soak import cheap_detector
from benchmarks.soak.fault_inputs import write_tiny
from dualface_client.memory.region import SHM_DIR
from dualface_client.triton.description import FACE_REID
from tests import media
from tests.daemons import PATIENCE_S, DaemonProcess
from tests.processes import wait_until

RESIDENTS = ("one", "two", "three", "four")
_SETTINGS = {
    "output.size": "160x96",
    "output.preset": "ultrafast",
    "output.encoder_threads": 1,
    "output.overwrite": True,
    "cast.enabled": False,
    "tracking.reid": "never",
}
_RATE = Fraction(5)
#: Until all threads of the pools and all caches exist.
_WARM_CYCLES = 12


@dataclass(frozen=True, slots=True)
class Vitals:
    """What could grow.

    Attributes:
        threads: Of daemon and workers together.
        files: Open files of the same.
        shared_files: Files of ours in /dev/shm.
        leased_slots: Slots out, of all workers.
        workers: Worker processes.
        memory_mib: Resident size of daemon and workers.
    """

    threads: int
    files: int
    shared_files: int
    leased_slots: int
    workers: int
    memory_mib: float


def vitals(daemon: DaemonProcess) -> Vitals:
    """Samples once."""
    pids = {name: pid for name, pid in daemon.pids().items() if name != "server"}
    processes = [psutil.Process(pid) for pid in pids.values()]
    names = [name for name in os.listdir(SHM_DIR) if name.startswith("dualface-")]
    own = {str(pid) for pid in daemon.pids().values()}
    return Vitals(
        sum(each.num_threads() for each in processes),
        sum(each.num_fds() for each in processes),
        sum(bool(own & set(name.split("-"))) for name in names),
        _leased(daemon),
        len(pids) - 1,
        round(sum(each.memory_info().rss for each in processes) / 2**20, 1),
    )


def _leased(daemon: DaemonProcess) -> int:
    return round(daemon.metric("dualface_slots", 'state="leased"'))


def start(folder: Path, seconds: int, residents: int = len(RESIDENTS)) -> DaemonProcess:
    """A daemon with its residents, which all have written frames.

    Args:
        folder: For everything; empty.
        seconds: How long the residents can play.
        residents: How many.
    """
    clip = media.Clip(frames=round(seconds * _RATE), size_wh_px=(160, 96), rate=_RATE)
    long = media.make(folder / "long.mp4", clip)
    media.make(folder / "short.mp4", media.Clip(frames=200, size_wh_px=(160, 96), rate=_RATE))
    models = [cheap_detector.write(folder / "face_detect.onnx"), write_tiny(folder, FACE_REID)]
    lines = ["streams:"]
    for name in RESIDENTS[:residents]:
        settings = {**_SETTINGS, "input.realtime": True}
        lines.append(
            f"- {{name: {name}, input: {long}, output: {folder / name}.mp4, "
            f"settings: {json.dumps(settings)}}}"
        )
    (folder / "streams.yaml").write_text("\n".join(lines) + "\n")
    daemon = DaemonProcess(
        folder,
        *("--detector-onnx", models[0], "--reid-onnx", models[1], "--model-threads", "1"),
        *("--input-directory", folder, "--output-directory", folder),
    )
    for name in RESIDENTS[:residents]:
        wait_until(partial(_runs, daemon, name), PATIENCE_S, f"{name} runs")
    return daemon


def _runs(daemon: DaemonProcess, name: str) -> bool:
    return daemon.frames(name) > 2


def cycle(daemon: DaemonProcess, number: int) -> None:
    """Adds a stream, waits for its frames unless it is a third one, and removes it."""
    name = f"guest-{number}"
    body = {
        "name": name,
        "input": str(daemon.folder / "short.mp4"),
        "output": str(daemon.folder / f"guest-{number % 10}.mp4"),
        "settings": _SETTINGS,
    }
    daemon.done("POST", "/v1/streams", body)
    if number % 3:
        wait_until(partial(_runs, daemon, name), PATIENCE_S, f"{name} runs")
    said = daemon.done("DELETE", f"/v1/streams/{name}")["done"]
    if not said.endswith("removed"):
        wait_until(lambda: name not in _states(daemon), PATIENCE_S, said)


def _states(daemon: DaemonProcess) -> dict[str, str]:
    """What the fleet has, also of streams that are still ending."""
    text = daemon.fetch("GET", "/metrics")[2].decode()
    return dict(re.findall(r'dualface_frames_in_total\{stream="([^"]+)"\} (\S+)', text))


def churn(daemon: DaemonProcess, cycles: int, residents: int = len(RESIDENTS)) -> dict[str, Any]:
    """Runs the cycles; what came of it, with `checks` by name."""
    for number in range(_WARM_CYCLES):
        cycle(daemon, number)
    before, begin_s = vitals(daemon), time.monotonic()
    frames_before = {name: daemon.stream(name) for name in RESIDENTS[:residents]}
    for number in range(cycles):
        cycle(daemon, number)
    took_s = time.monotonic() - begin_s
    # Workers tell their slots once a second: those of the last guest may still be among them.
    wait_until(lambda: _leased(daemon) <= 2 * residents, PATIENCE_S, "slots come back")
    after = vitals(daemon)
    streams = {name: daemon.stream(name) for name in RESIDENTS[:residents]}
    played = {
        name: streams[name]["frames_out"] - frames_before[name]["frames_out"] for name in streams
    }
    dropped = {name: sum(each.get("dropped", {}).values()) for name, each in streams.items()}
    return {
        "cycles": cycles,
        "seconds": round(took_s, 1),
        "vitals_before": asdict(before),
        "vitals_after": asdict(after),
        "frames_of_residents": played,
        "dropped_by_residents": dropped,
        "checks": {
            "residents run on": all(each["state"] == "running" for each in streams.values()),
            "residents were not restarted": not any(e["restarts"] for e in streams.values()),
            "no worker was restarted": not daemon.metric("dualface_worker_restarts_total"),
            "guests are gone": len(daemon.done("GET", "/v1/streams")) == residents,
            "residents kept their pace": all(
                count >= 0.95 * took_s * float(_RATE) - 5 for count in played.values()
            ),
            "threads": after.threads <= before.threads + 4,
            "files": after.files <= before.files + 2,
            "shared memory": after.shared_files <= before.shared_files,
            "slots": after.leased_slots <= 2 * residents,
            "memory": after.memory_mib <= before.memory_mib + 32 * before.workers + 16,
        },
    }


def main() -> int:
    """Runs it and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of churn.json")
    parser.add_argument("--cycles", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, start(Path(folder), 3 * 3600) as daemon:
        found = churn(daemon, options.cycles)
        found["checks"]["exit code is 0"] = daemon.end() == 0
        pids = {str(daemon.process.pid)}
        found["checks"]["nothing is left in /dev/shm"] = not any(
            pids & set(name.split("-")) for name in os.listdir(SHM_DIR)
        )
    options.out.joinpath("churn.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return int(not all(found["checks"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
