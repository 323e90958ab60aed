"""The whole program on a GPU: `run --device cuda --encoder none` on copies of a clip.

    python benchmarks/gpu/end_to_end.py CLIP --out end_to_end.json --shapes 1x1 1x4 2x4 4x2

A shape is processes x videos at a time in each, with `@N` for `--in-flight N`, `/M` behind it
for M frames in a request, and `:K` behind that for `--detect-every K`. With `--also DIR ...` each
shape is run with the clients of other checkouts, too.
All use one embedded server, started once, which makes sessions for the frames that the shapes have
in a request and under way, as one of `run` does. `frames_per_s` counts from a stream's opening to
its end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import stand_in  # type: ignore[import-not-found] # the script beside this one
from decode import repeated  # type: ignore[import-not-found] # the script beside this one

from dualface_client.background import BackgroundLoop
from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device_cuda import for_cuda
from dualface_client.stream.load import demands
from dualface_client.triton.batch_sizes import Demand
from dualface_client.triton.mps import multi_process_service
from dualface_client.triton.mps_shares import share_of_client

#: Longest row.
_LIMIT_S = 120


class Smi(BackgroundLoop):
    """Samples utilisation twice a second while it is open; the busiest half is kept."""

    FIELDS = "utilization.gpu,utilization.decoder,memory.used"

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        super().__init__(self._sample, name="smi", period_s=0.5)

    def _sample(self) -> None:
        query = ["nvidia-smi", "-i", os.environ.get("CUDA_VISIBLE_DEVICES", "0")]
        query += [f"--query-gpu={self.FIELDS}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, check=False)
        except FileNotFoundError:  # no GPU here
            return
        if not done.returncode:
            self.rows.append([int(part) for part in done.stdout.split(",")])

    def busiest(self) -> dict[str, int]:
        """Largest of each field."""
        names = ("gpu_percent", "decoder_percent", "gpu_used_mib")
        return dict(zip(names, map(max, zip(*self.rows, strict=True)), strict=True))


def _ended(running: list[subprocess.Popen[str]]) -> list[str]:
    """Waits for processes, ends those that hang, and returns the end of what each one wrote."""
    until_s = time.monotonic() + _LIMIT_S
    found = []
    for process in running:
        try:
            text = process.communicate(timeout=max(0.1, until_s - time.monotonic()))[1]
        except subprocess.TimeoutExpired:  # its row says so
            process.kill()
            text = f"{process.communicate()[1]}\nended after {_LIMIT_S} s"
        found.append(text[-600:])
    return found


def row(
    clip: Path,
    address: str,
    server_pid: int,
    shape: tuple[int, int],
    extra: list[str],
    checkout: Path | None = None,
) -> dict[str, Any]:
    """One shape, with the client of another checkout if there is one."""
    processes, streams = shape
    work = Path(tempfile.mkdtemp())
    for index in range(streams):
        (work / f"copy{index}{clip.suffix}").symlink_to(clip)
    copies = [str(path) for path in sorted(work.glob("copy*"))]
    command = [sys.executable, "-m", "dualface_client", "run", *copies, "--encoder", "none"]
    command += ["--device", "cuda", "--server", address, "--streams", str(streams), "--quiet"]
    command += extra
    environ = {**os.environ, **share_of_client(os.environ)}  # as workers get it
    if checkout is not None:
        environ["PYTHONPATH"] = f"{checkout / 'clients'}:{environ.get('PYTHONPATH', '')}"
    server_before = _tree_cpu_s(server_pid)
    client_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with Smi() as smi:
        running = [
            subprocess.Popen(
                [*command, "--summary", str(work / f"{n}.json")],
                stderr=-1,
                text=True,
                env=environ,
            )
            for n in range(processes)
        ]
        errors = _ended(running)
    wall_s = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    client_s = used.ru_utime + used.ru_stime - client_before.ru_utime - client_before.ru_stime
    server_s = _tree_cpu_s(server_pid) - server_before
    summaries = [json.loads(p.read_text()) for p in sorted(work.glob("*.json"))]
    reports = [report for summary in summaries for report in summary["streams"]]
    frames = sum(report["frames_out"] for report in reports)
    slowest_s = max((report["elapsed_s"] for report in reports), default=0.0)
    return {
        "processes": processes,
        "streams_per_process": streams,
        "frames": frames,
        "frames_per_s": round(frames / slowest_s, 1) if slowest_s else 0.0,
        "wall_s": round(wall_s, 2),
        "client_cores": round(client_s / wall_s, 2),
        "client_cpu_ms_per_frame": round(client_s / max(frames, 1) * 1e3, 3),
        "server_cores": round(server_s / wall_s, 2),
        **smi.busiest(),
        "exit_statuses": sorted({process.returncode for process in running}),
        "latency_p50_ms": _middle_ms(reports, "latency_p50_s"),
        "latency_p99_ms": _middle_ms(reports, "latency_p99_s"),
        "stages_of_first": reports[0].get("stages") if reports else None,
        "warnings": sorted({w for report in reports for w in report["warnings"]}),
        "errors": [text for text in errors if text] + [r["error"] for r in reports if r["error"]],
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """Processes, videos at a time in each, and what they ask for; None is `run`'s own choice."""

    processes: int
    streams: int
    in_flight: int | None
    frames: int | None
    every: int | None

    @classmethod
    def of(cls, text: str) -> Shape:
        """Reads `PROCESSESxSTREAMS[@IN_FLIGHT][/FRAMES][:EVERY]`."""
        rest, _, every = text.partition(":")
        rest, _, frames = rest.partition("/")
        name, _, in_flight = rest.partition("@")
        processes, _, streams = name.partition("x")
        asked = (int(number) if number else None for number in (in_flight, frames, every))
        return cls(int(processes), int(streams), *asked)

    @property
    def size(self) -> tuple[int, int]:
        """Processes, and streams in each."""
        return self.processes, self.streams

    @property
    def options(self) -> list[str]:
        """Of `run`."""
        names = ("--in-flight", "--detection-frames-per-request", "--detect-every")
        given = zip(names, (self.in_flight, self.frames, self.every), strict=True)
        return [part for name, number in given if number for part in (name, str(number))]


