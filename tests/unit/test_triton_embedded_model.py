"""The embedded model's order of work on a stream that runs late or ahead, and who gets an answer.

The module runs in Triton's stub and on a GPU. Here the stub's few classes are plain ones, and the
CUDA calls go to a queue of work on host memory, which runs as late as it may or as early: what a
test finds in the rows is what a GPU would have put there. The real Triton and the real GPU have
tests of their own (`tests/integration`, `benchmarks/gpu`).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import queue
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from tests.processes import wait_until

STUB = "triton_python_backend_utils"
MODULE = "dualface_client.triton.embedded_model.model"
ITEM, ROW = 6, 2
CONFIG = {
    "max_batch_size": 16,
    "input": [{"name": "pixels", "dims": ["2", "3"]}],
    "output": [{"name": "rows", "dims": [str(ROW)]}],
}


class Stream:
    """CUDA's calls as the module's `_Cuda` has them; work waits until somebody waits for it.

    Where it runs ahead, all that is computed comes before anything leaves on the second stream.
    """

    stream, exits = 1, 2

    def __init__(self, *, runs_ahead: bool) -> None:
        self.runs_ahead = runs_ahead
        self.work: list[Callable[[], object]] = []
        self.leaving: list[Callable[[], object]] = []  # the work of `exits`
        self.kept: list[object] = []
        self.events: list[int] = []  # that were reached
        self.sizes: list[int] = []  # of the runs
        self.sizes_before_small_stacks: list[int] | None = None
        self.inputs: dict[int, weakref.ref[npt.NDArray[Any]]] = {}
        self.broken = False
        self.lost = False
        self.lock = threading.RLock()  # answers are waited for on a thread of their own

    def allocate(self, byte_size: int) -> int:
        memory = np.full(byte_size, 0xEE, np.uint8)
        self.kept.append(memory)
        return memory.ctypes.data

    def keep_stacks_small(self) -> None:
        self.sizes_before_small_stacks = self.sizes.copy()

    def pinned_float32(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        return np.full(shape, np.nan, np.float32)

    def event(self) -> int:
        self.kept.append(None)
        return len(self.kept)

    def queue(self, stream: int | None) -> list[Callable[[], object]]:
        return self.leaving if stream == self.exits else self.work

    def copy(self, target: int, source: int, byte_size: int, stream: int | None = None) -> None:
        def move() -> None:
            held = self.inputs.get(source)
            assert held is None or held() is not None, "the memory of a request was given back"
            ctypes.memmove(target, source, byte_size)

        self.queue(stream).append(move)

    def record(self, event: int, stream: int | None = None) -> None:
        with self.lock:
            self.events = [each for each in self.events if each != event]
            self.queue(stream).append(lambda: self.events.append(event))

    def hold(self, stream: int, event: int) -> None:
        def reach() -> None:
            while event not in self.events:
                self.work.pop(0)()

        self.queue(stream).append(reach)

    def wait(self, event: int) -> None:
        self.fail_if_lost("cudaEventSynchronize")
        with self.lock:
            while self.runs_ahead and self.work:
                self.work.pop(0)()
            while event not in self.events:
                (self.leaving or self.work).pop(0)()

    def fail_if_lost(self, name: str) -> None:
        if self.lost:
            raise RuntimeError(f"{name} failed with CUDA error 700")

    def synchronize(self) -> None:
        self.fail_if_lost("cudaStreamSynchronize")
        with self.lock:
            while self.work:
                self.work.pop(0)()


class Session:
    """One batch size: a row has the sum of an item's bytes and how many items ran with it."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.pixels, self.table, self.size = stream, 0, 0, 0

    def io_binding(self) -> Session:
        return self

    def bind_input(self, *given: Any) -> None:
        (self.size, *_), self.pixels = given[4:]

    def bind_output(self, *given: Any) -> None:
        self.table = given[5]

    def run_with_iobinding(self, _binding: object, _options: object) -> None:
        if self.stream.broken:
            raise RuntimeError("no such kernel")
        self.stream.work.append(self.kernel)

    def kernel(self) -> None:
        self.stream.sizes.append(self.size)
        pixels = (ctypes.c_uint8 * (self.size * ITEM)).from_address(self.pixels)
        rows = (ctypes.c_float * (self.size * ROW)).from_address(self.table)
        sums = np.ctypeslib.as_array(pixels).reshape(-1, ITEM).sum(axis=1)
        np.ctypeslib.as_array(rows).reshape(-1, ROW)[:] = np.c_[sums, np.full(self.size, self.size)]


