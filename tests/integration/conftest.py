"""Real servers for the tests: one for all with the real models, and throw-away ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT, FACE_REID, ModelSpec
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer

THREADS = 2

StartServer = Callable[[Sequence[EmbeddedModel]], EmbeddedServer]


@pytest.fixture(scope="session")
def real_models() -> tuple[EmbeddedModel, ...]:
    """The exported models of the cache directory (`make setup`)."""
    return tuple(
        EmbeddedModel(spec, paths.models_dir() / f"{spec.name}.onnx")
        for spec in (FACE_DETECT, FACE_REID)
    )


@pytest.fixture(scope="session")
def triton_server(real_models: tuple[EmbeddedModel, ...]) -> Iterator[EmbeddedServer]:
    """One embedded server for the whole session; tests must not stop or break it."""
    options = EmbeddedOptions(intra_op_threads=THREADS)
    with EmbeddedServer(paths.tritonserver_dir(), real_models, options) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddedModel, ...]:
    """Models of the same contract that cost nothing: for servers that are started and broken."""
    directory = tmp_path_factory.mktemp("tiny")
    return tuple(_tiny(directory, spec) for spec in (FACE_DETECT, FACE_REID))


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers that are killed at the end of the test."""
    servers: list[EmbeddedServer] = []

    def start(models: Sequence[EmbeddedModel]) -> EmbeddedServer:
        servers.append(EmbeddedServer(paths.tritonserver_dir(), models, EmbeddedOptions(1)))
        return servers[-1]

    yield start
    for server in servers:
        server.close(grace_s=0.0)


def _tiny(directory: Path, spec: ModelSpec) -> EmbeddedModel:
    """The sum of the mean colours everywhere; a detector's so small that it may be a score."""
    size = int(np.prod(spec.output.dims))
    weights = np.full((3, size), 1 / 1024 if spec is FACE_DETECT else 1.0, np.float32)
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array([-1, *spec.output.dims]), "shape"),
    ]
    nodes = [
        helper.make_node("Cast", [spec.input.name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], [spec.output.name]),
    ]
    graph = helper.make_graph(
        nodes,
        spec.name,
        [
            helper.make_tensor_value_info(
                spec.input.name, TensorProto.UINT8, ["n", *spec.input.dims]
            )
        ],
        [
            helper.make_tensor_value_info(
                spec.output.name, TensorProto.FLOAT, ["n", *spec.output.dims]
            )
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = directory / f"{spec.name}.onnx"
    onnx.save(model, path)
    return EmbeddedModel(spec, path)
