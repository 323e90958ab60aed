"""Many starts of the embedded server on a busy machine: does one fail, and how long do they take?

    python benchmarks/soak/starts.py --out benchmarks/results/soak
    python benchmarks/soak/starts.py --out DIR --starts 20 --load 0

Processes that only compute keep the machine's load at `--load`. Each server is started with both
models as exported, answers one request of each, and is stopped. Writes starts_DEVICE.json after
every start, so that a run that is ended early counts too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dualface_client.errors import DualfaceError
from dualface_client.settings import paths
from dualface_client.triton.description import MODELS
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.session import Session, SlotGroup


def compute() -> None:
    """Keeps one core busy until it is killed, or its parent has gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


def busy(count: int, stack: ExitStack) -> None:
    """Starts processes that compute until the stack is closed."""
    for _ in range(count):
        process = multiprocessing.get_context("spawn").Process(target=compute, daemon=True)
        process.start()
        stack.callback(process.kill)


def start_once(device: str) -> float:
    """Starts a server, lets each model answer once and stops it.

    Returns:
        Seconds until it was ready.
    """
    suffix = "_fp16" if device == "cuda" else ""
    models = [
        EmbeddedModel(spec, paths.models_dir() / f"{spec.name}{suffix}.onnx") for spec in MODELS
    ]
    # As `dualface-client run` starts it.
    limit_s = 240.0 if device == "cuda" else EmbeddedOptions().ready_timeout_s
    options = EmbeddedOptions(os.cpu_count() or 1, device=device, ready_timeout_s=limit_s)
    begin_s = time.monotonic()
    with EmbeddedServer(paths.tritonserver_dir(), models, options) as server:
        took_s = time.monotonic() - begin_s
        with Session(server.grpc_address, {spec.name: SlotGroup(1, 1) for spec in MODELS}) as one:
            for spec in MODELS:
                with one.lease(spec.name, 10.0) as lease:
                    one.input_array(spec.name, lease)[:] = 0
                    pending = one.infer_async(spec.name, lease)
                pending.result()
    return took_s


def result_of(took_s: list[float], failures: list[str], loads: list[float]) -> dict[str, Any]:
    """What the starts so far say."""
    return {
        "starts": len(took_s) + len(failures),
        "failed": failures,
        "load_1_min": {"mean": round(statistics.mean(loads), 1), "max": round(max(loads), 1)},
        "ready_s": {
            "median": round(statistics.median(took_s), 1) if took_s else None,
            "max": round(max(took_s), 1) if took_s else None,
        },
        "checks": {"failed 0": not failures},
    }


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--load", type=int, default=8, help="of the machine, in processes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    took_s: list[float] = []
    failures: list[str] = []
    loads: list[float] = []
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        busy(max(0, options.load - round(os.getloadavg()[0])), stack)
        for _ in range(options.starts):
            try:
                took_s.append(start_once(options.device))
            except DualfaceError as error:
                failures.append(str(error))
            loads.append(os.getloadavg()[0])
            result = result_of(took_s, failures, loads)
            path = options.out / f"starts_{options.device}.json"
            path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
