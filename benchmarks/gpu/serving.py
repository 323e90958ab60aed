"""What Triton and the ways to hand pixels over cost, on a GPU, with the embedded server.

    python benchmarks/gpu/serving.py --out serving.json

`in_process` runs the embedded model's own code on the same file without Triton, batch after batch;
`triton` sends the same batches from one client with several in flight; `request_ms` is one request
of eight frames after the other by each way, once with the model and once with one of no cost, each
with the pixels lying ready where the way takes them from, and `from_gpu`: in GPU memory first, as a
stream's are, so that the ways by the host copy them there.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import stand_in  # type: ignore[import-not-found] # the script beside this one
import tritonclient.grpc as triton_grpc
from in_process import config_of, embedded_model  # type: ignore[import-not-found] # the script beside this one

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.memory.region import SystemRegion
from dualface_client.settings.paths import models_dir
from dualface_client.triton.batch_sizes import CUDA_BATCHES
from dualface_client.triton.description import FACE_DETECT
from dualface_client.triton.session import Session, SlotGroup

NAME = FACE_DETECT.name
SHAPES = ((1, 16), (8, 4), (8, 8), (16, 4), (16, 8))
REQUESTS = 80


def rate_of(step: Callable[[], object], items: int, seconds: float) -> float:
    """Items per second of repeated steps."""
    until = (start := time.perf_counter()) + seconds
    steps = 0
    while time.perf_counter() < until:
        step()
        steps += 1
    return round(steps * items / (time.perf_counter() - start), 1)


def in_process(seconds: float) -> dict[str, float]:
    """Images per second by batch, without Triton; a run is queued while the one before it works."""
    runner = embedded_model()._CudaRunner(
        config_of(FACE_DETECT, FACE_DETECT.max_batch_size),
        {
            "onnx_path": str(models_dir() / f"{NAME}_fp16.onnx"),
            "batches": ",".join(map(str, CUDA_BATCHES)),
        },
    )
    ahead: deque[Callable[[], Any]] = deque()

    def step(size: int) -> None:
        ahead.append(runner.queue(size))
        if len(ahead) > 1:
            ahead.popleft()()

    rates = {}
    for size in CUDA_BATCHES:
        rates[str(size)] = rate_of(functools.partial(step, size), size, seconds)
        ahead.popleft()()
    return rates


def throughput(address: str, batch: int, depth: int, seconds: float) -> float:
    """Images per second through Triton, pixels in CUDA shared memory."""
    groups = {NAME: SlotGroup(batch, depth + 1)}
    with Session(address, groups, make_region=CudaRegion, outputs_in_region=False) as session:
        pending: deque[Any] = deque()

        def step() -> None:
            with session.lease(NAME, 10.0) as lease:
                pending.append(session.infer_async(NAME, lease, batch))
            if len(pending) >= depth:
                pending.popleft().result()

        rate_of(step, batch, 0.5)
        rate = rate_of(step, batch, seconds)
        while pending:
            pending.popleft().result()
        return rate


def request_ms(address: str, batch: int) -> dict[str, dict[str, float]]:
    """Median of one request after the other, milliseconds, by each way."""
    import cupy

    dims = (batch, *FACE_DETECT.input.dims)
    pixels = np.random.default_rng(1).integers(0, 255, dims, np.uint8)
    on_gpu = cupy.asarray(pixels)

    def to_slot(slot: Any) -> None:
        cupy.copyto(slot, on_gpu)
        cupy.cuda.get_current_stream().synchronize()

    def to_host(slot: Any) -> None:
        on_gpu.get(out=slot)

    client = triton_grpc.InferenceServerClient(address)
    tensor = triton_grpc.InferInput(FACE_DETECT.input.name, list(dims), "UINT8")

    def in_message(get: Callable[[], Any]) -> None:
        tensor.set_data_from_numpy(get())
        client.infer(NAME, [tensor]).as_numpy(FACE_DETECT.output.name)

    found = {
        "ready": {
            "cuda_shm": _shared_ms(address, batch, CudaRegion, lambda _: None),
            "system_shm": _shared_ms(address, batch, SystemRegion, lambda _: None),
            "bytes": median_ms(lambda: in_message(lambda: pixels)),
        },
        "from_gpu": {
            "cuda_shm": _shared_ms(address, batch, CudaRegion, to_slot),
            "system_shm": _shared_ms(address, batch, SystemRegion, to_host),
            "bytes": median_ms(lambda: in_message(on_gpu.get)),
        },
    }
    client.close()
    return found


def _shared_ms(address: str, batch: int, region: Any, fill: Callable[[Any], None]) -> float:
    groups = {NAME: SlotGroup(batch, 1)}
    in_region = region is SystemRegion
    with Session(address, groups, make_region=region, outputs_in_region=in_region) as session:

        def step() -> None:
            with session.lease(NAME, 10.0) as lease:
                fill(session.input_array(NAME, lease, batch))
                pending = session.infer_async(NAME, lease, batch)
            pending.result()

        return median_ms(step)


def median_ms(step: Callable[[], object]) -> float:
    """Median time of a step after some to warm up."""
    times = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(times[REQUESTS // 4 :]), 3)


def gpu_memory() -> list[str]:
    """Used memory of the GPU and of each process on it."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[:1]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-process", action="store_true", help="only that, printed as JSON")
    options = parser.parse_args()
    if options.in_process:
        print(json.dumps(in_process(options.seconds)))
        return
    command = [sys.executable, __file__, "--out", "-", "--in-process"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows: dict[str, Any] = {"in_process": (done.stdout.strip().splitlines() or [""])[-1]}
    if done.returncode:
        rows["in_process_error"] = done.stderr[-1500:]
    else:
        rows["in_process"] = json.loads(rows["in_process"])
    rows["gpu_memory_before"] = gpu_memory()
    start = time.perf_counter()
    with start_embedded(ServerChoice(device="cuda")) as server:
        rows["server_start_s"] = round(time.perf_counter() - start, 1)
        rows["gpu_memory_with_server"] = gpu_memory()
        rows["request_ms_batch_8"] = request_ms(server.grpc_address, 8)
        rows["triton"] = {
            f"batch {batch} x {depth}": throughput(
                server.grpc_address, batch, depth, options.seconds
            )
            for batch, depth in SHAPES
        }
        rows["log"] = server.log_tail(5)
    stand_in.write(file := options.out.with_suffix(".onnx").absolute())
    with start_embedded(ServerChoice(device="cuda", detector_onnx=file)) as server:
        rows["request_ms_batch_8_model_of_no_cost"] = request_ms(server.grpc_address, 8)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
