"""What it costs to send frames in messages: `--transport bytes` against shared memory, in turns.

    python benchmarks/transport.py CLIP [--rounds 5] [--out results/transport.json]

Both use one embedded server on this machine, so that the network's own time is not in it: at
1 Gbit/s a picture of the detector (1.2 MB) takes 10 ms. `compression` is what zlib would save of
the clip's pictures, and the time that it takes, for deciding whether it would pay.
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
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.triton.description import FACE_DETECT
from dualface_client.types import Letterbox
from dualface_client.video.source import PyavSource

KINDS = ("shm", "bytes", "gzip")
_PICTURES = 20


def run(clip: Path, address: str, server: psutil.Process, transport: str) -> dict[str, Any]:
    """One run; its figures for each frame."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        command = [sys.executable, "-m", "dualface_client", "run", str(clip), "--encoder", "none"]
        command += ["--server", address, "--transport", transport, "--device", "cpu", "--quiet"]
        command += ["--tracks", str(work / "tracks.txt"), "--summary", str(work / "summary.json")]
        server_s, client_s = _cpu_s(server), os.times()
        subprocess.run(command, check=True)
        used = os.times()
        (report,) = json.loads((work / "summary.json").read_text())["streams"]
        frames = report["frames_out"]
        return {
            "transport": transport,
            "frames_per_s": round(frames / report["elapsed_s"], 2),
            "client_cpu_ms": round(
                1e3 * (used.children_user + used.children_system) / frames
                - 1e3 * (client_s.children_user + client_s.children_system) / frames,
                2,
            ),
            "server_cpu_ms": round(1e3 * (_cpu_s(server) - server_s) / frames, 2),
            "tracks": (work / "tracks.txt").read_text(),
        }


def _cpu_s(root: psutil.Process) -> float:
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(found.user + found.system for found in times)


def compression(clip: Path) -> list[dict[str, Any]]:
    """Share of the bytes that is left, and milliseconds, for one picture at zlib's levels."""
    pictures = _pictures(clip)
    rows = []
    for level in (1, 6):
        began_s = time.process_time()
        sizes = [len(zlib.compress(picture, level)) for picture in pictures]
        took_s = time.process_time() - began_s
        share = sum(sizes) / sum(map(len, pictures))
        saved = (1 - share) * len(pictures[0])
        ms = 1e3 * took_s / len(pictures)
        rows.append(
            {
                "level": level,
                "share_left": round(share, 3),
                "ms": round(ms, 1),
                # Below this rate, the time that is saved on the way is more than that of zlib.
                "pays_below_mbit_s": round(saved * 8 / 1e6 / (ms / 1e3), 1),
            }
        )
    return rows


def _pictures(clip: Path) -> list[bytes]:
    height, width, _ = FACE_DETECT.input.dims
    imaging, found = CpuImaging(), []
    with closing(PyavSource(clip)) as source:
        for frame in source:
            image = frame.image
            out = np.empty((1, *FACE_DETECT.input.dims), np.uint8)
            fit = Letterbox.fit(image.size_wh_px, (width, height))
            imaging.letterbox([image], [fit], out)
            found.append(out.tobytes())
            if len(found) == _PICTURES:
                break
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    default = Path(__file__).parent / "results" / "transport.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with start_embedded(ServerChoice()) as server:
        process = psutil.Process(server.pid)
        for number in range(options.rounds):
            order = KINDS[number % 3 :] + KINDS[: number % 3]
            rows += [run(options.clip, server.grpc_address, process, each) for each in order]
    same = len({row.pop("tracks") for row in rows}) == 1
    names = ("frames_per_s", "client_cpu_ms", "server_cpu_ms")
    medians = {
        transport: {
            name: statistics.median(row[name] for row in rows if row["transport"] == transport)
            for name in names
        }
        for transport in KINDS
    }
    result = {
        "cpus": len(os.sched_getaffinity(0)),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "bytes_a_picture": FACE_DETECT.input.byte_size,
        "tracks_are_the_same": same,
        "medians": medians,
        "compression": compression(options.clip),
        "runs": rows,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in list(result)[:-1]}, indent=1))


if __name__ == "__main__":
    main()
