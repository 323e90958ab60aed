"""How large Triton's CUDA and pinned memory pools must be, term by term.

What uses the pools was read in the sources of Triton 26.07 (core, backend, python_backend,
tensorrt_backend; each term names its file) and is added up for the largest number of requests that
the deployment can have under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from dualface_client.errors import UsageError
from dualface_client.memory.vram import MIB
from dualface_client.triton.description import MODELS, ModelSpec
from dualface_client.triton.ensembles import Ensemble

#: Over the sum, for blocks of several sizes that do not fit into each other's gaps. Blocks are
#: never moved.
MARGIN = 1.5
#: A pool must exist: the Python backend maps it into its processes, and probes it with one byte
#: (python_backend stub_launcher.cc).
FLOOR_BYTES = 8 * MIB
PINNED_FLOOR_BYTES = 16 * MIB
#: What compose.yaml and the embedded server read.
CUDA_KEY = "CUDA_MEMORY_POOL_BYTES"
PINNED_KEY = "PINNED_MEMORY_POOL_BYTES"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs at a time.

    Attributes:
        streams: Video streams, over all clients.
        requests_in_flight: Detection requests of one stream under way.
        batch: Frames of one request.
        backend: `tensorrt` or `python`.
        instances: Copies of each model on the GPU, by name.
        cuda_shared_memory: Whether clients' pixels are in GPU memory; else they are in `/dev/shm`.
        warm_up: Whether the models' configs warm them up.
        ensembles: Ensembles that the server runs beside or instead of the two models.
        bls_bytes: GPU memory of the requests that a Python model makes itself (BLS), per request.
    """

    streams: int = 1
    requests_in_flight: int = 2
    batch: int = 8
    backend: str = "tensorrt"
    instances: Mapping[str, int] = field(default_factory=lambda: {"face_detect": 2, "face_reid": 1})
    cuda_shared_memory: bool = True
    warm_up: bool = True
    ensembles: tuple[Ensemble, ...] = ()
    bls_bytes: int = 0

    def __post_init__(self) -> None:
        for name in ("streams", "requests_in_flight", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.bls_bytes < 0:
            raise UsageError(f"bls bytes {self.bls_bytes}: expected 0 or more")

    @property
    def requests(self) -> int:
        """Requests that can be under way at a time."""
        return self.streams * self.requests_in_flight


@dataclass(frozen=True, slots=True)
class Term:
    """One summand.

    Attributes:
        what: What takes the memory.
        how: The product, in words and numbers.
        byte_size: Its value.
        source: Where the rule comes from.
    """

    what: str
    how: str
    byte_size: int
    source: str


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Both pools.

    Attributes:
        cuda_terms: What uses the CUDA pool.
        pinned_terms: What uses the pinned pool.
    """

    cuda_terms: tuple[Term, ...]
    pinned_terms: tuple[Term, ...]

    @property
    def cuda_bytes(self) -> int:
        """For `--cuda-memory-pool-byte-size`."""
        return _rounded(self.cuda_terms, FLOOR_BYTES)

    @property
    def pinned_bytes(self) -> int:
        """For `--pinned-memory-pool-byte-size`."""
        return _rounded(self.pinned_terms, PINNED_FLOOR_BYTES)


def plan_pools(deployment: Deployment, models: Sequence[ModelSpec] = MODELS) -> PoolPlan:
    """The pools of a deployment.

    Args:
        deployment: What runs at a time.
        models: The models that are asked directly.

    Raises:
        UsageError: The backend is unknown.
    """
    if deployment.backend not in ("tensorrt", "python"):
        raise UsageError(f"backend {deployment.backend!r}: expected 'tensorrt' or 'python'")
    return PoolPlan(tuple(_cuda_terms(deployment)), tuple(_pinned_terms(deployment, models)))


def _cuda_terms(deployment: Deployment) -> list[Term]:
    count, batch = deployment.requests, deployment.batch
    terms = [_direct(deployment)]
    for ensemble in deployment.ensembles:
        per_item = ensemble.peak_bytes
        terms.append(
            Term(
                f"ensemble {ensemble.name}: tensors between its steps ({ensemble.peak_names})",
                f"{count} requests x batch {batch} x {per_item:,}",
                count * batch * per_item,
                "core ensemble_scheduler.cc, memory.cc: a step's output in GPU memory lives until "
                "the steps that read it have ended",
            )
        )
    if deployment.bls_bytes:
        terms.append(
            Term(
                "requests that Python models make (BLS)",
                f"{count} requests x {deployment.bls_bytes:,}",
                count * deployment.bls_bytes,
                "python_backend python_be.cc, request_executor.cc",
            )
        )
    return terms


def _direct(deployment: Deployment) -> Term:
    if deployment.backend == "tensorrt":
        source = (
            "tensorrt_backend instance_state.cc: batches are gathered into the engine's own buffers"
        )
    elif deployment.cuda_shared_memory:
        source = (
            "python_backend python_be.cc: a tensor in the client's CUDA region reaches the stub by "
            "the client's own handle"
        )
    else:
        source = "python_backend python_be.cc: host tensors reach the stub by its shared memory"
    return Term(f"models asked directly ({deployment.backend})", "nothing", 0, source)


def _pinned_terms(deployment: Deployment, models: Sequence[ModelSpec]) -> list[Term]:
    terms = []
    for model in models:
        copies = deployment.instances.get(model.name, 1)
        if deployment.backend == "python":
            continue  # the Python backend moves host tensors by its own shared memory
        terms.append(
            Term(
                f"{model.name}: answers on their way to the host",
                f"{copies} instances x batch {model.max_batch_size} x {model.output.byte_size:,}",
                copies * model.max_batch_size * model.output.byte_size,
                "backend backend_output_responder.cc; output_pinned_memory is on by default",
            )
        )
        if not deployment.cuda_shared_memory:
            terms.append(
                Term(
                    f"{model.name}: pixels on their way to the GPU",
                    f"{copies} instances x batch {model.max_batch_size} x "
                    f"{model.input.byte_size:,}",
                    copies * model.max_batch_size * model.input.byte_size,
                    "backend backend_input_collector.cc; input_pinned_memory is on by default",
                )
            )
        if deployment.warm_up:
            items = sum((1, *model.preferred_batch_sizes))
            terms.append(
                Term(
                    f"{model.name}: warm-up pictures, while it loads",
                    f"{copies} instances x {items} pictures x {model.input.byte_size:,}",
                    copies * items * model.input.byte_size,
                    "core backend_model_instance.cc",
                )
            )
    return terms


def _rounded(terms: Sequence[Term], floor_bytes: int) -> int:
    needed = sum(term.byte_size for term in terms)
    return max(floor_bytes, ceil(needed * MARGIN / MIB) * MIB)


def checked_pool(name: str, value: str, gpu_total_bytes: int | None = None) -> int:
    """A pool size that a user gave.

    Args:
        name: Of the setting, for the message.
        value: What was given, bytes.
        gpu_total_bytes: Memory of the card; None if it is not known or does not matter.

    Raises:
        UsageError: It is not a number, not positive, or larger than the card.
    """
    try:
        size = int(value)
    except ValueError:  # refused below, like what is not positive
        size = 0
    if size <= 0:
        raise UsageError(
            f"{name}={value}: expected a positive number of bytes; without a pool Triton falls "
            "back to slower memory at once. `dualface-client plan` computes it"
        )
    if gpu_total_bytes is not None and size > gpu_total_bytes:
        raise UsageError(
            f"{name}={value}: larger than the GPU's {gpu_total_bytes} bytes. `dualface-client "
            "plan` computes what is needed"
        )
    return size
