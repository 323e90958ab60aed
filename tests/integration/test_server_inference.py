"""Requests through leased shared memory against the real tritonserver."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import tritonclient.grpc as triton_grpc

from dualface_client.errors import (
    ContractError,
    InferenceTimeoutError,
    LeaseTimeoutError,
    MemoryRegionError,
    ServerUnreachableError,
    StaleOutputError,
)
from dualface_client.memory.names import OwnerState, new_name, owner_state
from dualface_client.memory.region import SHM_DIR, SystemRegion
from dualface_client.triton.connection import Connection
from dualface_client.triton.contract import check_contract
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS, TensorSpec
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedServer
from dualface_client.triton.reaper import Reaped, reap_server, reap_shared_memory
from dualface_client.triton.registration import register, registered_regions, unregister
from dualface_client.triton.session import Session, SlotGroup
from tests.processes import wait_until

PLANS = {"face_detect": SlotGroup(2, 3), "face_reid": SlotGroup(4, 2)}

CLIENT = """
import sys
from dualface_client.triton.session import Session, SlotGroup
with Session(sys.argv[1], {"face_reid": SlotGroup(1, 1)}) as session:
    print(session.pool.region.name, flush=True)
    sys.stdin.readline()
    for value in range(20):
        with session.lease("face_reid", 1.0) as lease:
            pixels = session.input_array("face_reid", lease)
            pixels[:] = value * int(sys.argv[2])
            row = session.infer_async("face_reid", lease).result()
    print(row[0, 0], flush=True)
