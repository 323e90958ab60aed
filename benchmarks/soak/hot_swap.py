"""Fifty hot swaps of each model under load: does a request fail, are versions mixed?

    python benchmarks/soak/hot_swap.py --out benchmarks/results/soak
    python benchmarks/soak/hot_swap.py --out DIR --device cuda

The embedded server runs both models as exported; four clients send each of them requests without a
pause. `triton.control.swap` brings versions 2, 3, ... live. On a CPU they are in turn of the FP16
and the FP32 file, and a request is mixed where its answer is not, to rounding, what the file of the
version it names answers in process, in every row. On a GPU rounding depends on the batch that a
request was run in: there every second version adds a mark to each number, and a request is mixed
where a row has not its version's mark. Writes hot_swap_DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from dualface_client.errors import DualfaceError
from dualface_client.settings import paths
from dualface_client.triton.connection import Connection
from dualface_client.triton.control import swap
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS, ModelSpec
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.session import Session, SlotGroup

BATCH = {FACE_DETECT.name: 1, FACE_REID.name: 4}
FILES = ("{}.onnx", "{}_fp16.onnx")  # of odd and even versions, on a CPU
MARK = 4096.0


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

    def __init__(
        self, address: str, spec: ModelSpec, files: tuple[Path, Path], clients: int, *, marked: bool
    ) -> None:
        self.spec, self.address, self.files, self.tally = spec, address, files, Tally()
        shape = (BATCH[spec.name], *spec.input.dims)
        self.pixels = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
        self.expected = None if marked else [in_process(spec, path, self.pixels) for path in files]
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
        with Session(self.address, {name: SlotGroup(batch, 2)}) as session:
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
        fits = self._fits(int(version), rows)
        with self._lock:
            self.tally.versions[version] += 1
            self.tally.mixed += not fits
            self.tally.slowest_s = max(self.tally.slowest_s, took_s)

    def _fits(self, version: int, rows: npt.NDArray[Any]) -> bool:
        """Whether every row is that version's."""
        if self.expected is None:
            return bool(np.all((rows.max(axis=-1) > MARK / 2) == (version % 2 == 0)))
        own, other = (self.expected[(version + 1 + n) % 2] for n in range(2))
        # Nearer to the version it names than to the other one, and near at all.
        far, near = (np.abs(rows - each).max(axis=-1) for each in (other, own))
        return bool(np.all(near < 0.1 * far))


def marked(spec: ModelSpec, path: Path, out: Path) -> Path:
    """Writes a model that answers as another does, plus `MARK`."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["unmarked" if name == spec.output.name else name for name in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(MARK, np.float32), "mark"))
    add = onnx.helper.make_node("Add", ["unmarked", "mark"], [spec.output.name])
    model.graph.node.append(add)
    onnx.save(model, out)
    return out


def files_of(spec: ModelSpec, device: str, place: Path) -> tuple[Path, Path]:
    """Weights of odd and of even versions."""
    first, second = (paths.models_dir() / name.format(spec.name) for name in FILES)
    if device == "cpu":
        return first, second
    return second, marked(spec, second, place / f"{spec.name}.onnx")


def in_process(spec: ModelSpec, path: Path, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """What a file answers without a server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
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
        begin_s = time.monotonic()
        result = swap(connection, name, load.files[(version + 1) % 2], server.repository)
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


@contextmanager
def served(
    device: str, place: Path
) -> Iterator[tuple[EmbeddedServer, dict[ModelSpec, tuple[Path, Path]]]]:
    """The server with the first version of each model, and both files of each."""
    files = {spec: files_of(spec, device, place) for spec in MODELS}
    models = [EmbeddedModel(spec, pair[0]) for spec, pair in files.items()]
    how = EmbeddedOptions(1, device=device, model_control=True, ready_timeout_s=240.0)
    with EmbeddedServer(paths.tritonserver_dir(), models, how) as server:
        yield server, files


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=2, help="of each model")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, served(options.device, Path(place)) as pair:
        server, files = pair
        loads = [
            Load(
                server.grpc_address,
                spec,
                files[spec],
                options.clients,
                marked=options.device == "cuda",
            )
            for spec in MODELS
        ]
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
        "answers": {name: dict(tally.versions) for name, tally in tallies.items()},
        "slowest_s": {name: round(tally.slowest_s, 2) for name, tally in tallies.items()},
        "failed": {name: tally.failures[:10] for name, tally in tallies.items()},
        "checks": checks,
    }
    (options.out / f"hot_swap_{options.device}.json").write_text(
        json.dumps(result, indent=2) + "\n"
    )
    print(json.dumps(result, indent=2))
    return int(not all(checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())
