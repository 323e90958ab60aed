"""Other ways to do this client's work on a GPU, beside it: same clip, same detector, one run.

    python benchmarks/gpu/compare.py CLIP --out compare.json
    python benchmarks/gpu/compare.py --from compare.json --table --plot compare.svg

Each way decodes every frame of all streams, detects faces in it, composes the canvas of two tiles
and throws that away. `docs/comparison.md` says what each way is. All read copies of one file. A row
is run twice, each time in a process of its own with a limit of time: once measured, and once with
somewhat shorter files, in which one process is killed when each stream has a third of its frames.
What was found is written after each of them.

`frames_per_s` counts from a stream's opening to its end, and latency from decoded to composed: the
median over the streams of what each has for its last 1,024 frames. CPU time (of all processes) and
power (of the whole card) are of the time in which all streams were under way.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
from compare_rows import (  # type: ignore[import-not-found] # the modules beside this one
    Job,
    Row,
    client_command,
    run,
    worker_command,
)
from compare_show import plot, table  # type: ignore[import-not-found] # the same
from decode import repeated  # type: ignore[import-not-found] # the same

from dualface_client.observe.gpus import read_gpus

WAYS = ("processes", "cpu-decode", "torch", "client-bytes", "client")
_ONNX = "its own ONNX Runtime session (FP16, channels last, fused bias, CUDA graph, IO binding)"
_TORCH = "its own PyTorch model (FP16, channels_last, one CUDA graph)"
_BATCH = "batches of 16 frames over the streams of a process, the next one queued"
_PACKAGES = ("onnxruntime-gpu", "torch", "torchcodec", "cupy-cuda13x", "PyNvVideoCodec", "av")


def rows_of(ways: list[str], streams: int) -> list[Row]:
    """What is run, in order."""
    few = min(4, streams)
    rows = [
        Row("processes", streams, False, f"a process for each stream, {_ONNX}; NVDEC; {_BATCH}"),
        Row("processes", few, False, f"{_ONNX}; NVDEC, read in turn; {_BATCH}"),
        Row("processes", few, True, "the same under MPS"),
        Row("cpu-decode", 1, False, f"PyAV, a thread for each stream; {_ONNX}; {_BATCH}"),
        Row("torch", few, False, f"{_TORCH}; {_BATCH}"),
        Row("torch", few, True, "the same under MPS"),
        Row("client-bytes", few, False, "this client, pixels in gRPC messages, frames on the CPU"),
        Row("client", few, False, "this client, CUDA shared memory"),
        Row("client", few, True, "the same under MPS"),
    ]
    named = {row.name: row for row in rows if row.way in ways}
    return list(named.values())  # with four streams, two are the same


def frames_in(clip: Path) -> int:
    """Frames of a file, by its packets."""
    with av.open(str(clip)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def job_of(options: argparse.Namespace, work: Path) -> Job:
    """What every row is given."""
    fewer = max(1, options.repeat * 3 // 4)
    clip, short = options.clip.absolute(), options.clip.absolute()
    if not options.dry_run:
        clip, short = repeated(clip, options.repeat), repeated(clip, fewer)
    count = 0 if options.dry_run else frames_in(options.clip)
    return Job(
        clip=clip,
        short=short,
        frames=(count * options.repeat, count * fewer),
        streams=options.streams,
        seconds=options.seconds,
        device=options.device,
        model=options.model and options.model.absolute(),
        torch_python=options.torch_python,
        work=work,
    )


def told(command: list[str], out: Path, limit_s: float) -> dict[str, Any]:
    """The JSON that a command writes to a file, or its error."""
    error = ""
    with subprocess.Popen(command, stderr=-1, text=True, start_new_session=True) as process:
        try:
            error = process.communicate(timeout=limit_s)[1][-1500:]
        except subprocess.TimeoutExpired:  # what it has written counts all the same
            error = f"not ended after {limit_s:g} s"
        finally:
            _end(process)  # one that failed leaves processes
    try:
        found: dict[str, Any] = json.loads(out.read_text())
    except (OSError, ValueError):  # it wrote nothing
        return {"error": error or f"status {process.returncode}"}
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """Kills a command with all that it started; servers end with the one who started them."""
    with contextlib.suppress(ProcessLookupError):  # it ended well
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def one(options: argparse.Namespace) -> None:
    """One phase of one row, for the processes that this program starts; writes JSON."""
    said = json.loads(options.one)
    job = said["job"]
    with tempfile.TemporaryDirectory() as work:
        paths = {key: job[key] and Path(job[key]) for key in ("clip", "short", "model")}
        given = Job(**{**job, **paths, "frames": tuple(job["frames"]), "work": Path(work)})
        found = run(Row(**said["row"]), given, kill=said["kill"])
    Path(said["out"]).write_text(json.dumps(found))


def phase(row: Row, job: Job, options: argparse.Namespace, *, kill: bool) -> dict[str, Any]:
    """One phase of one row, in a process of its own."""
    job_said = {key: value for key, value in vars(job).items() if key != "work"}
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        said = {"row": vars(row), "job": job_said, "kill": kill, "out": out}
        command = [sys.executable, __file__, "--one", json.dumps(said, default=str)]
        found = told(command, out, options.limit)
    return {**found, "took_s": round(time.monotonic() - began_s, 1)}


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """The machine and what is installed."""
    versions = {}
    for name in _PACKAGES:
        # Not everything is installed everywhere.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    gpus = read_gpus() or []
    return {
        "gpu": [f"{gpu.name}, driver {gpu.driver}" for gpu in gpus],
        "cpus": len(os.sched_getaffinity(0)),
        "versions": versions,
        "clip": options.clip.name,
        "streams": options.streams,
        "repeat": options.repeat,
        "seconds": options.seconds,
        "rounds": options.rounds,
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Every row of every round; the file is written after each phase."""
    result: dict[str, Any] = {**facts(options), "rows": []}
    job = job_of(options, Path())
    for number in range(options.rounds):
        for row in rows_of(options.ways, options.streams):
            said: dict[str, Any] = {"name": row.name, **vars(row), "round": number}
            said.update(measured={}, killed={})
            result["rows"].append(said)
            for key, kill in (("measured", False), ("killed", True)):
                if (kill and (options.no_kill or number)) or (not kill and options.only_kill):
                    continue
                said[key] = phase(row, job, options, kill=kill)
                print(row.name, key, json.dumps(said[key]), flush=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def show_commands(options: argparse.Namespace) -> None:
    """Prints how the processes of each row are started."""
    job = job_of(options, Path("WORK"))
    for row in rows_of(options.ways, options.streams):
        print(f"{row.name}: {row.how}")
        if row.way in ("client", "client-bytes"):
            clips = [f"copy{index:02}" for index in range(job.streams)]
            print("   ", *client_command(row, job, clips, "ADDRESS", 8080))
            continue
        print(f"    {row.processes} times:", *worker_command(row, job, job.clip, 0, limit=True))


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("compare.json"))
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=4, help="times the clip is in the file")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seconds", type=float, default=8.0, help="longest measured run")
    parser.add_argument("--limit", type=float, default=75.0, help="seconds of a run with its start")
    parser.add_argument("--no-kill", action="store_true", help="leave out the runs with a kill")
    parser.add_argument("--only-kill", action="store_true", help="leave out the measured runs")
    parser.add_argument("--torch-python", default=sys.executable, help="Python with PyTorch")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try it")
    parser.add_argument("--model", type=Path, help="detector of --device cpu")
    parser.add_argument("--dry-run", action="store_true", help="print the commands of each row")
    parser.add_argument("--from", dest="source", type=Path, help="show these results, run nothing")
    parser.add_argument("--table", action="store_true", help="print a Markdown table")
    parser.add_argument("--plot", type=Path, help="write bars as SVG")
    parser.add_argument("--one", help="for the processes it starts")
    options = parser.parse_args(arguments)
    if not (options.clip or options.source or options.one):
        parser.error("give CLIP, or --from with results")
    return options


def main() -> None:
    """Runs the command line."""
    options = parsed()
    if options.one:
        one(options)
        return
    if options.dry_run:
        show_commands(options)
        return
    result = json.loads(options.source.read_text()) if options.source else compare(options)
    if options.table or not options.source:
        print(table(result))
    if options.plot:
        plot(result, options.plot)


if __name__ == "__main__":
    main()
