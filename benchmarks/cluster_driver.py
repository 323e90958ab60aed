"""The driver of a cluster alone: memory and time for 100,000 listed videos.

    python -m benchmarks.cluster_driver --out benchmarks/results/cluster_driver.json

Lists a directory of so many tiny files as `run` does, and gives them to nodes that answer at once.
Writes seconds and resident memory of each step; fails above the limits below.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from dualface_client.batch.prepare import prepare_run
from dualface_client.batch.run import RunRequest
from dualface_client.cluster.driver import Answer, Driver, Joined, NodeEvent
from dualface_client.cluster.messages import News, Order
from dualface_client.observe.report import RunSummary
from dualface_client.observe.state_file import write_state
from dualface_client.stream.job import new_statuses
from dualface_client.stream.stop import Stop

LIMIT_S, LIMIT_MIB = 60.0, 500


class InstantNodes:
    """Nodes that are done with every video before they are asked about it."""

    def __init__(self, count: int, capacity: int) -> None:
        self._capacity = capacity
        self._coming: deque[NodeEvent] = deque(Joined(f"node{number}") for number in range(count))

    def events(self, wait_s: float) -> Sequence[NodeEvent]:
        """As `driver.Nodes`."""
        del wait_s
        found, self._coming = list(self._coming), deque()
        return found

    def send(self, node: str, order: Order) -> None:
        """As `driver.Nodes`."""
        reports = []
        for task in order.tasks:
            (status,) = new_statuses([task.job])
            reports.append(replace(status.snapshot(), state="done", frames_out=75, elapsed_s=3.0))
        self._coming.append(Answer(node, News(self._capacity, tuple(reports))))

    def dismiss(self, node: str) -> None:
        """As `driver.Nodes`."""
        raise AssertionError(node)


class Steps:
    """Seconds and memory of one step after the other."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, float]] = {}
        self._process = psutil.Process()
        self._begin()

    def done(self, name: str) -> None:
        """Ends a step and begins the next one."""
        resident_mib = self._process.memory_info().rss / 2**20
        self.figures[name] = {
            "seconds": round(time.perf_counter() - self._begin_s, 2),
            "cpu_seconds": round(time.process_time() - self._begin_cpu_s, 2),
            "resident_mib": round(resident_mib, 1),
        }
        self._begin()

    def _begin(self) -> None:
        self._begin_s, self._begin_cpu_s = time.perf_counter(), time.process_time()


def measure(directory: Path, videos: int, nodes: int, capacity: int) -> dict[str, Any]:
    """Lists, checks and schedules."""
    (directory / "in").mkdir()
    for number in range(videos):
        (directory / "in" / f"talk{number:06}.mp4").write_bytes(b"tiny")
    steps = Steps()
    steps.done("start")
    request = RunRequest((str(directory / "in"),), str(directory / "out"))
    run = prepare_run(request, elsewhere=True)
    steps.done("listing and checks")
    driver = Driver(
        InstantNodes(nodes, capacity), run.jobs, run.statuses, run.settings, lambda *_: None
    )
    driver.run(Stop())
    steps.done("scheduling")
    write_state(directory / "state.json", run.state)
    steps.done("state, once")
    summary: RunSummary = run.summary(0.0)
    summary.write(directory / "summary.json")
    steps.done("summary")
    assert {stream.state for stream in summary.streams} == {"done"}  # noqa: S101 - of the benchmark
    figures = steps.figures
    total_s = figures["listing and checks"]["seconds"] + figures["scheduling"]["seconds"]
    peak_mib = max(step["resident_mib"] for step in figures.values())
    return {
        "videos": videos,
        "nodes": nodes,
        "capacity_of_each": capacity,
        "steps": figures,
        "listing_and_scheduling_s": round(total_s, 2),
        "peak_resident_mib": peak_mib,
        "within_limits": total_s < LIMIT_S and peak_mib < LIMIT_MIB,
    }


def main() -> int:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--capacity", type=int, default=16, help="videos at a time on each node")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), options.videos, options.nodes, options.capacity)
        options.out.write_text(json.dumps(found, indent=2) + "\n")
        print(json.dumps(found, indent=2), flush=True)
    return 0 if found["within_limits"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
