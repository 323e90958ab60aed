"""One model for Triton's Python backend, on ONNX Runtime.

This file runs inside Triton's stub process, not in the client: it knows nothing of the package and
takes everything from the model's parameters. One request is run on a view of what Triton handed
over, without a copy; several are gathered into one run.

Tensors cross by DLPack, not by `as_numpy` and `Tensor(name, array)`: the stub was built against
NumPy 1 and reads an item size of 0 from NumPy 2's type descriptors, so that arrays come with wrong
strides and go with 0 bytes, without an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Serves one ONNX file with one input and one output, batched along the first axis.

    Parameters of the model's config:
        onnx_path: The ONNX file, for versions without a `model.onnx` of their own.
        python_path: Entries for `sys.path`, separated by `:`, where onnxruntime is found.
        intra_op_threads: Threads of one run; 0 leaves it to ONNX Runtime.
        device: `cpu` or `cuda`.
        batches: For `cuda` the batch sizes that are run, separated by commas; others are padded.
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
        # A version that was added later brings its own weights.
        own = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        if os.path.exists(own):
            parameters["onnx_path"] = own
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        # The stub puts its own interpreter's packages first; ours go behind them, so that a
        # numpy the stub has loaded already stays the one in use.
        sys.path.extend(p for p in parameters["python_path"].split(":") if p not in sys.path)
        make = _CudaRunner if parameters["device"] == "cuda" else _CpuRunner
        self._runner: _CpuRunner | _CudaRunner = make(config, parameters)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers one batch of requests.

        Args:
            requests: What the dynamic batcher put together.

        Returns:
            One response each, in order.
        """
        tensors = [pb_utils.get_input_tensor_by_name(request, self._input) for request in requests]
        try:
            rows, sizes = self._runner.run(tensors)
        except Exception as error:  # the stub must answer, whatever ORT raises
            failure = pb_utils.TritonError(f"{self._input}: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        return self._responses(rows, sizes)

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


class _CpuRunner:
    """Runs on the host."""

    def __init__(self, config: dict[str, Any], parameters: dict[str, str]) -> None:
        import onnxruntime  # found through python_path, so not before

        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["intra_op_threads"])
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            parameters["onnx_path"], options, providers=["CPUExecutionProvider"]
        )
        self._infer(np.zeros((1, *_dims(config["input"][0])), np.uint8))

    def run(self, tensors: list[Any]) -> tuple[npt.NDArray[Any], list[int]]:
        """Output rows of all tensors, and how many belong to each."""
        inputs = [np.from_dlpack(tensor) for tensor in tensors]
        rows = self._infer(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        return rows, [len(pixels) for pixels in inputs]

    def _infer(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = self._session.run([self._output], {self._input: pixels})[0]
        return rows


class _CudaRunner:
    """Runs on the first GPU, on device pointers, at a few batch sizes with a session of each.

    ONNX Runtime searches for convolutions anew whenever the batch size of a session changes, which
    takes a second: no session ever sees two. Other sizes are padded to the next one, larger ones
    are cut. Every run reads and writes the same memory, as a CUDA graph must.
    """

    def __init__(self, config: dict[str, Any], parameters: dict[str, str]) -> None:
        import onnxruntime

        onnxruntime.preload_dlls()  # CUDA and cuDNN of the nvidia-* packages
        self._cuda = _Cuda()
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]
        self._batches = sorted(int(size) for size in parameters["batches"].split(","))
        self._in_dims, self._out_dims = _dims(config["input"][0]), _dims(config["output"][0])
        self._item_bytes = int(np.prod(self._in_dims))
        self._row_bytes = 4 * int(np.prod(self._out_dims))
        largest = self._batches[-1]
        most = -(-int(config["max_batch_size"]) // largest) * largest
        self._pixels = self._cuda.allocate(most * self._item_bytes)
        self._table = self._cuda.allocate(largest * self._row_bytes)
        make = functools.partial(_cuda_session, onnxruntime, parameters["onnx_path"])
        self._runs = {size: self._prepared(make, size) for size in self._batches}

    def run(self, tensors: list[Any]) -> tuple[npt.NDArray[Any], list[int]]:
        """Output rows of all tensors, and how many belong to each."""
        inputs = [_Exported(tensor) for tensor in tensors]
        sizes = [item.count for item in inputs]
        at = self._pixels
        for item in inputs:
            self._cuda.copy(at, item.address, item.count * self._item_bytes)
            at += item.count * self._item_bytes
        return self._run(sum(sizes)), sizes

    def _run(self, count: int) -> npt.NDArray[Any]:
        rows = np.empty((count, *self._out_dims), np.float32)
        largest = self._batches[-1]
        for first in range(0, count, largest):
            part = min(count - first, largest)
            if first:
                ahead = self._pixels + first * self._item_bytes
                self._cuda.copy(self._pixels, ahead, part * self._item_bytes)
            size = next(size for size in self._batches if size >= part)
            self._runs[size]()
            at = rows[first : first + part].ctypes.data
            self._cuda.copy(at, self._table, part * self._row_bytes)
            self._cuda.synchronize()
        return rows

    def _prepared(self, make: Callable[..., Any], size: int) -> Callable[[], None]:
        """One batch size's run, warmed, with what this graph and this runtime can do."""
        for extras in _CUDA_EXTRAS:
            try:
                run = self._bound(make(self._cuda.stream, extras), size)
                for _ in range(_WARM_RUNS):
                    run()
                self._cuda.synchronize()
            except pb_utils.TritonModelException:
                raise
            except Exception as error:  # ONNX Runtime has one class for each status
                if extras is _CUDA_EXTRAS[-1]:
                    raise
                pb_utils.Logger.log_warn(f"{self._output}: not with {extras}: {error}")
            else:
                return run
        raise AssertionError("the last extras either run or raise")

    def _bound(self, session: Any, size: int) -> Callable[[], None]:
        binding = session.io_binding()
        pixels, rows = (size, *self._in_dims), (size, *self._out_dims)
        binding.bind_input(self._input, "cuda", 0, np.uint8, pixels, self._pixels)
        binding.bind_output(self._output, "cuda", 0, np.float32, rows, self._table)
        return functools.partial(session.run_with_iobinding, binding)


class _Cuda:
    """The few calls of the CUDA runtime that are needed, on a stream of their own."""

    _ANY_TO_ANY = 4  # cudaMemcpyDefault
    _NON_BLOCKING = 1  # cudaStreamNonBlocking

    def __init__(self) -> None:
        self._library = _cudart()
        self._call("cudaSetDevice", 0)
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), self._NON_BLOCKING)
        self.stream = int(stream.value or 0)

    def allocate(self, byte_size: int) -> int:
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(byte_size))
        return int(address.value or 0)

    def copy(self, target: int, source: int, byte_size: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(byte_size),
            self._ANY_TO_ANY,
            ctypes.c_void_p(self.stream),
        )

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} failed with CUDA error {status}")