class Tensor:
    """The stub's tensor: a capsule that keeps the memory."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def to_dlpack(self) -> Any:
        return self._array.__dlpack__()


class Response:
    """The stub's response."""

    def __init__(self, tensors: list[Any] | None = None, error: Any = None) -> None:
        self.totals = np.array(tensors[0])[:, 0].tolist() if tensors else []
        self.error = error


class Request:
    """The stub's request, and its sender."""

    def __init__(self, stream: Stream, first: int, count: int, *, is_gone: bool = False) -> None:
        array = items(first, count)
        self.is_gone, self.sent, self.held_at_sending = is_gone, queue.SimpleQueue[Response](), True
        stream.inputs[array.ctypes.data] = self.memory = weakref.ref(array)
        self.tensor: Tensor | None = Tensor(array)

    def get_response_sender(self) -> Request:
        self.tensor = None  # the stub lets go of its requests when `execute` returns
        return self

    def send(self, response: Response, flags: int) -> None:
        assert flags == 1
        if self.is_gone:
            raise RuntimeError("no room in shared memory")
        self.held_at_sending = self.memory() is not None
        self.sent.put(response)

    def answer(self) -> Response:
        return self.sent.get(timeout=5.0)


def items(first: int, count: int) -> npt.NDArray[np.uint8]:
    return np.arange(first, first + count, dtype=np.uint8).repeat(ITEM).reshape(count, 2, 3).copy()


def sums(first: int, count: int) -> list[float]:
    return [float(ITEM * value) for value in range(first, first + count)]


@pytest.fixture
def module() -> Iterator[Any]:
    """The module beside a stub of plain classes; both are gone afterwards."""
    fake: Any = types.ModuleType(STUB)
    fake.TritonModelException, fake.TritonError = type("Refused", (Exception,), {}), str
    fake.Logger = types.SimpleNamespace(log_warn=lambda text: None, log_error=lambda text: None)
    fake.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    fake.get_input_tensor_by_name = lambda request, name: request.tensor
    fake.InferenceResponse = Response
    fake.Tensor = types.SimpleNamespace(from_dlpack=lambda name, rows: rows._array)
    sys.modules[STUB] = fake
    try:
        yield importlib.import_module(MODULE)
    finally:
        del sys.modules[STUB]
        sys.modules.pop(MODULE, None)


@pytest.fixture(params=[False, True], ids=["runs late", "runs ahead"])
def stream(request: pytest.FixtureRequest, module: Any) -> Stream:
    stream = Stream(runs_ahead=request.param)
    module._Cuda = lambda: stream
    module._cuda_session = lambda *_: Session(stream)
    return stream


@pytest.fixture
def runner(module: Any, stream: Stream) -> Any:
    runner = module._CudaRunner(CONFIG, {"onnx_path": "", "batches": "1,4,8"})
    stream.sizes.clear()  # of the warming runs
    return runner


def start(runner: Any, stream: Stream, *firsts_and_counts: tuple[int, int]) -> Any:
    requests = [Request(stream, *each) for each in firsts_and_counts]
    return runner.start([request.tensor for request in requests])


def test_a_batch_runs_at_the_next_size_and_its_padding_is_left_out(
    runner: Any, stream: Stream
) -> None:
    for count, size in ((1, 1), (2, 4), (4, 4), (5, 8), (8, 8)):
        rows = start(runner, stream, (10, count)).rows()
        assert rows.tolist() == [[total, size] for total in sums(10, count)]
    assert stream.sizes == [1, 4, 4, 8, 8]


def test_what_exceeds_the_largest_size_runs_in_parts_in_order(runner: Any, stream: Stream) -> None:
    batch = start(runner, stream, (1, 7), (100, 3), (50, 3))
    assert batch.sizes == [7, 3, 3]
    assert batch.rows()[:, 0].tolist() == sums(1, 7) + sums(100, 3) + sums(50, 3)
    assert stream.sizes == [8, 8]


