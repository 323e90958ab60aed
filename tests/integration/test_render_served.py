"""A real Triton reads the rendered repositories and answers as ONNX Runtime does."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, InferInput, model_config_pb2

from dualface_client.errors import ServerError
from dualface_client.settings.paths import models_dir, tritonserver_dir
from dualface_client.triton.connection import Connection
from dualface_client.triton.description import MODELS, PRIORITY_LIVE, ModelSpec
from dualface_client.triton.server_files import ServerFiles, find_server_files
from scripts.engines.configs import tensorrt_config
from scripts.render_repository import render_tensorrt
from scripts.serve_embedded import command, environment, prepare

Start = Callable[..., str]


@pytest.fixture
def files() -> ServerFiles:
    return find_server_files(tritonserver_dir())


def free_ports() -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket())) for _ in range(3)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def start(files: ServerFiles, tmp_path: Path) -> Iterator[Start]:
    """Starts the container's server on free ports, after a change to its repository."""
    with ExitStack() as stack:

        def run(
            change: Callable[[Path], None] = lambda repository: None, extra: Sequence[str] = ()
        ) -> str:
            prepare(tmp_path, files, threads=1)
            change(tmp_path / "models")
            grpc, http, metrics = free_ports()
            ports = [f"--grpc-port={grpc}", f"--http-port={http}", f"--metrics-port={metrics}"]
            log = stack.enter_context((tmp_path / "log").open("w"))
            line = [*command(files, tmp_path, ""), *ports, *extra]
            server = subprocess.Popen(line, env=environment(files), stdout=log, stderr=log)
            stack.callback(server.wait, 20)
            stack.callback(server.terminate)
            connection = Connection(f"127.0.0.1:{grpc}")
            stack.callback(connection.close)
            connection.wait_ready([spec.name for spec in MODELS], 40, lambda: alive(server, log))
            return f"127.0.0.1:{grpc}"

        yield run


def alive(server: subprocess.Popen[bytes], log: Any) -> None:
    if server.poll() is not None:
        pytest.fail(Path(log.name).read_text()[-3000:])


def assert_answers(address: str, spec: ModelSpec, priority: int = 0) -> None:
    shape = (2, *spec.input.dims)
    pixels = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
    tensor = InferInput(spec.input.name, list(shape), spec.input.datatype)
    tensor.set_data_from_numpy(pixels)
    with closing(InferenceServerClient(address)) as client:
        answer = client.infer(spec.name, [tensor], priority=priority).as_numpy(spec.output.name)
    session = onnxruntime.InferenceSession(models_dir() / f"{spec.name}.onnx")
    (expected,) = session.run(None, {spec.input.name: pixels})
    # Threads and batches change the order of sums, not more.
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=2e-3)


def test_container_server_answers_as_the_models_do(start: Start) -> None:
    address = start()
    for spec in MODELS:
        assert_answers(address, spec)


def test_production_queues_priorities_and_warmup_are_served(start: Start) -> None:
    """The TensorRT configs with nothing changed but backend and device."""

    def as_production(repository: Path) -> None:
        for spec in MODELS:
            path = repository / spec.name / "config.pbtxt"
            python = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
            config = text_format.Parse(tensorrt_config(spec), model_config_pb2.ModelConfig())
            config.platform, config.backend = "", "python"
            config.cc_model_filenames.clear()
            config.optimization.Clear()
            del config.model_warmup[1:]  # the larger ones take a CPU seconds
            config.instance_group[0].kind = python.instance_group[0].kind
            for name, value in python.parameters.items():
                config.parameters[name].CopyFrom(value)
            path.write_text(text_format.MessageToString(config))

    address = start(as_production)
    for spec in MODELS:
        assert_answers(address, spec, PRIORITY_LIVE)
        with closing(InferenceServerClient(address)) as client:
            served = client.get_model_config(spec.name).config
        assert served.dynamic_batching.priority_queue_policy[1].max_queue_size == 128


def certificate(directory: Path, name: str) -> tuple[str, str]:
    """A certificate that vouches for itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    line += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    line += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(line, check=True, capture_output=True)
    return str(cert), str(key)


def test_mutual_tls_lets_in_who_has_a_certificate(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "tls"
    own.mkdir()
    cert, key = certificate(own, "server")
    client_cert, client_key = certificate(own, "client")
    monkeypatch.setenv("DUALFACE_SERVER_CA_FILE", cert)
    monkeypatch.setenv("DUALFACE_CLIENT_CERT_FILE", client_cert)
    monkeypatch.setenv("DUALFACE_CLIENT_CERT_KEY_FILE", client_key)
    flags = ["--grpc-use-ssl=true", "--grpc-use-ssl-mutual=true", f"--grpc-server-cert={cert}"]
    flags += [f"--grpc-server-key={key}", f"--grpc-root-cert={client_cert}"]
    address = start(extra=flags)
    for name in ("DUALFACE_CLIENT_CERT_FILE", "DUALFACE_CLIENT_CERT_KEY_FILE"):
        monkeypatch.delenv(name)
    with closing(Connection(address)) as stranger, pytest.raises(ServerError):
        stranger.call("readiness", "is_server_ready", client_timeout=2.0)


def test_tensorrt_configs_lack_nothing_but_the_backend(files: ServerFiles, tmp_path: Path) -> None:
    render_tensorrt(tmp_path / "models")
    for spec in MODELS:
        (tmp_path / "models" / spec.name / "1").mkdir()
    (tmp_path / "backends").mkdir()
    quiet = ["--allow-grpc=false", "--allow-http=false", "--allow-metrics=false"]
    done = subprocess.run(
        [*command(files, tmp_path, ""), *quiet],
        env=environment(files),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode != 0
    # Config errors would come first, and say "failed to load ... config".
    assert text.count("unable to find backend library for backend 'tensorrt'") >= len(MODELS), text
