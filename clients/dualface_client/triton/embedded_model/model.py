"""One model for Triton's Python backend, on ONNX Runtime.

This file runs inside Triton's stub process, not in the client: it knows nothing of the package and
takes everything from the model's parameters. One request is run on a view of the stub's shared
memory, without a copy; several are concatenated into one run.

Tensors cross by DLPack, not by `as_numpy` and `Tensor(name, array)`: the stub was built against
NumPy 1 and reads an item size of 0 from NumPy 2's type descriptors, so that arrays come with wrong
strides and go with 0 bytes, without an error.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Serves one ONNX file with one input and one output, batched along the first axis.

    Parameters of the model's config:
        onnx_path: The ONNX file.
        python_path: Entries for `sys.path`, separated by `:`, where onnxruntime is found.
        intra_op_threads: Threads of one run; 0 leaves it to ONNX Runtime.
        device: `cpu`.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the file and runs it once.

        Args:
            args: From Triton; `model_config` is the config as JSON.

        Raises:
            pb_utils.TritonModelException: A parameter, the runtime or the file is wrong.
        """
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        # The stub puts its own interpreter's packages first; ours go behind them, so that a
        # numpy the stub has loaded already stays the one in use.
        sys.path.extend(p for p in parameters["python_path"].split(":") if p not in sys.path)
        self._session = _session(
            parameters["onnx_path"], int(parameters["intra_op_threads"]), parameters["device"]
        )
        dims = [int(size) for size in config["input"][0]["dims"]]
        self._run(np.zeros((1, *dims), np.uint8))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers one batch of requests.

        Args:
            requests: What the dynamic batcher put together.

        Returns:
            One response each, in order.
        """
        inputs = [
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, self._input))
            for request in requests
        ]
        try:
            rows = self._run(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        except Exception as error:  # the stub must answer, whatever ORT raises
            failure = pb_utils.TritonError(f"{self._input}: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        return self._responses(rows, [len(pixels) for pixels in inputs])

    def _run(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = self._session.run([self._output], {self._input: pixels})[0]
        return rows

    def _responses(self, rows: npt.NDArray[Any], sizes: list[int]) -> list[Any]:
        ends = np.cumsum(sizes)
        return [
            pb_utils.InferenceResponse([self._tensor(rows[end - size : end])])
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _tensor(self, rows: npt.NDArray[Any]) -> Any:
        return pb_utils.Tensor.from_dlpack(self._output, _Export(rows))


class _Export:
    """An array whose DLPack capsule the stub may rename.

    The stub marks a capsule it has taken over with a name that is not the standard's
    (`used_dltensor`); NumPy's destructor then writes a traceback to the log for every answer.
    Without a destructor the stub's own release, which comes either way, is the only one.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def __dlpack__(self, stream: object = None) -> Any:
        capsule = self._array.__dlpack__()
        set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
        set_destructor(ctypes.py_object(capsule), None)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def _session(onnx_path: str, threads: int, device: str) -> Any:
    import onnxruntime  # found through python_path, so not before

    if device != "cpu":
        raise pb_utils.TritonModelException(f"device {device!r}: this version knows 'cpu'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(onnx_path, options, providers=["CPUExecutionProvider"])
