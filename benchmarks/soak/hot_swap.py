"""Twenty hot swaps of both models under load: does a request fail, are versions mixed?

    python benchmarks/soak/hot_swap.py --out benchmarks/results/soak

The embedded server runs both models as exported; four clients send each of them requests without a
pause. `triton.control.swap` brings versions 2, 3, ... live, in turn of the FP16 and the FP32 file.
A request is mixed where its answer is not, to rounding, what the file of the version it names
answers in process, in every row. Writes hot_swap.json.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from dualface_client.errors import DualfaceError
from dualface_client.settings import paths
from dualface_client.triton.connection import Connection
from dualface_client.triton.control import swap
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS, ModelSpec
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.session import Session, SlotPlan

BATCH = {FACE_DETECT.name: 1, FACE_REID.name: 4}
FILES = ("{}.onnx", "{}_fp16.onnx")  # of odd and even versions


@dataclass(slots=True)
class Tally:
    """What the clients of one model met.

    Attributes:
        versions: Answers by the version they name.
        mixed: Answers that are not that version's in every row.
        failures: Messages of requests that failed.
        slowest_s: Longest time from sending to the answer, seconds.
    """

    versions: Counter[str] = field(default_factory=Counter)
    mixed: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


class Load:
    """Clients of one model, each with a session of its own."""

    def __init__(self, address: str, spec: ModelSpec, clients: int) -> None:
        self.spec, self.address, self.tally = spec, address, Tally()
        shape = (BATCH[spec.name], *spec.input.dims)
        self.pixels = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
        self.expected = [in_process(spec, name, self.pixels) for name in FILES]
        self.gap = float(np.abs(self.expected[0] - self.expected[1]).max(axis=-1).min())
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the clients."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        name, batch = self.spec.name, BATCH[self.spec.name]
        with Session(self.address, {name: SlotPlan(batch, 2)}) as session:
            while not self._stop.is_set():
                begin_s = time.monotonic()
                try:
                    with session.lease(name, 10.0) as lease:
                        session.input_array(name, lease, batch)[:] = self.pixels
                        pending = session.infer_async(name, lease, batch)
                    rows = pending.result()
                except DualfaceError as error:
                    with self._lock:
                        self.tally.failures.append(str(error))
                    continue
                self._count(pending.model_version, rows, time.monotonic() - begin_s)

    def _count(self, version: str, rows: npt.NDArray[Any], took_s: float) -> None:
        own, other = (self.expected[(int(version) + 1 + n) % 2] for n in range(2))
        # Row by row: nearer to the version it names than to the other one, and near at all.
        far, near = (np.abs(rows - each).max(axis=-1) for each in (other, own))
        fits = bool(np.all(near < 0.1 * far))
        with self._lock:
            self.tally.versions[version] += 1
            self.tally.mixed += not fits
            self.tally.slowest_s = max(self.tally.slowest_s, took_s)


def in_process(spec: ModelSpec, name: str, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """What a file answers without a server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = paths.models_dir() / name.format(spec.name)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows: npt.NDArray[Any] = session.run([spec.output.name], {spec.input.name: pixels})[0]
    return rows


def swaps(server: EmbeddedServer, loads: list[Load], count: int) -> list[dict[str, Any]]:
    """Swaps the models in turn and waits each time for answers of the new version."""
    connection = Connection(server.grpc_address)
    done = []
    for number in range(count):
        load = loads[number % len(loads)]
        name = load.spec.name
        version = number // len(loads) + 2
        path = paths.models_dir() / FILES[(version + 1) % 2].format(name)
        begin_s = time.monotonic()
        result = swap(connection, name, path, server.repository)
        took_s = time.monotonic() - begin_s
        wait_for(load, result.now)
        done.append({"model": name, "version": result.now, "seconds": round(took_s, 2)})
    connection.close()
    return done


def wait_for(load: Load, version: str, answers: int = 5, limit_s: float = 60.0) -> None:
    """Waits until a version has answered a few times."""
    end_s = time.monotonic() + limit_s
    while load.tally.versions[version] < answers:
        if time.monotonic() > end_s:
            raise SystemExit(f"{load.spec.name}: version {version} answered nothing")
        time.sleep(0.02)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--clients", type=int, default=2, help="of each model")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    first = {spec: paths.models_dir() / FILES[0].format(spec.name) for spec in MODELS}
    models = [EmbeddedModel(spec, path) for spec, path in first.items()]
    how = EmbeddedOptions(1, model_control=True)
    with EmbeddedServer(paths.tritonserver_dir(), models, how) as server:
        loads = [Load(server.grpc_address, spec, options.clients) for spec in MODELS]
        try:
            done = swaps(server, loads, options.swaps)
        finally:
            for load in loads:
                load.close()
    tallies = {load.spec.name: load.tally for load in loads}
    checks = {
        "swaps": len(done) == options.swaps,
        "failed requests 0": not any(tally.failures for tally in tallies.values()),
        "mixed 0": not any(tally.mixed for tally in tallies.values()),
    }
    result = {
        "swaps": done,
        "versions_differ_by": {load.spec.name: load.gap for load in loads},
        "answers": {name: dict(tally.versions) for name, tally in tallies.items()},
        "slowest_s": {name: round(tally.slowest_s, 2) for name, tally in tallies.items()},
        "failed": {name: tally.failures[:10] for name, tally in tallies.items()},
        "checks": checks,
    }
    (options.out / "hot_swap.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return int(not all(checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())
