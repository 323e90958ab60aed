"""Compares what a server serves with the description of the models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualface_client.errors import ContractError
from dualface_client.triton.connection import Connection
from dualface_client.triton.description import (
    FACE_DETECT,
    ModelSpec,
    TensorSpec,
    with_detector_size,
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model as the server has it.

    Attributes:
        spec: The description with what was learned: the detector's input size, the batch limit.
        version: Newest version served.
        platform: Triton's platform or backend name, such as `tensorrt_plan` or `python`.
    """

    spec: ModelSpec
    version: str
    platform: str


def check_contract(connection: Connection, specs: Iterable[ModelSpec]) -> dict[str, ServedModel]:
    """Fetches each model's metadata and config and compares them with the description.

    Args:
        connection: To a ready server.
        specs: What this client speaks.

    Returns:
        The models by name.

    Raises:
        ContractError: A model or tensor differs; the message names it.
        ServerError: The server does not answer.
    """
    return {spec.name: _served(connection, spec) for spec in specs}


def _served(connection: Connection, spec: ModelSpec) -> ServedModel:
    what = f"contract of {spec.name}"
    metadata = connection.call(what, "get_model_metadata", spec.name)
    config = connection.call(what, "get_model_config", spec.name).config
    if config.max_batch_size < 1:
        raise ContractError(
            f"{spec.name} at {connection.address}: max_batch_size is {config.max_batch_size}, "
            f"expected 1 or more (the description says {spec.max_batch_size})"
        )
    expected = compare_tensors(spec, _tensors(metadata.inputs), _tensors(metadata.outputs))
    return ServedModel(
        replace(expected, max_batch_size=min(spec.max_batch_size, config.max_batch_size)),
        metadata.versions[-1] if metadata.versions else "",
        config.platform or config.backend,
    )


def compare_tensors(
    spec: ModelSpec, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> ModelSpec:
    """Compares tensors with a description.

    Args:
        spec: What the model should be.
        inputs: Its inputs, without the batch dimension.
        outputs: Its outputs, likewise.

    Returns:
        The description with the detector's input size as found.

    Raises:
        ContractError: A tensor differs; the message names it.
    """
    given = _one(spec, "input", inputs)
    expected = _with_learned_size(spec, given)
    _compare(spec.name, "input", expected.input, given)
    _compare(spec.name, "output", expected.output, _one(spec, "output", outputs))
    return expected


def _tensors(values: Any) -> list[TensorSpec]:
    return [
        # The first dimension is the batch.
        TensorSpec(value.name, value.datatype, tuple(int(size) for size in value.shape)[1:])
        for value in values
    ]


def _one(spec: ModelSpec, kind: str, tensors: Sequence[TensorSpec]) -> TensorSpec:
    wanted = getattr(spec, kind).name
    if [tensor.name for tensor in tensors] != [wanted]:
        names = ", ".join(repr(tensor.name) for tensor in tensors) or "none"
        raise ContractError(f"{spec.name}: {kind} tensors are {names}, expected only {wanted!r}")
    return tensors[0]


def _with_learned_size(spec: ModelSpec, given: TensorSpec) -> ModelSpec:
    if spec.name != FACE_DETECT.name or len(given.dims) != 3:
        return spec
    height_px, width_px, _ = given.dims
    try:
        return with_detector_size(spec, width_px, height_px)
    except ValueError as error:
        raise ContractError(f"{spec.name}: input {given.name!r}: {error}") from error


def _compare(model: str, kind: str, expected: TensorSpec, given: TensorSpec) -> None:
    for aspect in ("datatype", "dims"):
        want, have = getattr(expected, aspect), getattr(given, aspect)
        if want != have:
            raise ContractError(
                f"{model}: {kind} {expected.name!r} has {aspect} {have}, expected {want}. "
                "Serve the models of this bundle's version"
            )
