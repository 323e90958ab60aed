"""What serving costs: one detect request through the embedded Triton against the same in process.

    python benchmarks/serving_cpu.py [--threads 1 2] [--rounds 100] [--out FILE]

Every round runs each way once, in turns, so that a disturbance of the machine meets them all:

- in process: the ONNX Runtime session that the server's model opens, in this process
- shared memory: through the embedded server, input and output in the registered region
- shared memory, output in the message: the same, the small table by gRPC
- bytes: through the embedded server, both in gRPC messages

Medians are compared. A pause lets the threads of the way before stop spinning, the order rotates,
and each timed run follows an untimed one of its own way: without that, a way that happened to
follow another one into the same server measured 0.72 of the in-process time, which serving cannot
be. It was the order that was measured (caches and cores after a change of process).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc as triton_grpc

from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.session import Session, SlotGroup

PAUSE_S = 0.02
TARGET_RATIO = 1.15


def main() -> int:
    """Measures, prints and writes the results."""
    arguments = _arguments()
    onnx_path = paths.models_dir() / "face_detect.onnx"
    results = [_measure(onnx_path, threads, arguments.rounds) for threads in arguments.threads]
    report = {
        "what": "one face_detect request, batch 1, 640x640x3 uint8",
        "rounds": arguments.rounds,
        "cpu_cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "onnxruntime": onnxruntime.__version__,
        "load_average_1min": round(os.getloadavg()[0], 2),
        "target_ratio": TARGET_RATIO,
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {arguments.out}")
    return 0 if all(row["ratio_shared_memory"] <= TARGET_RATIO for row in results) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=100)
    default = Path(__file__).parent / "results" / "serving_cpu.json"
    parser.add_argument("--out", type=Path, default=default)
    return parser.parse_args()


def _measure(onnx_path: Path, threads: int, rounds: int) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (1, *FACE_DETECT.input.dims), np.uint8)
    models = [EmbeddedModel(FACE_DETECT, onnx_path)]
    options = EmbeddedOptions(intra_op_threads=threads)
    with (
        EmbeddedServer(paths.tritonserver_dir(), models, options) as server,
        Session(
            server.grpc_address, {"face_detect": SlotGroup(1, 2)}, specs=(FACE_DETECT,)
        ) as session,
    ):
        ways = {
            "in_process": _in_process(onnx_path, threads, pixels),
            "shared_memory": _shared_memory(session, pixels),
            "shared_memory_output_bytes": _output_in_message(server.grpc_address, session, pixels),
            "bytes": _in_message(server.grpc_address, pixels),
        }
        return _report(threads, _interleaved(ways, rounds))


def _in_process(onnx_path: Path, threads: int, pixels: Any) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(onnx_path), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run([FACE_DETECT.output.name], {FACE_DETECT.input.name: pixels})[0]


def _shared_memory(session: Session, pixels: Any) -> Callable[[], Any]:
    lease = session.lease("face_detect", 1.0, "benchmark")
    # Written once: in the stream loop the letterbox writes here instead of into its own array.
    session.input_array("face_detect", lease)[:] = pixels
    return lambda: session.infer_async("face_detect", lease).result()


def _output_in_message(address: str, session: Session, pixels: Any) -> Callable[[], Any]:
    lease = session.lease("face_detect", 1.0, "benchmark")
    session.input_array("face_detect", lease)[:] = pixels
    tensor = _tensor()
    tensor.set_shared_memory(lease.region_name, FACE_DETECT.input.byte_size, lease.offset)
    client = triton_grpc.InferenceServerClient(address)
    return lambda: client.infer("face_detect", [tensor]).as_numpy(FACE_DETECT.output.name)


def _in_message(address: str, pixels: Any) -> Callable[[], Any]:
    client = triton_grpc.InferenceServerClient(address)

    def run() -> Any:
        tensor = _tensor()
        tensor.set_data_from_numpy(pixels)
        return client.infer("face_detect", [tensor]).as_numpy(FACE_DETECT.output.name)

    return run


def _tensor() -> Any:
    spec = FACE_DETECT.input
    return triton_grpc.InferInput(spec.name, [1, *spec.dims], spec.datatype)


def _interleaved(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    expected = ways["in_process"]()
    for run in ways.values():
        for _ in range(3):
            np.testing.assert_array_equal(run(), expected)
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for number in range(rounds):
        turn = number % len(order)
        for name in order[turn:] + order[:turn]:
            time.sleep(PAUSE_S)
            ways[name]()  # see the module's text: the first run after a change of process is slow
            begin_s = time.perf_counter()
            ways[name]()
            times_s[name].append(time.perf_counter() - begin_s)
    return times_s


def _report(threads: int, times_s: dict[str, list[float]]) -> dict[str, Any]:
    median_ms = {name: statistics.median(times) * 1e3 for name, times in times_s.items()}
    base_ms = median_ms["in_process"]
    row: dict[str, Any] = {"threads": threads}
    for name, value_ms in median_ms.items():
        fastest_ms = min(times_s[name]) * 1e3
        row[f"median_ms_{name}"] = round(value_ms, 3)
        row[f"fastest_ms_{name}"] = round(fastest_ms, 3)
        row[f"ratio_{name}"] = round(value_ms / base_ms, 3)
        print(
            f"{threads} threads  {name:28} median {value_ms:7.2f} ms  "
            f"fastest {fastest_ms:7.2f} ms  ratio {value_ms / base_ms:.3f}"
        )
    return row


if __name__ == "__main__":
    raise SystemExit(main())