class _DLTensor(ctypes.Structure):
    """`DLTensor` of dlpack.h, the beginning of what a capsule points to."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Exported:
    """Where an input lies, on host or device.

    Read from the capsule itself: `cupy.from_dlpack` of a stub's tensor crashes the stub.
    """

    _CUDA = 2  # kDLCUDA

    def __init__(self, tensor: Any) -> None:
        self._capsule = tensor.to_dlpack()  # keeps the memory
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype = ctypes.c_void_p
        pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
        found = _DLTensor.from_address(pointer(self._capsule, b"dltensor"))
        self.address = int(found.data) + int(found.byte_offset)
        self.count = int(found.shape[0])
        self.on_device = found.device_type == self._CUDA


#: What is tried in turn. Without the fused bias cuDNN adds it in a pass of its own, which takes
#: half of the detector's time; a CUDA graph spares the launches. Not every graph can do both.
_CUDA_EXTRAS: tuple[dict[str, int], ...] = (
    {"fuse_conv_bias": 1, "enable_cuda_graph": 1},
    {"fuse_conv_bias": 1},
    {"enable_cuda_graph": 1},
    {},
)
#: ONNX Runtime captures the graph after two runs.
_WARM_RUNS = 4


def _cuda_session(onnxruntime: Any, onnx_path: str, stream: int, extras: dict[str, int]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    cuda = {
        "device_id": 0,
        "prefer_nhwc": 1,  # the layout of the tensor cores
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "arena_extend_strategy": "kSameAsRequested",  # else it doubles, in every session
        "user_compute_stream": str(stream),
        **extras,
    }
    session = onnxruntime.InferenceSession(
        onnx_path, options, providers=[("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
    )
    # ONNX Runtime falls back to the CPU without an error.
    if "CUDAExecutionProvider" not in session.get_providers():
        raise pb_utils.TritonModelException(
            "ONNX Runtime cannot use CUDA: it needs onnxruntime-gpu, CUDA 13 and cuDNN 9 (pip "
            "install 'dualface-client[run,gpu]'), and no plain onnxruntime beside it"
        )
    return session


def _cudart() -> Any:
    for name in ("libcudart.so.13", "libcudart.so.12", "libcudart.so"):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise pb_utils.TritonModelException(
        "the CUDA runtime is missing: pip install 'dualface-client[run,gpu]'"
    )


def _dims(tensor: dict[str, Any]) -> list[int]:
    return [int(size) for size in tensor["dims"]]