def test_a_batch_that_is_queued_behind_another_leaves_its_rows_alone(
    runner: Any, stream: Stream
) -> None:
    """As `_Answers.add` allows it: at most one batch is under way when another is started."""
    ahead = start(runner, stream, (1, 13))
    for first in (20, 40, 60, 80, 100):
        behind = start(runner, stream, (first, 13))
        rows = ahead.rows()
        assert rows[:, 0].tolist() == sums(1 if first == 20 else first - 20, 13)
        ahead = behind
    kept = ahead.rows()
    start(runner, stream, (3, 13)).rows()
    start(runner, stream, (5, 13)).rows()
    assert kept[:, 0].tolist() == sums(100, 13)  # a copy: the landing was used again


def test_the_memory_of_requests_is_held_until_their_batch_has_ended_and_no_longer(
    runner: Any, stream: Stream
) -> None:
    requests = [Request(stream, 7, 2), Request(stream, 9, 1)]
    batch = runner.start([request.tensor for request in requests])
    for request in requests:
        request.get_response_sender()
    assert batch.rows()[:, 0].tolist() == sums(7, 3)  # `Stream.copy` looks at the memory
    assert [request.memory() for request in requests] == [None, None]


def test_a_batch_that_cannot_be_queued_ends_before_its_memory_is_given_back(
    runner: Any, stream: Stream
) -> None:
    stream.broken = True
    with pytest.raises(RuntimeError, match="no such kernel"):
        start(runner, stream, (1, 3))
    assert stream.work == []


class Library:
    """CUDA's runtime where every call but one goes well."""

    def __init__(self, failing: str) -> None:
        self.calls: list[str] = []
        self._failing = failing

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            self.calls.append(name)
            return int(name == self._failing)

        return call


@pytest.mark.parametrize("is_known", [True, False])
def test_the_stacks_are_made_small_for_our_models_before_any_session(
    module: Any, stream: Stream, is_known: bool
) -> None:
    parameters = {"onnx_path": "", "batches": "1,4", "small_stacks": "yes" if is_known else "no"}
    module._CudaRunner(CONFIG, parameters)
    assert stream.sizes_before_small_stacks == ([] if is_known else None)


def test_weights_that_were_added_later_get_the_usual_stacks(
    module: Any, stream: Stream, tmp_path: Path
) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "model.onnx").write_bytes(b"read by the session")
    parameters = {"onnx_path": "", "python_path": sys.path[-1], "device": "cuda", "batches": "1,8"}
    parameters["small_stacks"] = "yes"
    config = {**CONFIG, "parameters": {key: {"string_value": v} for key, v in parameters.items()}}
    model = module.TritonPythonModel()
    said = {"model_config": json.dumps(config), "model_repository": str(tmp_path)}
    model.initialize({**said, "model_version": "2"})
    model.finalize()
    assert stream.sizes_before_small_stacks is None


def test_a_driver_that_refuses_small_stacks_costs_memory_only(module: Any) -> None:
    library = Library(failing="cudaDeviceSetLimit")
    module._cudart = lambda: library
    module._Cuda().keep_stacks_small()
    assert library.calls[0] == "cudaSetDevice"
    assert library.calls[-1] == "cudaDeviceSetLimit"


@pytest.fixture
def model(module: Any, stream: Stream) -> Iterator[Any]:
    parameters = {"onnx_path": "", "python_path": sys.path[-1], "device": "cuda", "batches": "1,8"}
    config = {**CONFIG, "parameters": {key: {"string_value": v} for key, v in parameters.items()}}
    model = module.TritonPythonModel()
    model.initialize(
        {"model_config": json.dumps(config), "model_repository": "/none", "model_version": "1"}
    )
    yield model
    stream.broken = False
    model.finalize()


def test_every_request_gets_its_rows_and_the_server_its_memory_before(
    model: Any, stream: Stream
) -> None:
    for _ in range(3):
        requests = [Request(stream, 1, 2), Request(stream, 30, 4)]
        model.execute(requests)
        assert requests[0].answer().totals == sums(1, 2)
        assert requests[1].answer().totals == sums(30, 4)
        assert not any(request.held_at_sending for request in requests)


