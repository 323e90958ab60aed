"""One model for Triton's Python backend, on ONNX Runtime.

This file runs inside Triton's stub process, not in the client: it knows nothing about the package
and takes everything from the model's parameters. A single request is run on a view of what Triton
handed over, without a copy; several are gathered into one run.

Tensors are exchanged by DLPack, not by `as_numpy` and `Tensor(name, array)`: the stub was built
against NumPy 1 and reads an item size of 0 from NumPy 2's type descriptors, so arrays would arrive
with wrong strides and leave with 0 bytes, without an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

#: The program that runs this file, and how often it looks whether its server is still there.
_STUB, _PARENT_LOOK_S = "triton_python_backend_stub", 2.0


def end_with_parent() -> None:
    """Ends this process when its parent has gone, from a thread.

    Triton's stub notices that itself, but not where the server was killed while the two passed a
    message: it then waits for a lock that nobody gives back, and keeps its memory for ever. Where
    it keeps Python's lock meanwhile, too, this thread does not run: the server's keeper kills the
    whole group, a container ends with it, and `reap` finds what is left.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def take_share() -> None:
    """Takes the models' share of the GPU under MPS, before this process has a context.

    What is inherited is the server's, which only copies.
    """
    if share := os.environ.get("MPS_PERCENTAGE_OF_MODELS"):
        os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = share


class TritonPythonModel:
    """Serves one ONNX file with one input and one output, batched along the first axis.

    Parameters of the model's config:
        onnx_path: The ONNX file, for versions without a `model.onnx` of their own.
        python_path: First entries for `sys.path`, separated by `:`, where onnxruntime is found.
        intra_op_threads: Threads of one run; 0 leaves it to ONNX Runtime.
        device: `cpu` or `cuda`.
        batches: The batch sizes that `cuda` runs, separated by commas; others are padded.
        small_stacks: `yes` where the stacks of the GPU's threads may be small, see `_STACK_BYTES`.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the file and runs it once.

        Args:
            args: From Triton; `model_config` is the config as JSON.

        Raises:
            pb_utils.TritonModelException: A parameter, the runtime or the file is wrong.
        """
        if os.path.basename(os.path.realpath("/proc/self/exe")) == _STUB:  # not in a test
            end_with_parent()
            take_share()
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        # A version that was added later brings its own weights.
        own = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        if os.path.exists(own):
            parameters.update(onnx_path=own, small_stacks="no")
        self._input = config["input"][0]["name"]
        self._output = config["output"][0]["name"]
        # Before the stub's own interpreter's packages, where another ONNX Runtime may lie. NumPy
        # is loaded already, and stays the stub's.
        ours = parameters["python_path"].split(":")
        sys.path[:] = [*ours, *(place for place in sys.path if place not in ours)]
        make = _CudaRunner if parameters["device"] == "cuda" else _CpuRunner
        self._runner: _CpuRunner | _CudaRunner = make(config, parameters)
        self._answers = _Answers(self._answer)

    def execute(self, requests: list[Any]) -> None:
        """Starts one batch of requests. Their answers are sent when it has ended.

        It returns while this batch is under way, so that Triton gathers the next one meanwhile and
        one process keeps a GPU busy; but not before the previous batch has ended, so that there is
        something to gather.

        Args:
            requests: What the dynamic batcher put together.
        """
        try:
            tensors = [pb_utils.get_input_tensor_by_name(each, self._input) for each in requests]
            batch = self._runner.start(tensors)
        except Exception as error:  # the stub must answer, whatever ONNX Runtime raises
            self._runner.end_if_lost()
            batch = _Batch(functools.partial(_raise, error), [])
        self._answers.add(batch, [request.get_response_sender() for request in requests])

    def finalize(self) -> None:
        """Waits for what is under way; Triton calls it before it unloads the model."""
        self._answers.close()

    def _answer(self, batch: _Batch, senders: list[Any]) -> None:
        try:
            responses = self._responses(batch.rows(), batch.sizes)
        except Exception as error:  # as above; a GPU reports its errors when it is waited for
            self._runner.end_if_lost()
            failure = pb_utils.TritonError(f"{self._input}: {error}")
            responses = [pb_utils.InferenceResponse(error=failure) for _ in senders]
        for sender, response in zip(senders, responses, strict=True):
            try:
                sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception as error:  # such as no room in shared memory; the others get theirs
                pb_utils.Logger.log_warn(f"{self._input}: an answer was not sent: {error}")

    def _responses(self, rows: npt.NDArray[Any], sizes: list[int]) -> list[Any]:
        ends = np.cumsum(sizes)
        return [
            pb_utils.InferenceResponse([self._tensor(rows[end - size : end])])
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _tensor(self, rows: npt.NDArray[Any]) -> Any:
        return pb_utils.Tensor.from_dlpack(self._output, _Export(rows))


class _Batch:
    """Requests under way: what waits for their rows, and how many rows each one has."""

    def __init__(self, wait: Callable[[], npt.NDArray[Any]], sizes: list[int]) -> None:
        self._wait: Callable[[], npt.NDArray[Any]] | None = wait
        self.sizes = sizes

    def rows(self) -> npt.NDArray[Any]:
        """Waits for the rows, once, and gives back the requests' memory.

        This comes before any answer: a client frees its GPU memory after its last answer, and this
        process must no longer have it mapped then.
        """
        wait, self._wait = self._wait, None
        if wait is None:
            raise RuntimeError("the rows of a batch can be taken once")
        return wait()


def _raise(error: Exception) -> Any:
    raise error


class _Answers:
    """A thread that waits for batches in turn and answers them."""

    def __init__(self, answer: Callable[[_Batch, list[Any]], None]) -> None:
        self._answer = answer
        self._under_way: queue.SimpleQueue[tuple[_Batch, list[Any]] | None] = queue.SimpleQueue()
        self._one_ended = threading.Semaphore(1)
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def add(self, batch: _Batch, senders: list[Any]) -> None:
        """Hands a batch over; returns when only this one is under way."""
        self._under_way.put((batch, senders))
        self._one_ended.acquire()

    def close(self) -> None:
        """Answers what is under way and ends."""
        self._under_way.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._under_way.get()) is not None:
            try:
                self._answer(*item)
            except Exception as error:  # this thread must live on: the next batches wait for it
                pb_utils.Logger.log_warn(f"a batch was not answered: {error}")
            finally:
                self._one_ended.release()


