"""Checks that an ONNX file is what the bundle serves, by its tensors and by running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dualface_client.errors import AssetError
from dualface_client.triton.description import ModelSpec
from dualface_client.triton.onnx_file import load_model, spec_of_model


def check_contract(path: Path, spec: ModelSpec) -> None:
    """Loads a model and runs batches of 1 and 2.

    Args:
        path: An ONNX file.
        spec: Names, types and sizes it must have.

    Raises:
        AssetError: It does not load, or a tensor differs; the message names the tensor.
    """
    session = load_model(path)
    found = spec_of_model(path, session, spec)
    if found.input.dims != spec.input.dims:
        raise AssetError(
            f"{path}: {spec.name}: input {spec.input.name!r} has dims {found.input.dims}, "
            f"expected {spec.input.dims}"
        )
    for batch in (1, 2):
        _check_run(path, session, spec, batch)


def _check_run(path: Path, session: Any, spec: ModelSpec, batch: int) -> None:
    data = np.zeros((batch, *spec.input.dims), spec.input.dtype)
    try:
        (result,) = session.run([spec.output.name], {spec.input.name: data})
    except Exception as error:  # ONNX Runtime raises a class of its own for each status
        reason = str(error).splitlines()[0]
        raise AssetError(f"{path} fails on a batch of {batch}: {reason}") from error
    actual, wanted = (result.dtype, result.shape), (spec.output.dtype, (batch, *spec.output.dims))
    if actual != wanted:
        raise AssetError(
            f"{path}: output {spec.output.name!r} is {actual[0]} {actual[1]} after a run, "
            f"expected {wanted[0]} {wanted[1]}"
        )