def demands_of(shapes: list[str], *, mps: bool) -> dict[str, Demand]:
    """What the server of a run with these shapes is asked."""
    found = []
    for shape in map(Shape.of, shapes):
        detection = replace(
            StreamSettings().detection,
            frames_per_request=shape.frames,
            requests_in_flight=shape.in_flight,
            every=shape.every,
        )
        settings = replace(StreamSettings(), detection=detection)
        settings = for_cuda(settings, shape.streams, mps=mps)
        found.append(demands(settings, shape.processes * shape.streams, 0))
    return {
        model: Demand(
            min(each[model].usual for each in found),
            max(each[model].most for each in found),
            any(each[model].has_single for each in found),
        )
        for model in found[0]
    }


def _middle_ms(reports: list[dict[str, Any]], key: str) -> float:
    """Median over the streams."""
    return round(1e3 * float(statistics.median([report[key] for report in reports] or [0.0])), 1)


def _tree_cpu_s(pid: int) -> float:
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return sum(found.user + found.system for found in times)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shapes", nargs="+", default=["1x1", "1x4", "1x8", "2x4", "4x2"])
    parser.add_argument("--repeat", type=int, default=10, help="times the clip is in the file")
    parser.add_argument("--instances", type=int, help="detector processes")
    parser.add_argument("--mps", action="store_true", help="all processes share the GPU by MPS")
    parser.add_argument("--deciders", type=int, help="of each process, instead of one per stream")
    parser.add_argument("--instant", action="store_true", help="a detector of no cost")
    parser.add_argument(
        "--also",
        type=Path,
        nargs="+",
        default=[],
        help="other checkouts, whose clients are run, too",
    )
    options = parser.parse_args()
    clip = repeated(options.clip, options.repeat)
    rows: list[dict[str, Any]] = [
        {"cpus": os.cpu_count(), "repeat": options.repeat, "mps": options.mps}
    ]
    choice = ServerChoice(
        device="cuda",
        has_live=False,
        detector_instances=options.instances,
        demands=demands_of(options.shapes, mps=options.mps),
    )
    if options.instant:
        stand_in.write(file := options.out.with_suffix(".onnx").absolute())
        choice = replace(choice, detector_onnx=file)
    own = [] if options.deciders is None else ["--deciders", str(options.deciders)]
    with multi_process_service(wanted=options.mps), start_embedded(choice) as server:
        for shape in options.shapes:
            wanted = Shape.of(shape)
            size, extra = wanted.size, wanted.options + own
            for checkout in (None, *options.also):
                found = row(clip, server.grpc_address, server.pid, size, extra, checkout)
                rows.append({"shape": shape, "checkout": str(checkout or ""), **found})
                print(json.dumps(rows[-1]), flush=True)
                options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