class _Export:
    """An array whose DLPack capsule the stub may rename.

    The stub marks a capsule that it has taken over with a non-standard name (`used_dltensor`), and
    NumPy's destructor then writes a traceback to the log for every answer. Without a destructor,
    only the stub itself releases the capsule, which it does in any case.
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
        # Otherwise its threads wait for each other in circles, on cores that encode and compose.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            parameters["onnx_path"], options, providers=["CPUExecutionProvider"]
        )
        self._infer(np.zeros((1, *_dims(config["input"][0])), np.uint8))

    def start(self, tensors: list[Any]) -> _Batch:
        """Runs all tensors as one batch."""
        inputs = [np.from_dlpack(tensor) for tensor in tensors]
        rows = self._infer(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        return _Batch(lambda: rows, [len(pixels) for pixels in inputs])

    def end_if_lost(self) -> None:
        """On a CPU nothing is kept of a run that failed."""

    def _infer(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows: npt.NDArray[Any] = self._session.run([self._output], {self._input: pixels})[0]
        return rows


class _CudaRunner:
    """Runs on the first GPU, on device pointers, at a few batch sizes with one session for each.

    ONNX Runtime searches for convolutions again whenever the batch size of a session changes, which
    takes a second, so no session ever sees two sizes. Other sizes are padded to the next one, and
    larger ones are split. Every run reads and writes the same memory, as a CUDA graph must. A run
    can be queued while the previous one is under way, because all are on one stream.
    """

    def __init__(self, config: dict[str, Any], parameters: dict[str, str]) -> None:
        import onnxruntime

        onnxruntime.preload_dlls()  # CUDA and cuDNN of the nvidia-* packages
        self._cuda = _Cuda()
        if parameters.get("small_stacks") == "yes":
            self._cuda.keep_stacks_small()  # before a session: its CUDA graph would fail later
        self._input, self._output = config["input"][0]["name"], config["output"][0]["name"]
        self._batches = sorted(int(size) for size in parameters["batches"].split(","))
        self._in_dims, self._out_dims = _dims(config["input"][0]), _dims(config["output"][0])
        self._item_bytes = int(np.prod(self._in_dims))
        self._row_bytes = 4 * int(np.prod(self._out_dims))
        largest = self._batches[-1]
        most = -(-int(config["max_batch_size"]) // largest) * largest
        self._pixels = self._cuda.allocate(most * self._item_bytes)
        self._table = self._cuda.allocate(largest * self._row_bytes)
        shape = (most, *self._out_dims)
        self._landings = [_Landing(self._cuda, shape) for _ in range(_LANDINGS)]
        self._turn = 0
        self._end: Callable[[int], object] = os._exit
        # Otherwise a run returns when it has ended, and the GPU idles until the next is queued.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        make = functools.partial(_cuda_session, onnxruntime, parameters["onnx_path"])
        self._runs = {size: self._prepared(make, size) for size in self._batches}

    def start(self, tensors: list[Any]) -> _Batch:
        """Queues all tensors as one batch; their memory is held until it has ended."""
        inputs = [_Exported(tensor) for tensor in tensors]
        sizes = [item.count for item in inputs]
        at = self._pixels
        try:
            for item in inputs:
                self._cuda.copy(at, item.address, item.count * self._item_bytes)
                at += item.count * self._item_bytes
            return _Batch(functools.partial(self.queue(sum(sizes)), inputs), sizes)
        except Exception:
            self._cuda.synchronize()  # what was queued before the failure still reads their memory
            raise

    def queue(self, count: int) -> Callable[..., npt.NDArray[Any]]:
        """Queues a run on the first items of the input memory.

        Args:
            count: How many.

        Returns:
            A function that waits for the rows; call it before the run after the next is queued.
        """
        self._turn = (self._turn + 1) % len(self._landings)
        landing = self._landings[self._turn]
        largest = self._batches[-1]
        for first in range(0, count, largest):
            part = min(count - first, largest)
            if first:
                ahead = self._pixels + first * self._item_bytes
                self._cuda.copy(self._pixels, ahead, part * self._item_bytes)
            self._runs[next(size for size in self._batches if size >= part)]()
            landing.stage(first * self._row_bytes, self._table, part * self._row_bytes)
        landing.leave(count * self._row_bytes)
        return functools.partial(landing.rows, count)

    def end_if_lost(self) -> None:
        """Ends this process if CUDA's context is lost, because every later run would fail too.

        The server is then restarted, and what was not answered is sent again; answering with an
        error would fail every stream from then on.
        """
        try:
            self._cuda.synchronize()
        except RuntimeError as error:
            pb_utils.Logger.log_error(f"{self._output}: the GPU's context is lost: {error}")
            self._end(1)

    def _prepared(self, make: Callable[..., Any], size: int) -> Callable[[], None]:
        """The run for one batch size, warmed up, with the extras that graph and runtime support.

        One size after the other: the first run captures the graph, and whatever another thread
        queued on the stream or allocated meanwhile would be captured, or refused.
        """
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
        return functools.partial(session.run_with_iobinding, binding, self._run_options)


class _Landing:
    """Carries the rows of one batch to the host.

    They leave on a stream of their own. If a stream's next run had to wait for a copy to the host,
    even for microseconds, the GPU would go to the other processes for a whole round although the
    next batch is queued. The rows are staged, because that batch overwrites the table.
    """

    def __init__(self, cuda: _Cuda, shape: tuple[int, ...]) -> None:
        self._cuda = cuda
        self._host = cuda.pinned_float32(shape)
        self._staged = cuda.allocate(self._host.nbytes)
        self._computed, self._ended = cuda.event(), cuda.event()

    def stage(self, at_byte: int, source: int, byte_size: int) -> None:
        """Queues a copy of some rows behind what computes them."""
        self._cuda.copy(self._staged + at_byte, source, byte_size)

    def leave(self, byte_size: int) -> None:
        """Queues their copy to the host, beside whatever is computed next."""
        exits = self._cuda.exits
        self._cuda.record(self._computed)
        self._cuda.hold(exits, self._computed)
        self._cuda.copy(self._host.ctypes.data, self._staged, byte_size, exits)
        self._cuda.record(self._ended, exits)

    def rows(self, count: int, *_held: object) -> npt.NDArray[Any]:
        """Waits for the rows; returns a copy."""
        self._cuda.wait(self._ended)
        return self._host[:count].copy()


class _Cuda:
    """The few calls of the CUDA runtime that are needed, on two streams of their own.

    `stream` computes; `exits` is for data that leaves the GPU.
    """

    _STACK_SIZE = 0  # cudaLimitStackSize
    _ANY_TO_ANY = 4  # cudaMemcpyDefault
    _NON_BLOCKING = 1  # cudaStreamNonBlocking
    _SLEEP_NO_TIMING = 1 | 2  # cudaEventBlockingSync, cudaEventDisableTiming

    def __init__(self) -> None:
        self._library = _cudart()
        self._call("cudaSetDevice", 0)
        self.stream, self.exits = self._new_stream(), self._new_stream()

    def _new_stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), self._NON_BLOCKING)
        return int(stream.value or 0)

    def keep_stacks_small(self) -> None:
        """Lowers the limit of this process's stacks, which no session may have used yet."""
        with contextlib.suppress(RuntimeError):  # it only saves memory
            self._call("cudaDeviceSetLimit", self._STACK_SIZE, ctypes.c_size_t(_STACK_BYTES))

    def allocate(self, byte_size: int) -> int:
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(byte_size))
        return int(address.value or 0)

    def copy(self, target: int, source: int, byte_size: int, stream: int | None = None) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(byte_size),
            self._ANY_TO_ANY,
            ctypes.c_void_p(stream or self.stream),
        )

    def pinned_float32(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Host memory that the GPU writes to without the host waiting."""
        address = ctypes.c_void_p()
        byte_size = 4 * int(np.prod(shape))
        self._call("cudaMallocHost", ctypes.byref(address), ctypes.c_size_t(byte_size))
        memory = (ctypes.c_float * (byte_size // 4)).from_address(int(address.value or 0))
        return np.ctypeslib.as_array(memory).reshape(shape)

    def event(self) -> int:
        event = ctypes.c_void_p()
        self._call("cudaEventCreateWithFlags", ctypes.byref(event), self._SLEEP_NO_TIMING)
        return int(event.value or 0)

    def record(self, event: int, stream: int | None = None) -> None:
        self._call(
            "cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream or self.stream)
        )

    def hold(self, stream: int, event: int) -> None:
        """Lets a stream continue only after an event of the other."""
        self._call("cudaStreamWaitEvent", ctypes.c_void_p(stream), ctypes.c_void_p(event), 0)

    def wait(self, event: int) -> None:
        self._call("cudaEventSynchronize", ctypes.c_void_p(event))

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
    """Where an input is, on host or device.

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


#: Extras, tried in this order. Without the fused bias cuDNN adds it in a separate pass, which takes
#: half of the detector's time; a CUDA graph saves the launches. Not every model can do both.
_CUDA_EXTRAS: tuple[dict[str, int], ...] = (
    {"fuse_conv_bias": 1, "enable_cuda_graph": 1},
    {"fuse_conv_bias": 1},
    {"enable_cuda_graph": 1},
    {},
)
#: ONNX Runtime captures the graph in the first of them.
_WARM_RUNS = 4
#: Bytes of stack for each thread that the GPU can run at once, which the driver sets aside; 200 MiB
#: less than with its usual 1,024 (H200). A kernel that needs more gets it when it is launched, but
#: for one whose need is not known before, as there may be in somebody else's model.
_STACK_BYTES = 256
#: Host buffers for rows: a run is queued while the rows of the previous one are waited for.
_LANDINGS = 2


def _cuda_options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # It keeps a block for its plan beside the first run's memory: 1.7 times as much, no faster.
    options.enable_mem_pattern = False
    return options


def _cuda_session(onnxruntime: Any, onnx_path: str, stream: int, extras: dict[str, Any]) -> Any:
    cuda = {
        "device_id": 0,
        "prefer_nhwc": 1,  # the layout of the tensor cores
        "cudnn_conv_algo_search": "HEURISTIC",  # as fast as an exhaustive one, half the start-up
        "arena_extend_strategy": "kSameAsRequested",  # otherwise it doubles, in every session
        "user_compute_stream": str(stream),
        **extras,
    }
    options = _cuda_options(onnxruntime)
    session = onnxruntime.InferenceSession(
        onnx_path, options, providers=[("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
    )
    # ONNX Runtime falls back to the CPU without an error.
    if "CUDAExecutionProvider" not in session.get_providers():
        raise pb_utils.TritonModelException(
            "ONNX Runtime cannot use CUDA: it needs onnxruntime-gpu, CUDA 13 and cuDNN 9 (pip "
            "install 'dualface-client[gpu]'), and no plain onnxruntime beside it"
        )
    return session


def _cudart() -> Any:
    for name in ("libcudart.so.13", "libcudart.so.12", "libcudart.so"):
        with contextlib.suppress(OSError):  # not here; perhaps under the next name
            return ctypes.CDLL(name)
    raise pb_utils.TritonModelException(
        "the CUDA runtime is missing: pip install 'dualface-client[gpu]'"
    )


def _dims(tensor: dict[str, Any]) -> list[int]:
    return [int(size) for size in tensor["dims"]]