"""


def pixels_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def in_process(models: tuple[EmbeddedModel, ...], name: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    path = next(model.onnx_path for model in models if model.spec.name == name)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels})[0]


def client_process(server: EmbeddedServer, factor: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, server.grpc_address, str(factor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def finish(process: subprocess.Popen[str]) -> str:
    return process.communicate("\n", timeout=30)[0].strip()


def models_of(server: EmbeddedServer) -> list[psutil.Process]:
    """The processes in which its models run."""
    return psutil.Process(server.pid).children()


@contextmanager
def models_paused(server: EmbeddedServer) -> Iterator[None]:
    """The server takes requests and answers none: what is under way stays so."""
    for process in models_of(server):
        process.suspend()
    try:
        yield
    finally:
        for process in models_of(server):
            process.resume()


def waiting_requests(server: EmbeddedServer, model: str) -> int:
    """Requests in the server that its model has not begun."""
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310 - our own page
        text = page.read().decode()
    line = rf'^nv_inference_pending_request_count{{.*"{model}".*}} (\d+)'
    (found,) = re.findall(line, text, re.MULTILINE)
    return int(found)


@pytest.mark.parametrize(("name", "batch"), [("face_detect", 1), ("face_detect", 2)])
def test_the_answer_is_the_in_process_one(
    triton_server: EmbeddedServer, real_models: tuple[EmbeddedModel, ...], name: str, batch: int
) -> None:
    with Session(triton_server.grpc_address, PLANS) as session:
        pixels = pixels_of((batch, *session.models[name].spec.input.dims))
        with session.lease(name, 1.0) as lease:
            session.input_array(name, lease, batch)[:] = pixels
            pending = session.infer_async(name, lease, batch)
        rows = pending.result()  # after the release: the answer is a copy
    # The same library, file and thread count: FP32 to the last bit.
    np.testing.assert_array_equal(rows, in_process(real_models, name)(pixels))


def test_answers_apart_are_those_of_the_slots(triton_server: EmbeddedServer) -> None:
    rows = []
    for in_slots in (True, False):
        with Session(triton_server.grpc_address, PLANS, outputs_in_region=in_slots) as session:
            with session.lease("face_reid", 1.0) as lease:
                pixels = session.input_array("face_reid", lease)
                pixels[:] = pixels_of(pixels.shape)
                rows.append(session.infer_async("face_reid", lease).result())
            slot = session.pool.region.view(lease.offset, (lease.byte_size,), np.dtype(np.uint8))
            answer_in_slot = bool(slot[pixels.size :].any())
            regions = registered_regions(session.connection)
            mine = [name for name in regions if owner_state(name) is OwnerState.ALIVE]
        assert answer_in_slot is in_slots
        assert len(mine) == (1 if in_slots else 2)
    np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize("in_slots", [True, False])
def test_an_answer_that_was_never_written_is_refused(
    triton_server: EmbeddedServer, in_slots: bool
) -> None:
    """The server writes into other memory under the same name, and reports success."""
    with Session(triton_server.grpc_address, PLANS, outputs_in_region=in_slots) as session:

        def ask() -> np.ndarray[Any, Any]:
            with session.lease("face_reid", 1.0) as lease:
                session.input_array("face_reid", lease)[:] = 7
                return session.infer_async("face_reid", lease).result()

        ask()  # an old answer lies in the place from here on
        names = registered_regions(session.connection)
        name = next(n for n in names if in_slots or n != session.pool.region.name)
        with SystemRegion(names[name]) as elsewhere:
            unregister(session.connection, name)
            session.connection.call(
                "test",
                "register_system_shared_memory",
                name,
                elsewhere.shm_key,
                elsewhere.byte_size,
            )
            with pytest.raises(StaleOutputError, match="did not write 128 of 128 values") as caught:
                ask()
            assert name in str(caught.value)
            unregister(session.connection, name)
        assert session.pool.counts()["face_reid"].leased == 0


def test_requests_that_are_batched_get_their_own_rows(
    triton_server: EmbeddedServer, real_models: tuple[EmbeddedModel, ...]
) -> None:
    reference = in_process(real_models, "face_reid")
    with Session(triton_server.grpc_address, {"face_reid": SlotGroup(4, 6)}) as session:
        sent = []
        for count in (1, 3, 2, 4, 1, 2):
            pixels = pixels_of((count, *FACE_REID.input.dims), seed=count)
            with session.lease("face_reid", 1.0) as lease:
                session.input_array("face_reid", lease, count)[:] = pixels
                sent.append((pixels, session.infer_async("face_reid", lease, count)))
        for pixels, pending in sent:
            # Another batch size, another order of summation.
            np.testing.assert_allclose(pending.result(), reference(pixels), atol=1e-5)
        assert session.pool.counts()["face_reid"].leased == 0


def test_contract_is_learned_and_compared(triton_server: EmbeddedServer) -> None:
    connection = Connection(triton_server.grpc_address)
    served = check_contract(connection, MODELS)
    assert served["face_detect"].spec.input.dims == FACE_DETECT.input.dims
    assert served["face_reid"].spec.max_batch_size == FACE_REID.max_batch_size
    assert served["face_reid"].platform == "python"
    other = replace(FACE_REID, output=TensorSpec("embedding", "FP32", (512,)))
    with pytest.raises(ContractError, match=r"face_reid: output 'embedding' has dims \(128,\)"):
        check_contract(connection, [other])
    renamed = replace(FACE_REID, input=TensorSpec("crop", "UINT8", (112, 112, 3)))
    with pytest.raises(ContractError, match="input tensors are 'chip', expected only 'crop'"):
        check_contract(connection, [renamed])
    connection.close()


def test_a_server_without_the_model_is_refused_at_once(triton_server: EmbeddedServer) -> None:
    begin_s = time.monotonic()
    with pytest.raises(ContractError, match="unknown model: 'face_swap'"):
        Session(
            triton_server.grpc_address,
            {},
            specs=(replace(FACE_REID, name="face_swap"),),
            ready_timeout_s=120.0,
        )
    assert time.monotonic() - begin_s < 60.0


def test_an_early_end_of_the_wait_leaves_the_slot_held(triton_server: EmbeddedServer) -> None:
    with Session(triton_server.grpc_address, {"face_detect": SlotGroup(2, 1)}) as session:
        with models_paused(triton_server):
            with session.lease("face_detect", 1.0, "first") as lease:
                pending = session.infer_async("face_detect", lease, 2)
                with pytest.raises(InferenceTimeoutError, match="face_detect with batch 2"):
                    pending.result(timeout_s=0.001)
            # The caller has released it, the request has not.
            with pytest.raises(LeaseTimeoutError, match="first"):
                session.lease("face_detect", 0.001)
        assert pending.result().shape == (2, 64, 15)
        session.lease("face_detect", 1.0).release()


def test_a_slot_whose_request_ran_out_of_time_waits_until_the_server_has_let_go(
    triton_server: EmbeddedServer,
) -> None:
    with Session(triton_server.grpc_address, {"face_detect": SlotGroup(2, 1)}) as session:
        with models_paused(triton_server):
            with session.lease("face_detect", 1.0, "late") as lease:
                pending = session.infer_async("face_detect", lease, 2, timeout_s=0.1)
                with pytest.raises(InferenceTimeoutError):
                    pending.result()
            assert session.pool.counts()["face_detect"].quarantined == 1
            with pytest.raises(LeaseTimeoutError, match="quarantined"):
                session.pool.lease("face_detect", 0.001)
        session.lease("face_detect", 30.0).release()
        assert session.pool.counts()["face_detect"].quarantined == 0


def test_close_cancels_what_is_in_flight(triton_server: EmbeddedServer) -> None:
    session = Session(triton_server.grpc_address, {"face_detect": SlotGroup(2, 3)})
    pendings = []
    for _ in range(3):
        with session.lease("face_detect", 1.0) as lease:
            pendings.append(session.infer_async("face_detect", lease, 2))
    name = session.pool.region.name
    session.close()
    session.close()
    assert all(pending.done() for pending in pendings)
    assert not (SHM_DIR / name).exists()
    with pytest.raises((ServerUnreachableError, MemoryRegionError)):
        session.infer_async("face_detect", session.lease("face_detect", 0.1))


def test_a_region_leaves_the_server_before_it_is_freed(triton_server: EmbeddedServer) -> None:
    connection = Connection(triton_server.grpc_address)
    with SystemRegion(5000) as region:
        register(connection, region)
        assert registered_regions(connection)[region.name] == 8192
        register(connection, region)  # as after an answer that was lost
        unregister(connection, region.name)
        unregister(connection, region.name)
        assert region.name not in registered_regions(connection)
    with pytest.raises(ValueError, match="every client"):
        unregister(connection, "")
    connection.close()


def test_two_processes_use_one_server(triton_server: EmbeddedServer) -> None:
    clients = [client_process(triton_server, factor) for factor in (3, 3)]
    names = [first_line(client) for client in clients]
    assert names[0] != names[1]
    answers = [finish(client) for client in clients]
    assert answers[0] == answers[1] != ""


def test_a_killed_clients_region_is_reaped(triton_server: EmbeddedServer) -> None:
    connection = Connection(triton_server.grpc_address)
    living = SystemRegion(4096)
    register(connection, living)
    client = client_process(triton_server, 1)
    name = first_line(client)
    assert reap_server(connection).gone == ()  # everybody lives
    client.kill()
    client.communicate()
    assert owner_state(name) is OwnerState.GONE
    assert name in registered_regions(connection)
    reap_shared_memory()  # unless a run that began meanwhile was first
    assert not (SHM_DIR / name).exists()
    assert reap_server(connection) == Reaped((name,), ())
    assert set(registered_regions(connection)) >= {living.name}
    assert (SHM_DIR / living.name).exists()
    unregister(connection, living.name)
    living.close()
    connection.close()


def test_only_what_is_certainly_dead_is_unregistered(triton_server: EmbeddedServer) -> None:
    """Not a live owner's, nor another boot's or namespace's, nor anything that is not ours."""
    connection = Connection(triton_server.grpc_address)
    mine = new_name("sys")
    dead = replace(mine, owner=replace(mine.owner, start_ticks=mine.owner.start_ticks - 1))
    others = [
        str(mine),
        str(replace(dead, owner=replace(dead.owner, boot="00000001"))),
        str(replace(dead, owner=replace(dead.owner, pidns=1))),
        "their_region",
        f"x-{dead}",
    ]
    with ExitStack() as stack:
        for name in (*others, str(dead)):
            memory = stack.enter_context(SystemRegion(4096))  # Triton wants one key per name
            connection.call(
                "test", "register_system_shared_memory", name, memory.shm_key, memory.byte_size
            )
        # This pid in an earlier life is dead, whoever has the pid now.
        assert reap_server(connection).gone == (str(dead),)
        assert set(others) <= set(registered_regions(connection))
        for name in others:
            unregister(connection, name)
    connection.close()


