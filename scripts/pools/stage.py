"""One step of a trial ensemble, for Triton's Python backend: passes a mark on, in GPU memory.

Runs inside Triton's stub. The first step gets one byte per request and fills its outputs with it;
every further step looks whether all bytes of its inputs are still that one, and says so with 0 or
passes the byte on. A tensor that was lost on its way cannot carry the right byte.

Parameters: `python_path` (as for the embedded model), `delay_ms` (how long a step takes at least).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

_ANY_TO_ANY = 4  # cudaMemcpyDefault


class TritonPythonModel:
    """See the module."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the config.

        Args:
            args: From Triton; `model_config` is the config as JSON.
        """
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        sys.path.extend(p for p in parameters["python_path"].split(":") if p not in sys.path)
        self._delay_s = float(parameters["delay_ms"]) / 1e3
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = {tensor["name"]: int(tensor["dims"][0]) for tensor in config["output"]}
        self._on_gpu = args["model_instance_kind"] == "GPU" and "check" not in self._outputs
        from dualface_client.triton.embedded_model import model

        self._model = model

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request.

        Args:
            requests: What the scheduler put together.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        begin_s = time.monotonic()
        tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs]
        contents = [self._read(tensor) for tensor in tensors]
        mark = int(contents[0].flat[0])
        intact = all((content == mark).all() for content in contents)
        outputs = [
            self._filled(name, len(contents[0]), size, mark if intact else 0)
            for name, size in self._outputs.items()
        ]
        time.sleep(max(0.0, self._delay_s - (time.monotonic() - begin_s)))
        return pb_utils.InferenceResponse(outputs)

    def _read(self, tensor: Any) -> npt.NDArray[np.uint8]:
        shape = tuple(tensor.shape())
        if tensor.is_cpu():
            return np.array(np.from_dlpack(tensor)).reshape(shape)
        import cupy

        found = self._model._Exported(tensor)
        host = np.empty(shape, np.uint8)
        cupy.cuda.runtime.memcpy(host.ctypes.data, found.address, host.nbytes, _ANY_TO_ANY)
        return host

    def _filled(self, name: str, batch: int, size: int, mark: int) -> Any:
        if not self._on_gpu:
            rows = np.full((batch, size), mark, np.uint8)
            return pb_utils.Tensor.from_dlpack(name, self._model._Export(rows))
        import cupy

        device = cupy.empty((batch, size), cupy.uint8)
        cupy.cuda.runtime.memset(device.data.ptr, mark, device.nbytes)
        cupy.cuda.runtime.deviceSynchronize()
        return pb_utils.Tensor.from_dlpack(name, device)
