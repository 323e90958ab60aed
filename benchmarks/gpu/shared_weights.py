"""N workers on one Triton against N workers that each load the models: memory side by side.

    python benchmarks/gpu/shared_weights.py --out DIR --device cuda
    python benchmarks/gpu/shared_weights.py --out build --device cpu --workers 1 2 --requests 5

`shared` workers have pixels in registered shared memory and no model; `own` workers run the same
files by the same code in their own process, at only the batch sizes that they use. Every worker
answers the same requests on the same pixels. Writes shared_weights_DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from in_process import config_of, embedded_model  # type: ignore[import-not-found] # the script beside this one

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.memory.region import SystemRegion
from dualface_client.memory.vram import MIB
from dualface_client.observe.gpus import read_gpus
from dualface_client.observe.host import family
from dualface_client.settings.paths import models_dir
from dualface_client.triton.batch_sizes import Demand
from dualface_client.triton.description import FACE_DETECT, FACE_REID, ModelSpec
from dualface_client.triton.session import Session, SlotGroup

BATCHES = {FACE_DETECT.name: 8, FACE_REID.name: 4}
SPECS = (FACE_DETECT, FACE_REID)
#: FP16 models and batches of other sizes: a sum of values near 1 may differ by so much.
TOLERANCE = 0.02

Infer = Callable[[ModelSpec], Any]


def pixels_of(spec: ModelSpec) -> np.ndarray[Any, Any]:
    """The same pictures in every process."""
    shape = (BATCHES[spec.name], *spec.input.dims)
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def shared_worker(address: str, device: str) -> Infer:
    """Requests to the server, pixels in a registered region."""
    groups = {name: SlotGroup(batch, 2) for name, batch in BATCHES.items()}
    make: Any = CudaRegion if device == "cuda" else SystemRegion
    session = Session(address, groups, make_region=make, outputs_in_region=device == "cpu")
    pixels: dict[str, Any] = {spec.name: pixels_of(spec) for spec in SPECS}
    if device == "cuda":
        import cupy

        pixels = {name: cupy.asarray(value) for name, value in pixels.items()}

    def infer(spec: ModelSpec) -> Any:
        with session.lease(spec.name, 30.0) as lease:
            session.input_array(spec.name, lease, BATCHES[spec.name])[:] = pixels[spec.name]
            if device == "cuda":
                cupy.cuda.runtime.deviceSynchronize()
            return session.infer_async(spec.name, lease, BATCHES[spec.name]).result()

    return infer


def own_worker(device: str) -> Infer:
    """The embedded model's own code in this process."""
    model = embedded_model()

    def runner(spec: ModelSpec) -> Any:
        half = "_fp16" if device == "cuda" else ""
        batch = BATCHES[spec.name]
        parameters = {
            "onnx_path": str(models_dir() / f"{spec.name}{half}.onnx"),
            "batches": str(batch),
            "intra_op_threads": "1",
        }
        make = model._CudaRunner if device == "cuda" else model._CpuRunner
        return make(config_of(spec, batch), parameters)

    runners = {spec.name: runner(spec) for spec in SPECS}
    pixels = {spec.name: pixels_of(spec) for spec in SPECS}

    def infer(spec: ModelSpec) -> Any:
        mine, batch = runners[spec.name], BATCHES[spec.name]
        if device == "cpu":
            return mine._infer(pixels[spec.name])
        mine._cuda.copy(mine._pixels, pixels[spec.name].ctypes.data, pixels[spec.name].nbytes)
        return mine.queue(batch)()

    return infer


def work(options: argparse.Namespace) -> None:
    """A worker process: says `ready`, works at `go`, ends at the end of its input."""
    if options.worker == "shared":
        infer = shared_worker(options.address, options.device)
    else:
        infer = own_worker(options.device)
    sums = [float(np.abs(infer(spec)).sum()) for spec in SPECS]
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    for number in range(options.requests):
        infer(FACE_DETECT)
        if number % 8 == 0:
            infer(FACE_REID)
    print(json.dumps({"seconds": time.perf_counter() - start, "sums": sums}), flush=True)
    sys.stdin.readline()


def memory(pids: list[int]) -> dict[str, float]:
    """VRAM of the card, and the host memory of some processes, shared pages counted once."""
    processes = [process for pid in pids for process in family(pid)]
    gpus = read_gpus()
    return {
        "vram_mib": round(gpus[0].memory_used_bytes / MIB, 1) if gpus else 0.0,
        "host_pss_mib": round(sum(p.memory_full_info().pss for p in processes) / MIB, 1),
    }


def measured(kind: str, count: int, options: argparse.Namespace, server: Any) -> dict[str, Any]:
    """One row: `count` workers of a kind."""
    command = [sys.executable, __file__, "--out", "-", "--worker", kind]
    command += ["--device", options.device, "--requests", str(options.requests)]
    command += ["--address", server.grpc_address if server else ""]
    workers = [
        subprocess.Popen(command, stdin=-1, stdout=-1, text=True, bufsize=1) for _ in range(count)
    ]
    for worker in workers:
        said = (worker.stdout.readline() if worker.stdout else "").strip()
        if said != "ready":
            raise SystemExit(f"a {kind} worker ended: {said!r}")
    pids = [worker.pid for worker in workers] + ([server.pid] if server else [])
    ready = memory(pids)
    start = time.perf_counter()
    for worker in workers:
        print("go", file=worker.stdin, flush=True)
    done = [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout]
    wall_s = time.perf_counter() - start
    after = memory(pids)
    for worker in workers:
        worker.communicate()
    items = count * options.requests * BATCHES[FACE_DETECT.name]
    return {
        "kind": kind,
        "workers": count,
        "ready": ready,
        "after_the_work": after,
        "images_per_s": round(items / wall_s, 1),
        "sums": done[0]["sums"],
        "all_workers_alike": all(
            np.allclose(row["sums"], done[0]["sums"], rtol=TOLERANCE) for row in done
        ),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--worker", choices=["shared", "own"], help="for the processes it starts")
    parser.add_argument("--address", default="")
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"batches": BATCHES, "requests": options.requests}
    result["before"] = memory([])
    rows = [measured("own", count, options, None) for count in options.workers]
    detect, reid = BATCHES.values()
    asked = {  # as `run` says it to its server
        FACE_DETECT.name: Demand(detect, detect * max(options.workers)),
        FACE_REID.name: Demand(reid, reid),
    }
    choice = ServerChoice(device=options.device, model_threads=1, demands=asked)
    with start_embedded(choice) as server:
        result["server_alone"] = memory([server.pid])
        rows += [measured("shared", count, options, server) for count in options.workers]
        result["server_after_all_left"] = memory([server.pid])
    result["rows"] = rows
    result["same_results"] = bool(
        np.allclose(rows[0]["sums"], rows[-1]["sums"], rtol=TOLERANCE)
        and all(row["all_workers_alike"] for row in rows)
    )
    path = options.out / f"shared_weights_{options.device}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
