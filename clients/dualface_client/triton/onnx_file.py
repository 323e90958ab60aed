"""What an ONNX file contains, read before a server is started for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualface_client.errors import AssetError, ContractError, PlatformError
from dualface_client.extras import INSTALL
from dualface_client.triton.contract import compare_tensors
from dualface_client.triton.description import ModelSpec, TensorSpec

#: ONNX Runtime's names of element types to Triton's.
_DATATYPE = {"tensor(uint8)": "UINT8", "tensor(float16)": "FP16", "tensor(float)": "FP32"}


def spec_of_file(path: Path, spec: ModelSpec) -> ModelSpec:
    """The description with this file's own values: a detector's input size is the file's.

    Args:
        path: An ONNX file.
        spec: What it should be.

    Raises:
        AssetError: The file is missing or not a model, or a tensor differs; the message names it.
        PlatformError: ONNX Runtime is not installed.
    """
    return spec_of_model(path, load_model(path), spec)


def spec_of_model(path: Path, session: Any, spec: ModelSpec) -> ModelSpec:
    """Like `spec_of_file`, for a file that is already loaded.

    Raises:
        AssetError: A tensor differs; the message names it.
    """
    try:
        return compare_tensors(
            spec, _tensors(session.get_inputs()), _tensors(session.get_outputs())
        )
    except ContractError as error:
        raise AssetError(f"{path}: {error}") from None


def load_model(path: Path) -> Any:
    """An ONNX Runtime session without optimisation: for inspection, not for speed.

    Raises:
        AssetError: The file is missing or not a model.
        PlatformError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise PlatformError(
            f"the embedded server needs ONNX Runtime: {INSTALL}, or use a running server with "
            "--server HOST:PORT"
        ) from error
    if not path.is_file():
        raise AssetError(
            f"{path}: no such model file; run `dualface-client setup`, or name your own with "
            "--detector-onnx and --reid-onnx"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # the exception says it all
    # Optimising takes most of the loading time, and only the signature is needed.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a class of its own for each status
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AssetError(f"{path}: is not a model that ONNX Runtime can load: {reason}") from error


def _tensors(values: list[Any]) -> list[TensorSpec]:
    return [
        # The first dimension is the batch; a size with a name instead of a number is dynamic: -1.
        TensorSpec(
            value.name,
            _DATATYPE.get(value.type, value.type),
            tuple(size if isinstance(size, int) else -1 for size in value.shape[1:]),
        )
        for value in values
    ]
