"""Checks that an ONNX file is what the bundle serves, by its tensors and by running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dualface_client.errors import AssetError
from dualface_client.triton.description import ModelSpec, TensorSpec

#: ONNX Runtime's names of element types to Triton's.
_ELEMENT = {"tensor(uint8)": "UINT8", "tensor(float16)": "FP16", "tensor(float)": "FP32"}


def check_contract(path: Path, spec: ModelSpec) -> None:
    """Loads a model and runs batches of 1 and 2.

    Args:
        path: An ONNX file.
        spec: Names, types and sizes it must have.

    Raises:
        AssetError: It does not load, or a tensor differs; the message names the tensor.
    """
    session = _load(path)
    for kind, tensors, expected in (
        ("input", session.get_inputs(), spec.input),
        ("output", session.get_outputs(), spec.output),
    ):
        _check_tensors(path, kind, tensors, expected)
    for batch in (1, 2):
        _check_run(path, session, spec, batch)


def _load(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except OSError as error:
        raise AssetError(f"cannot read {path}: {error.strerror}") from error
    # ONNX Runtime raises a class of its own for each status.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AssetError(f"{path} is not a model that ONNX Runtime loads: {reason}") from error


def _check_tensors(path: Path, kind: str, tensors: list[Any], expected: TensorSpec) -> None:
    names = [tensor.name for tensor in tensors]
    wanted = _describe(expected.name, expected.datatype, ["batch", *expected.dims])
    if names != [expected.name]:
        raise AssetError(f"{path}: {kind} tensors are {names}, expected exactly one: {wanted}")
    found = tensors[0]
    datatype = _ELEMENT.get(found.type, found.type)
    fits = datatype == expected.datatype and tuple(found.shape[1:]) == expected.dims
    # A fixed batch shows as a number, a dynamic one as a name or as nothing.
    if not fits or isinstance(found.shape[0], int):
        actual = _describe(found.name, datatype, found.shape)
        raise AssetError(f"{path}: {kind} tensor is {actual}, expected {wanted}")


def _describe(name: str, datatype: str, shape: list[int | str]) -> str:
    return f"{name} {datatype} {'x'.join(str(size) for size in shape)}"


def _check_run(path: Path, session: Any, spec: ModelSpec, batch: int) -> None:
    data = np.zeros((batch, *spec.input.dims), spec.input.dtype)
    try:
        (result,) = session.run([spec.output.name], {spec.input.name: data})
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise AssetError(f"{path} fails on a batch of {batch}: {reason}") from error
    if result.shape != (batch, *spec.output.dims) or result.dtype != spec.output.dtype:
        actual = _describe(spec.output.name, str(result.dtype), list(result.shape))
        wanted = _describe(spec.output.name, str(spec.output.dtype), [batch, *spec.output.dims])
        raise AssetError(f"{path}: output tensor is {actual} after a run, expected {wanted}")
