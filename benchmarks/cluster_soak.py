"""A run on three Ray machines of one host: one killed, one added, the driver killed and resumed.

    python -m benchmarks.cluster_soak faults --out benchmarks/results/cluster_faults.json
    python -m benchmarks.cluster_soak overhead --out benchmarks/results/cluster_overhead.json

`faults`: 60 short videos; Ray on one machine is ended with SIGKILL while it works, another machine
joins, the driver is ended with SIGKILL, and a second one goes on with --resume. Every output must
be there once, with the tracks of a run without a cluster, and nothing may be left in /dev/shm.

`overhead`: the same videos by `run --workers 2` and by a cluster of one machine with two workers,
in turns; wall time, and CPU time of all processes, which other work does not change much.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from tests.processes import CLI, alive, dead_memory, family, wait_until
from tests.ray_cluster import Cluster, FirstSeen, Machine, short_talks

_LONG_S = 3600.0
_MOST = 1.05


class Bench:
    """One directory with videos."""

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        self.place = place
        self.options = options
        short_talks(place / "in", options.videos, options.frames)

    def start(self, out: str, *more: str) -> subprocess.Popen[bytes]:
        """Starts a run."""
        quick = ("--size", self.options.size, "--preset", "ultrafast", "--model-threads", "1")
        log = (self.place / f"{out}.log").open("ab")
        return subprocess.Popen(
            [*CLI, "run", "in/", "-o", f"{out}/", "--tracks", f"{out}_tracks/", *quick, *more],
            cwd=self.place,
            stdout=log,
            stderr=log,
            env={**os.environ, "RAY_ENABLE_AUTO_CONNECT": "0"},
        )

    def finish(self, process: subprocess.Popen[bytes], out: str) -> None:
        """Waits for a run that must succeed."""
        if process.wait(_LONG_S) != 0:
            sys.exit((self.place / f"{out}.log").read_text())

    def tracks(self, out: str) -> dict[str, bytes]:
        """Every track file's bytes by name."""
        return {path.name: path.read_bytes() for path in (self.place / f"{out}_tracks").iterdir()}


def faults(bench: Bench) -> dict[str, Any]:
    """Kills, adds, kills, resumes; returns what was seen."""
    videos, before = bench.options.videos, dead_memory()
    bench.finish(bench.start("alone", "--workers", "2"), "alone")
    said("alone: done")
    seen = FirstSeen(bench.place / "out")
    with Cluster() as cluster:
        _, _, victim = (cluster.add(cpus) for cpus in (0, 1, 1))  # the first is for drivers
        cluster.add(1)
        options = ("--cluster", cluster.address, "--state", "state.json")
        process = bench.start("out", *options)

        def at(count: int) -> int:
            wait_until(lambda: seen.look() >= count, _LONG_S, f"{count} outputs")
            return seen.look()

        marks = {"node_killed_at": at(videos // 6)}
        kill_raylet(victim)
        said(f"Ray of one machine killed at {marks['node_killed_at']} outputs")
        marks["node_added_at"] = at(videos // 3)
        cluster.add(1)
        said(f"a machine added at {marks['node_added_at']}")
        marks["driver_killed_at"] = at(videos * 3 // 5)
        process.kill()
        process.wait()
        said(f"driver killed at {marks['driver_killed_at']}")
        bench.finish(bench.start("out", *options, "--resume"), "out")
        seen.look()
        ray = [p for machine in cluster.machines for p in machine.processes()]
    entries = json.loads((bench.place / "state.json").read_text())["streams"]
    log = (bench.place / "out.log").read_text()
    outputs = sorted(path.name for path in (bench.place / "out").iterdir())
    alone = bench.tracks("alone")
    found = {
        **marks,
        "videos": videos,
        "outputs": len(outputs),
        "not_outputs": [name for name in outputs if not name.endswith("_dualface.mp4")],
        "made_twice": seen.changed(),
        "other_tracks": [n for n, text in bench.tracks("out").items() if text != alone.get(n)],
        "tracks": len(alone),
        "states": sorted({entry["state"] for entry in entries}),
        "resumed": sum(entry["resumed"] for entry in entries),
        "attempts_most": max(entry["attempts"] for entry in entries),
        "nodes_lost_said": log.count(": lost ("),
        "left_in_shared_memory": sorted(dead_memory() - before),
        "ray_processes_left": len(alive(ray)),
    }
    wrong = ("not_outputs", "made_twice", "other_tracks", "left_in_shared_memory")
    found["passed"] = (
        not any(found[name] for name in wrong)
        and found["outputs"] == videos == found["tracks"]
        and found["states"] == ["done"]
        and found["ray_processes_left"] == 0
    )
    return found


def kill_raylet(machine: Machine) -> None:
    """Ends Ray on a machine, whose other processes get no word: worse than a loss of power."""
    for process in machine.processes():
        if process.name() == "raylet":
            process.kill()


def overhead(bench: Bench) -> dict[str, Any]:
    """Both ways in turns."""
    runs: dict[str, list[dict[str, float]]] = {"alone": [], "cluster": []}
    for number in range(bench.options.repeat):
        with measured() as figures:
            bench.finish(bench.start(f"alone{number}", "--workers", "2"), f"alone{number}")
        runs["alone"].append(figures)
        said(f"alone: {figures}")
        with Cluster() as cluster:
            cluster.add(2)
            time.sleep(5.0)  # Ray's own start is not the run's
            with measured() as figures:
                out = f"cluster{number}"
                more = ("--workers", "2", "--cluster", cluster.address)
                bench.finish(bench.start(out, *more), out)
        runs["cluster"].append(figures)
        said(f"cluster: {figures}")
    middle = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    share = {
        key: round(middle["cluster"][key] / middle["alone"][key], 4) for key in middle["alone"]
    }
    return {
        "videos": bench.options.videos,
        "frames_each": bench.options.frames,
        "load_average": os.getloadavg(),
        "runs": runs,
        "cluster_of_alone": share,
        "passed": share["cpu_s"] <= _MOST,
    }


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Wall time, and CPU time of every process below this one, sampled until it ends."""
    figures: dict[str, float] = {}
    spent: dict[tuple[int, float], float] = {}
    ended = Event()

    def look() -> None:
        for process in family(os.getpid()):
            try:
                times = process.cpu_times()
                spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:  # its last sample counts
                continue

    def watch() -> None:
        while not ended.wait(0.1):
            look()

    look()
    before, begin_s = dict(spent), time.perf_counter()
    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield figures
    finally:
        figures["wall_s"] = round(time.perf_counter() - begin_s, 2)
        ended.set()
        watcher.join()
        cpu_s = sum(cpu - before.get(process, 0.0) for process, cpu in spent.items())
        figures["cpu_s"] = round(cpu_s, 2)


def said(text: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """Runs one of the two and writes what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("faults", "overhead"))
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=75, help="of each video, 25 a second")
    parser.add_argument("--size", default="320x180", help="of the outputs")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = {"faults": faults, "overhead": overhead}[options.what](Bench(Path(place), options))
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
