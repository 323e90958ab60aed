"""Trial deployments: their repository, a server with a given pool, and the load on it."""

from __future__ import annotations

import shutil
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from dualface_client.settings.paths import tritonserver_dir
from dualface_client.triton.embedded import EmbeddedOptions, EmbeddedServer
from dualface_client.triton.log_lines import LogFile
from dualface_client.triton.pool_guard import Fallback, PoolGuard

ENSEMBLE = "all"
_STAGE = """name: "{name}" backend: "python" max_batch_size: 16
input [{inputs}]
output [{outputs}]
instance_group [{{ kind: {kind} count: 1 }}]
parameters {{ key: "python_path" value: {{ string_value: "{path}" }} }}
parameters {{ key: "delay_ms" value: {{ string_value: "{delay_ms}" }} }}
parameters {{ key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: {{ string_value: "no" }} }}
"""
_TENSOR = '{{ name: "{name}" data_type: TYPE_UINT8 dims: [{size}] }}'
_LINK = '{kind} {{ key: "{tensor}" value: "{tensor}" }}'


@dataclass(frozen=True, slots=True)
class Trial:
    """A deployment to try.

    Attributes:
        name: Short name.
        what: What it stands for.
        stages: Bytes of each tensor that a step hands to the next, per batch item and step.
        batch: Items of a request.
        requests: Requests under way.
        delay_ms: How long the last step takes at least: the others run ahead of it.
    """

    name: str
    what: str
    stages: tuple[tuple[int, ...], ...]
    batch: int
    requests: int
    delay_ms: float = 20.0


TRIALS: tuple[Trial, ...] = (
    Trial("one", "pixels prepared by the server, FP32 640x640", ((4915200,),), 1, 16),
    Trial("two", "an NV12 1080p frame and its FP16 input, both kept", ((3110400, 2457600),), 2, 8),
    Trial("chain", "three steps, each on the GPU", ((1228800,), (2457600,)), 8, 4),
)


def write_repository(trial: Trial, root: Path, *, gpu: bool) -> Path:
    """The trial's models and their ensemble.

    Args:
        trial: What to write.
        root: Where; must not exist.
        gpu: Whether its tensors are in GPU memory.
    """
    names = [["seed"]]
    names += [[f"t{n}_{m}" for m in range(len(s))] for n, s in enumerate(trial.stages)]
    names.append(["check"])
    sizes = [(1,), *trial.stages, (1,)]
    tensors = [
        [_TENSOR.format(name=name, size=size) for name, size in zip(*pair, strict=True)]
        for pair in zip(names, sizes, strict=True)
    ]
    kind, last = "KIND_GPU" if gpu else "KIND_CPU", len(trial.stages)
    steps = []
    for index in range(last + 1):
        model = root / f"stage{index}"
        delay_ms = trial.delay_ms if index == last else 0.0
        _write_stage(model, tensors[index], tensors[index + 1], kind, delay_ms)
        links = [_LINK.format(kind="input_map", tensor=name) for name in names[index]]
        links += [_LINK.format(kind="output_map", tensor=name) for name in names[index + 1]]
        steps.append(f'{{ model_name: "{model.name}" model_version: -1 {" ".join(links)} }}')
    seed, check = (_TENSOR.format(name=name, size=1) for name in ("seed", "check"))
    (root / ENSEMBLE / "1").mkdir(parents=True)
    (root / ENSEMBLE / "config.pbtxt").write_text(
        f'name: "{ENSEMBLE}" platform: "ensemble" max_batch_size: 16\n'
        f"input [{seed}]\noutput [{check}]\n"
        f"ensemble_scheduling {{ step [{', '.join(steps)}] }}\n"
    )
    return root


def _write_stage(
    directory: Path, inputs: list[str], outputs: list[str], kind: str, delay_ms: float
) -> None:
    version = directory / "1"
    version.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("stage.py"), version / "model.py")
    import dualface_client

    places = [sysconfig.get_path("purelib"), str(Path(dualface_client.__file__).parents[1])]
    (directory / "config.pbtxt").write_text(
        _STAGE.format(
            name=directory.name,
            inputs=", ".join(inputs),
            outputs=", ".join(outputs),
            kind=kind,
            path=":".join(places),
            delay_ms=delay_ms,
        )
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pool size came to.

    Attributes:
        pool_bytes: Of the CUDA pool.
        requests: Answered.
        garbage: Answers reported as success that did not carry their mark.
        errors: Requests answered with an error.
        fallbacks: Lines of the log by kind.
        seen_after_s: From the start of the load to the guard's alarm; -1 without one.
    """

    pool_bytes: int
    requests: int
    garbage: int
    errors: int
    fallbacks: dict[str, int]
    seen_after_s: float

    @property
    def works(self) -> bool:
        """Whether nothing fell back and nothing was lost."""
        return self.seen_after_s < 0 and not self.garbage and not self.errors


def attempt(
    trial: Trial, repository: Path, pool_bytes: int, seconds: float, *, gpu: bool = True
) -> Outcome:
    """Starts a server with a pool and loads it.

    Args:
        trial: How much is under way.
        repository: From `write_repository`.
        pool_bytes: CUDA pool.
        seconds: How long; each of the trial's requests is answered at least twice all the same.
        gpu: Whether the server has a GPU.
    """
    options = EmbeddedOptions(
        device="cuda" if gpu else "cpu",
        ready_timeout_s=120.0,
        stop_grace_s=3.0,
        cuda_pool_bytes=pool_bytes,
        repositories=(repository,),
    )
    alarms: list[float] = []

    def alarm(fallback: Fallback) -> None:
        if fallback.form.is_fault:
            alarms.append(time.monotonic())

    with EmbeddedServer(tritonserver_dir(), (), options) as server:
        log = LogFile(server.log_path)
        for _ in log.lines():
            pass  # the pinned pool's absence is told at the start of a server without GPUs
        with PoolGuard(log, alarm) as guard:
            loaded_s = time.monotonic()
            counts = _load(server.grpc_address, trial, seconds)
        fallbacks = {kind: count for kind, count in guard.counts.items() if count}
        seen_after_s = round(alarms[0] - loaded_s, 2) if alarms else -1.0
    return Outcome(pool_bytes, counts[0], counts[1], counts[2], fallbacks, seen_after_s)


def _load(address: str, trial: Trial, seconds: float) -> tuple[int, int, int]:
    """Keeps the trial's requests under way; answered, garbage, errors."""
    end_s = time.monotonic() + seconds
    totals = [0, 0, 0]
    lock = threading.Lock()

    def client(number: int) -> None:
        counts = _client(address, trial, number, lambda: time.monotonic() < end_s)
        with lock:
            for index, count in enumerate(counts):
                totals[index] += count

    threads = [threading.Thread(target=client, args=(n,)) for n in range(trial.requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return totals[0], totals[1], totals[2]


def _client(
    address: str, trial: Trial, number: int, go_on: Callable[[], bool]
) -> tuple[int, int, int]:
    client: Any = triton_grpc.InferenceServerClient(address)
    answered = garbage = errors = 0
    mark = 1 + number
    while answered + errors < 2 or go_on():
        mark = mark % 250 + 1
        seed = triton_grpc.InferInput("seed", [trial.batch, 1], "UINT8")
        seed.set_data_from_numpy(np.full((trial.batch, 1), mark, np.uint8))
        try:
            check = client.infer(ENSEMBLE, [seed], client_timeout=30.0).as_numpy("check")
        except InferenceServerException:  # what the trial counts
            errors += 1
            continue
        answered += 1
        garbage += not (check == mark).all()
    client.close()
    return answered, garbage, errors
