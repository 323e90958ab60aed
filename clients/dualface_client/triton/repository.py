"""Renders a model repository from the one description of the models."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from dualface_client.triton.batch_sizes import Demand, batch_sizes
from dualface_client.triton.description import PRIORITY_FILE, ModelSpec
from dualface_client.triton.model_config import config_text, string_parameters, tensor_fields

#: Two queues, the files' by default.
_PRIORITIES = {"priority_levels": PRIORITY_FILE, "default_priority_level": PRIORITY_FILE}


@dataclass(frozen=True, slots=True)
class Serving:
    """How one model is served, as far as the description leaves it open.

    Attributes:
        backend: Triton backend: `python`, later `onnxruntime` or `tensorrt`.
        instance_kind: `KIND_CPU` or `KIND_GPU`.
        instance_count: Copies that run at the same time, on each of `gpus`.
        gpus: Indices of the GPUs for `KIND_GPU`; empty means every GPU there is.
        preferred_batch_sizes: Batches the dynamic batcher aims for; empty takes what is waiting.
        max_queue_delay_us: How long it waits to fill a batch.
        has_priorities: Whether requests of live streams are answered before those of files.
        parameters: Backend parameters.
    """

    backend: str
    instance_kind: str = "KIND_CPU"
    instance_count: int = 1
    gpus: tuple[int, ...] = ()
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    has_priorities: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PythonModel:
    """What the embedded Python-backend model needs.

    Attributes:
        spec: Contract of the model.
        onnx_path: Weights.
        intra_op_threads: Threads of one run, 0 for ONNX Runtime's choice.
        instance_count: Copies that run at the same time, each a process of its own.
        device: `cpu` or `cuda` (the first GPU).
        python_path: Directories where the stub finds onnxruntime.
        has_priorities: Whether requests of live streams are answered before those of files.
        demand: What it is going to be asked, None for anything; only on `cuda`.
        is_known: Whether it is one of ours, whose kernels are known not to need large stacks.
    """

    spec: ModelSpec
    onnx_path: Path
    intra_op_threads: int
    instance_count: int = 1
    device: str = "cpu"
    python_path: tuple[Path, ...] = ()
    has_priorities: bool = True
    demand: Demand | None = None
    is_known: bool = False


def served_config(spec: ModelSpec, serving: Serving) -> str:
    """The `config.pbtxt` of a model.

    Args:
        spec: What it is.
        serving: How it runs.
    """
    return config_text(
        {
            "name": spec.name,
            "backend": serving.backend,
            "max_batch_size": spec.max_batch_size,
            "input": [tensor_fields(spec.input)],
            "output": [tensor_fields(spec.output)],
            "instance_group": [_instances(serving)],
            "dynamic_batching": {
                "preferred_batch_size": list(serving.preferred_batch_sizes),
                "max_queue_delay_microseconds": serving.max_queue_delay_us,
                **(_PRIORITIES if serving.has_priorities else {}),
            },
            "parameters": string_parameters(serving.parameters),
        }
    )


def python_serving(model: PythonModel) -> Serving:
    """How the embedded server runs a model on ONNX Runtime.

    A CPU gains nothing from larger batches (one run already uses all its threads), and a live frame
    that shared one with a file's would wait for all of it: each request runs alone, the most urgent
    one first. Of Triton 2.51 with priorities, what is sent while a model is busy is not noticed
    when the model ends, but with the next request or half a second later: so there are none where
    nothing is to be put first.
    """
    parameters = {
        "onnx_path": str(model.onnx_path),
        "python_path": ":".join(str(path) for path in model.python_path),
        "intra_op_threads": str(model.intra_op_threads),
        "device": model.device,
    }
    if model.device == "cpu":
        return Serving(
            "python",
            instance_count=model.instance_count,
            preferred_batch_sizes=(1,),
            has_priorities=model.has_priorities,
            parameters=parameters,
        )
    batches = batch_sizes(model.spec.max_batch_size, model.demand)
    return Serving(
        "python",
        instance_kind="KIND_GPU",
        instance_count=model.instance_count,
        gpus=(0,),
        preferred_batch_sizes=model.spec.preferred_batch_sizes,
        max_queue_delay_us=model.spec.max_queue_delay_us,
        has_priorities=model.has_priorities,
        parameters={
            **parameters,
            "batches": ",".join(map(str, batches)),
            "small_stacks": "yes" if model.is_known else "no",
            # Otherwise Triton copies every input to the host for the stub.
            "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        },
    )


def write_python_model(repository: Path, model: PythonModel) -> None:
    """Adds one model to a repository: its config and the Python file.

    Args:
        repository: The model repository; created if missing.
        model: What to serve.
    """
    version = repository / model.spec.name / "1"
    version.mkdir(parents=True)
    config = served_config(model.spec, python_serving(model))
    (version.parent / "config.pbtxt").write_text(config)
    source = files("dualface_client.triton.embedded_model") / "model.py"
    (version / "model.py").write_text(source.read_text())


def add_python_version(repository: Path, model: str, onnx_path: Path) -> int:
    """Adds weights as a new version to a model of `write_python_model`.

    A server uses it when it is told to load the model.

    Args:
        repository: The model repository.
        model: Name of the model.
        onnx_path: The weights; copied.

    Returns:
        The version's number, one above the highest.

    Raises:
        FileNotFoundError: The repository has no such model.
    """
    versions = [int(path.name) for path in (repository / model).iterdir() if path.name.isdigit()]
    newest = repository / model / str(max(versions))
    added = newest.with_name(str(max(versions) + 1))
    # Until it is complete, its name is not a version's.
    unfinished = added.with_name(f".{added.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # usually there is none
    unfinished.mkdir()
    shutil.copy(newest / "model.py", unfinished)
    shutil.copy(onnx_path, unfinished / "model.onnx")
    unfinished.rename(added)
    return int(added.name)


def _instances(serving: Serving) -> dict[str, Any]:
    return {
        "kind": serving.instance_kind,
        "count": serving.instance_count,
        "gpus": list(serving.gpus),
    }