def test_a_region_in_use_is_kept_for_the_next_time(triton_server: EmbeddedServer) -> None:
    """Its owner is dead, but another client's request still reads it."""
    mine = new_name("sys")
    dead = str(replace(mine, owner=replace(mine.owner, start_ticks=mine.owner.start_ticks - 1)))
    connection = Connection(triton_server.grpc_address)
    spec = FACE_DETECT
    with SystemRegion(spec.input.byte_size) as memory, models_paused(triton_server):
        connection.call(
            "test", "register_system_shared_memory", dead, memory.shm_key, memory.byte_size
        )
        pixels = triton_grpc.InferInput(spec.input.name, [1, *spec.input.dims], "UINT8")
        pixels.set_shared_memory(dead, memory.byte_size)
        ended: list[threading.Event] = []

        def one_waits() -> bool:
            """Sends one more, unless one waits already: those before it are there then."""
            if waiting_requests(triton_server, spec.name):
                return True
            event = threading.Event()
            connection.send(
                "test",
                model_name=spec.name,
                inputs=[pixels],
                callback=lambda result, error: event.set(),
                client_timeout=60.0,
            )
            ended.append(event)
            return False

        wait_until(one_waits)
        assert reap_server(connection, timeout_s=0.05) == Reaped((), (dead,))
        for process in models_of(triton_server):
            process.resume()
        assert all(event.wait(60.0) for event in ended)
        assert reap_server(connection) == Reaped((dead,), ())
    connection.close()


def test_metrics_and_log_are_within_reach(triton_server: EmbeddedServer) -> None:
    assert "GRPCInferenceService" in triton_server.log_tail(50)
    assert triton_server.metrics_url.startswith("http://127.0.0.1:")
    assert Path(f"/proc/{triton_server.pid}/exe").resolve().name == "tritonserver"
