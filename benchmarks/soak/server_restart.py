"""The embedded server killed twenty times in the middle of a file: is the output the same?

    python benchmarks/soak/server_restart.py --out benchmarks/results/soak
    python benchmarks/soak/server_restart.py --out DIR --device cuda --frames 6000

A clip in which two people cross is run three times: twice undisturbed, which shows that the output
is reproducible at all, and once with SIGKILL for the server at twenty random places. The pictures
as they were encoded, their times and the tracks must be the same, byte for byte. Writes
server_restart_DEVICE.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.batch.server import ServerChoice, server_for
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.device_choice import make_device
from dualface_client.stream.job import new_statuses
from dualface_client.stream.session import run_worker
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.embedded import EmbeddedServer
from scripts.make_clips import main as make_clips


def run(clip: Path, out: Path, options: argparse.Namespace, kills: list[int]) -> dict[str, Any]:
    """Runs the clip once, on a server of its own, and kills that one at some frames."""
    settings = StreamSettings(
        output=replace(OutputSettings((640, 360)), encoder="x264", encoder_threads=1)
    )
    jobs = jobs_of_inputs([str(clip)], str(out))
    statuses = new_statuses(jobs)
    choice = ServerChoice(device=options.device, model_threads=1)
    ended = threading.Event()
    begin_s = time.monotonic()
    with server_for(choice) as (address, server):
        if server is None:
            raise SystemExit("an embedded server was asked for")
        killer = threading.Thread(target=kill_at, args=(server, statuses[0], kills, ended))
        killer.start()
        setup = WorkerSetup(address, options.device, settings, tracks=out.with_suffix(".txt"))
        run_worker(setup, make_device(options.device, settings), jobs, statuses, Stop())
        ended.set()
        killer.join()
    report = statuses[0].snapshot()
    return {**made(out, report), "seconds": round(time.monotonic() - begin_s, 1)}


def kill_at(
    server: EmbeddedServer, status: StreamStatus, frames: list[int], ended: threading.Event
) -> None:
    """Kills the server as soon as so many frames were read, each time a living one."""
    for frame in frames:
        while status.snapshot().frames_in < frame or not server.is_alive():
            if ended.wait(0.002):
                return
        with suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(server.pid, signal.SIGKILL)
        status.warn(f"killed at frame {frame}")


def made(out: Path, report: StreamReport) -> dict[str, Any]:
    """What became of the file."""
    pictures, times = hashlib.sha256(), []
    if out.exists():
        with av.open(str(out)) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    pictures.update(bytes(packet))
                    times.append(str((packet.pts or 0) * (packet.time_base or Fraction(1))))
    return {
        "state": report.state,
        "error": report.error,
        "frames_in": report.frames_in,
        "frames_out": report.frames_out,
        "detections": report.detections,
        "reid_frames": report.reid_frames,
        "reid_failures": report.reid_failures,
        "resends": report.resends,
        "kills": sum("killed at frame" in note for note in report.warnings),
        "pictures_sha256": pictures.hexdigest(),
        "times_sha256": hashlib.sha256(" ".join(times).encode()).hexdigest(),
        "tracks_sha256": hashlib.sha256(out.with_suffix(".txt").read_bytes()).hexdigest(),
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)  # noqa: S311 - places to kill at, no secret
    places = sorted(chance.sample(range(5, options.frames - 5), options.kills))
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        seconds = str(options.frames / 25)
        make_clips(["cross_often", "--size", "640x360", "--seconds", seconds, "--out", str(work)])
        clip = work / "cross_often.mp4"
        runs = {
            name: run(clip, work / f"{name}.out.mp4", options, kills)
            for name, kills in (("first", []), ("again", []), ("killed", places))
        }
    same = [
        key
        for key in ("frames_out", "pictures_sha256", "times_sha256", "tracks_sha256")
        if len({made[key] for made in runs.values()}) == 1
    ]
    checks = {
        "every run done": all(made["state"] == "done" for made in runs.values()),
        "as many kills as asked for": runs["killed"]["kills"] == options.kills,
        "pictures, times and tracks the same": len(same) == 4,
    }
    result = {"command": vars(options) | {"out": ""}, "killed_at": places, "runs": runs}
    path = options.out / f"server_restart_{options.device}.json"
    path.write_text(json.dumps({**result, "checks": checks}, indent=2) + "\n")
    print(json.dumps({"checks": checks, "runs": runs}, indent=2))
    return int(not all(checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())
