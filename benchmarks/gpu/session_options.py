"""What ONNX Runtime's options cost the embedded model: start, GPU memory, images per second.

    python benchmarks/gpu/session_options.py --out session_options.json

Each row is a process of its own that makes the embedded model's runner with other options than its
own, a session for each batch size. `one_by_one` waits for each run, `queued` has the next one
queued.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from in_process import config_of, embedded_model  # type: ignore[import-not-found] # the script beside this one

from dualface_client.settings.paths import models_dir
from dualface_client.triton.description import FACE_DETECT, FACE_REID

SPECS = {spec.name: spec for spec in (FACE_DETECT, FACE_REID)}
MIB = 1 << 20
#: Model, batch sizes, provider options, and whether ONNX Runtime plans its memory.
ROWS: tuple[tuple[str, str, dict[str, str], bool], ...] = (
    ("face_detect", "1,4,8,16", {}, False),
    ("face_detect", "1,4,8,16", {}, True),
    ("face_detect", "1,4,8,16", {"cudnn_conv_algo_search": "EXHAUSTIVE"}, True),
    ("face_detect", "1,4,8,16", {"cudnn_conv_use_max_workspace": "0"}, True),
    ("face_detect", "8", {"arena_extend_strategy": "kNextPowerOfTwo"}, True),
    ("face_detect", "8", {"arena_extend_strategy": "kNextPowerOfTwo"}, False),
    ("face_detect", "8", {"enable_cuda_graph": "0"}, True),
    ("face_reid", "1,4,8,16", {}, False),
    ("face_reid", "1,4,8,16", {}, True),
)


def used_mib(model: Any) -> float:
    """GPU memory in use by everybody."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    model._cudart().cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return (total.value - free.value) / MIB


def with_options(model: Any, options: dict[str, str], *, plans: bool) -> None:
    """Puts options over the model's own."""
    own_session, own_options = model._cuda_session, model._cuda_options

    def cuda_options(onnxruntime: Any) -> Any:
        found = own_options(onnxruntime)
        found.enable_mem_pattern = plans
        return found

    def cuda_session(onnxruntime: Any, path: str, stream: int, extras: dict[str, Any]) -> Any:
        return own_session(onnxruntime, path, stream, {**extras, **options})

    model._cuda_session, model._cuda_options = cuda_session, cuda_options


def made(model: Any, name: str, batches: str) -> tuple[Any, dict[int, dict[str, float]]]:
    """The runner, and what each of its sessions took."""
    rows: dict[int, dict[str, float]] = {}
    prepared = model._CudaRunner._prepared

    def watched(runner: Any, make: Callable[..., Any], size: int) -> Any:
        before_mib, begin_s = used_mib(model), time.perf_counter()
        run = prepared(runner, make, size)
        taken_s = time.perf_counter() - begin_s
        rows[size] = {"s": round(taken_s, 2), "mib": round(used_mib(model) - before_mib)}
        return run

    model._CudaRunner._prepared = watched
    config = config_of(SPECS[name], SPECS[name].max_batch_size)
    path = str(models_dir() / f"{name}_fp16.onnx")
    return model._CudaRunner(config, {"onnx_path": path, "batches": batches}), rows


def rate(runner: Any, size: int, ahead: int, seconds: float = 0.7) -> float:
    """Images per second with so many runs queued behind the one that is waited for."""
    until = (begin := time.perf_counter()) + seconds
    runs, waits = 0, deque[Callable[[], Any]]()
    while time.perf_counter() < until:
        waits.append(runner.queue(size))
        runs += 1
        if len(waits) > ahead:
            waits.popleft()()
    for wait in waits:
        wait()
    return round(runs * size / (time.perf_counter() - begin), 1)


def row(number: int) -> dict[str, Any]:
    """One row, in this process."""
    name, batches, options, plans = ROWS[number]
    model = embedded_model()
    with_options(model, options, plans=plans)
    begin_s = time.perf_counter()
    runner, sessions = made(model, name, batches)
    found = {"model": name, "options": options, "memory_pattern": plans}
    found |= {"start_s": round(time.perf_counter() - begin_s, 1), "sessions": sessions}
    for size, session in sessions.items():
        session["one_by_one"] = rate(runner, size, 0)
        session["queued"] = rate(runner, size, 1)
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--row", type=int, help="for the processes it starts")
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(row(options.row)))
        return
    rows = []
    for number in range(len(ROWS)):
        command = [sys.executable, __file__, "--out", "-", "--row", str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        rows.append(json.loads(done.stdout) if not done.returncode else {"error": done.stderr})
        print(rows[-1], flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