def test_an_answer_that_cannot_be_sent_costs_nobody_else_theirs(model: Any, stream: Stream) -> None:
    requests = [Request(stream, n, 1, is_gone=n == 1) for n in range(3)]
    model.execute(requests)
    for number in (0, 2):
        assert requests[number].answer().totals == sums(number, 1)


def test_a_batch_that_fails_is_answered_with_the_reason_and_the_next_one_runs(
    model: Any, stream: Stream
) -> None:
    stream.broken = True
    for _ in range(3):
        requests = [Request(stream, 1, 2), Request(stream, 3, 1)]
        model.execute(requests)
        assert [request.answer().error for request in requests] == ["pixels: no such kernel"] * 2
    stream.broken = False
    request = Request(stream, 5, 1)
    model.execute([request])
    assert request.answer().totals == sums(5, 1)


class EndedError(Exception):
    """Instead of the end of this process."""


@pytest.mark.parametrize("first", ["while it runs", "before it is queued"])
def test_a_lost_context_ends_the_process_before_anybody_is_told_of_an_error(
    model: Any, stream: Stream, first: str
) -> None:
    ended = threading.Event()

    def end(status: int) -> None:
        assert status
        ended.set()
        raise EndedError

    model._runner._end = end
    stream.lost, stream.broken = True, first == "before it is queued"
    request = Request(stream, 1, 2)
    with contextlib.suppress(EndedError):  # on this thread where the run could not be queued
        model.execute([request])
    assert ended.wait(5.0)
    assert request.sent.empty()


class OnnxRuntime:
    """What the module uses of a package `onnxruntime`, as text that says where it lies."""

    TEXT = """
import numpy
MADE = []
class SessionOptions:
    def add_session_config_entry(self, key, value):
        pass
class InferenceSession:
    def __init__(self, path, options, providers):
        MADE.append(path)
    def run(self, outputs, feeds):
        return [numpy.zeros((1, 2), numpy.float32)]
"""

    @classmethod
    def write(cls, place: Path) -> Path:
        (place / "onnxruntime").mkdir(parents=True)
        (place / "onnxruntime" / "__init__.py").write_text(cls.TEXT)
        return place


def test_the_onnxruntime_of_the_client_is_used_also_where_the_stub_has_one(
    module: Any, tmp_path: Path
) -> None:
    own, stubs = OnnxRuntime.write(tmp_path / "own"), OnnxRuntime.write(tmp_path / "stubs")
    path, loaded = list(sys.path), {n: m for n, m in sys.modules.items() if "onnxruntime" in n}
    for name in loaded:
        del sys.modules[name]
    sys.path.insert(0, str(stubs))
    parameters = {
        "onnx_path": "a.onnx",
        "python_path": f"{own}:{stubs}",
        "device": "cpu",
        "intra_op_threads": "1",
    }
    config = {**CONFIG, "parameters": {key: {"string_value": v} for key, v in parameters.items()}}
    model = module.TritonPythonModel()
    try:
        model.initialize(
            {"model_config": json.dumps(config), "model_repository": "/no", "model_version": "1"}
        )
        model.finalize()
        used = Path(str(sys.modules["onnxruntime"].__file__)).parents[1]
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if "onnxruntime" in name]:
            del sys.modules[name]
        sys.modules.update(loaded)
    assert used == own


STUCK = """
import sys, threading, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
from dualface_client.triton.embedded_model.model import end_with_parent
end_with_parent()
print("watching", flush=True)
lock = threading.Lock()
lock.acquire()
lock.acquire()  # for ever, as a stub whose server was killed in mid-message
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def test_a_process_that_is_stuck_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", PARENT, STUCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_threads_of_a_model_on_a_cpu_do_not_spin(module: Any, tmp_path: Path) -> None:
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 2, 3])
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2, 3])
    cast = helper.make_node("Cast", ["pixels"], ["rows"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "cast", [pixels], [rows])
    path = tmp_path / "cast.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    runner = module._CpuRunner(CONFIG, {"onnx_path": str(path), "intra_op_threads": "2"})
    assert runner.start([items(1, 2)]).rows().shape == (2, 2, 3)
    options = runner._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
