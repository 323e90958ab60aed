"""Reads what a model repository's ensembles keep in GPU memory between their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from dualface_client.errors import UsageError

#: Bytes per element of Triton's data types; strings have none of their own.
_ITEM_BYTES = {
    "TYPE_BOOL": 1,
    "TYPE_UINT8": 1,
    "TYPE_INT8": 1,
    "TYPE_UINT16": 2,
    "TYPE_INT16": 2,
    "TYPE_FP16": 2,
    "TYPE_BF16": 2,
    "TYPE_UINT32": 4,
    "TYPE_INT32": 4,
    "TYPE_FP32": 4,
    "TYPE_UINT64": 8,
    "TYPE_INT64": 8,
    "TYPE_FP64": 8,
}


@dataclass(frozen=True, slots=True)
class StepTensor:
    """A tensor that a step of an ensemble writes.

    Attributes:
        name: Its name in the ensemble.
        byte_size: Bytes of one batch item.
        written_by: Index of the step.
        read_last_by: Index of the last step that reads it; that of the writer if none does.
    """

    name: str
    byte_size: int
    written_by: int
    read_last_by: int


@dataclass(frozen=True, slots=True)
class Ensemble:
    """One ensemble.

    Attributes:
        name: Of the model.
        tensors: What its steps write to GPU memory.
        is_chain: Whether the steps follow each other, so that not all tensors live at once.
    """

    name: str
    tensors: tuple[StepTensor, ...]
    is_chain: bool

    @property
    def _peak(self) -> tuple[StepTensor, ...]:
        if not self.is_chain or not self.tensors:
            return self.tensors
        steps = range(max(tensor.written_by for tensor in self.tensors) + 1)
        alive = (
            tuple(t for t in self.tensors if t.written_by <= step <= t.read_last_by)
            for step in steps
        )
        return max(alive, key=lambda tensors: sum(t.byte_size for t in tensors))

    @property
    def peak_bytes(self) -> int:
        """Most bytes of one batch item that are alive at a time."""
        return sum(tensor.byte_size for tensor in self._peak)

    @property
    def peak_names(self) -> str:
        """Names of the tensors that are alive then."""
        return ", ".join(tensor.name for tensor in self._peak) or "none"


def read_ensembles(
    repository: Path, dims: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[Ensemble, ...]:
    """The ensembles of a model repository.

    Args:
        repository: Directory with one directory and `config.pbtxt` per model.
        dims: Shapes to use where a config leaves one open (-1), by `MODEL/TENSOR`.

    Raises:
        UsageError: There is no config, one cannot be read, or a shape is open.
    """
    configs = {path.parent.name: _parse(path) for path in sorted(repository.glob("*/config.pbtxt"))}
    if not configs:
        raise UsageError(f"{repository}: no */config.pbtxt; expected a Triton model repository")
    return tuple(
        _ensemble(name, configs, dims or {})
        for name, config in configs.items()
        if config.platform == "ensemble"
    )


def _parse(path: Path) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        # Fields of a newer Triton are not a reason to stop.
        return text_format.Parse(
            path.read_text(), model_config_pb2.ModelConfig(), allow_unknown_field=True
        )
    except (OSError, text_format.ParseError) as error:
        raise UsageError(f"{path}: cannot be read as a model configuration: {error}") from error


def _ensemble(
    name: str, configs: Mapping[str, Any], dims: Mapping[str, tuple[int, ...]]
) -> Ensemble:
    steps = list(configs[name].ensemble_scheduling.step)
    tensors = []
    for index, step in enumerate(steps):
        model = configs.get(step.model_name)
        if model is None:
            raise UsageError(f"ensemble {name}: its step {step.model_name!r} has no config here")
        if not _answers_on_gpu(model):
            continue
        for output in model.output:
            tensor = step.output_map.get(output.name, "")
            if tensor:
                size = _bytes_of(f"{step.model_name}/{output.name}", output, dims)
                readers = [n for n, s in enumerate(steps) if tensor in s.input_map.values()]
                tensors.append(StepTensor(tensor, size, index, max(readers, default=index)))
    return Ensemble(name, tuple(tensors), _is_chain(steps))


def _answers_on_gpu(model: Any) -> bool:
    """Whether a model's outputs may be in GPU memory, as they may unless it runs on the CPU."""
    from tritonclient.grpc import model_config_pb2

    cpu = model_config_pb2.ModelInstanceGroup.KIND_CPU
    kinds = [group.kind for group in model.instance_group]
    return not kinds or any(kind != cpu for kind in kinds)


def _bytes_of(key: str, output: Any, dims: Mapping[str, tuple[int, ...]]) -> int:
    from tritonclient.grpc import model_config_pb2

    shape = dims.get(key, tuple(output.dims))
    if any(size < 1 for size in shape):
        raise UsageError(
            f"{key} has the open shape {list(shape)}; give its largest one: --dims {key}=..."
        )
    kind = model_config_pb2.DataType.Name(output.data_type)
    if kind not in _ITEM_BYTES:
        raise UsageError(f"{key} is of {kind}, which has no fixed size")
    return prod(shape) * _ITEM_BYTES[kind]


def _is_chain(steps: list[Any]) -> bool:
    """Whether each step reads what the previous one writes, so that they run in this order."""
    return all(
        set(after.input_map.values()) & set(before.output_map.values())
        for before, after in pairwise(steps)
    )
