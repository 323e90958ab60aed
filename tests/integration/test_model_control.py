"""New versions of a model go live under a working client, on the real server."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format
from onnx import numpy_helper
from tritonclient.grpc import model_config_pb2

from dualface_client.cli.commands import cli
from dualface_client.errors import ServerError
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.models.faces import FaceEmbedder, ModelAccess
from dualface_client.settings import paths
from dualface_client.triton.connection import Connection
from dualface_client.triton.control import serving_version
from dualface_client.triton.description import FACE_REID
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.session import Session, SlotGroup
from dualface_client.types import Nv12Image
from scripts.engines.configs import tensorrt_config
from tests.processes import wait_until

GREY = Nv12Image(np.full((200, 200), 100, np.uint8), np.full((100, 100, 2), 128, np.uint8))
POINTS = np.array([[80, 80], [120, 80], [100, 100], [85, 120], [115, 120]], np.float32)


@pytest.fixture(scope="module")
def server(tiny_models: tuple[EmbeddedModel, ...]) -> Iterator[EmbeddedServer]:
    options = EmbeddedOptions(1, model_control=True)
    with EmbeddedServer(paths.tritonserver_dir(), tiny_models, options) as server:
        yield server


def scaled(model: EmbeddedModel, factor: float, path: Path) -> Path:
    """The tiny model with other weights: its answers are `factor` times as large."""
    changed = onnx.load(model.onnx_path)
    (weights,) = [each for each in changed.graph.initializer if each.name == "weights"]
    values = numpy_helper.to_array(weights) * np.float32(factor)
    weights.CopyFrom(numpy_helper.from_array(values, "weights"))
    onnx.save(changed, path)
    return path


def command(server: EmbeddedServer, *arguments: str | Path) -> Result:
    address = ["--server", server.grpc_address]
    return CliRunner().invoke(cli, ["models", *map(str, arguments), *address])


@dataclass
class Load:
    """A client that embeds the same six faces again and again: two requests each time."""

    session: Session
    seen: list[tuple[str, float]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @contextmanager
    def working(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def until_version(self, version: str) -> None:
        end_s = time.monotonic() + 20.0
        while not self.seen or self.seen[-1][0] != version:
            assert time.monotonic() < end_s, f"{version} never answered: {self.troubles}"
            time.sleep(0.01)

    def _work(self, stop: threading.Event) -> None:
        embedder = FaceEmbedder(ModelAccess(self.session, 10.0), batch=4)
        while not stop.is_set():
            try:
                found = embedder.embed(GREY, np.stack([POINTS] * 6), CpuImaging())
            except Exception as error:
                self.troubles.append(repr(error))
                continue
            # Grey of luma 100 is 98 in RGB; the tiny model adds the three up.
            (value,) = set(found.vectors.ravel().tolist())  # one version made all six
            self.seen.append((found.model_version, round(value / 294, 3)))


def test_swaps_under_load_fail_no_request_and_mix_none(
    server: EmbeddedServer, tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    with Session(server.grpc_address, {"face_reid": SlotGroup(4, 4)}) as session:
        load = Load(session)
        with load.working():
            for factor in (2.0, 3.0):
                new = scaled(tiny_models[1], factor, tmp_path / "new.onnx")
                done = command(
                    server, "swap", "face_reid", "--onnx", new, "--repository", server.repository
                )
                assert done.exit_code == 0, done.output
                load.until_version(f"face_reid/{factor:g}")
    assert "face_reid: version 3 answers, before it was 2" in done.output
    assert load.troubles == []
    # Version n is n times as large: no answer comes from another version than it says.
    assert set(load.seen) == {("face_reid/1", 1.0), ("face_reid/2", 2.0), ("face_reid/3", 3.0)}
    versions = [version for version, _ in load.seen]
    assert versions == sorted(versions)


def test_a_swap_makes_nothing_of_the_serving_version_anew(
    server: EmbeddedServer, tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    """With production's version policy: an instance that serves must not be replaced under load."""
    production = text_format.Parse(tensorrt_config(FACE_REID), model_config_pb2.ModelConfig())
    config = server.repository / "face_reid" / "config.pbtxt"
    before = config.read_text()
    config.write_text(f"{before}version_policy {{ {production.version_policy} }}\n")
    new = scaled(tiny_models[1], 1.0, tmp_path / "new.onnx")
    read = len(server.log_path.read_text())
    done = command(server, "swap", "face_reid", "--onnx", new, "--repository", server.repository)
    config.write_text(before)
    version = max(int(path.name) for path in (server.repository / "face_reid").glob("[0-9]*"))
    assert f"version {version} answers" in done.output
    log = server.log_path.read_text()[read:]
    assert re.findall(r"loading: face_reid:(\d+)", log) == [str(version)]
    assert log.count("TRITONBACKEND_ModelInstanceInitialize: face_reid") == 1


def test_a_load_that_takes_too_long_says_so_and_goes_on(
    server: EmbeddedServer, tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    new = scaled(tiny_models[1], 1.0, tmp_path / "new.onnx")
    options = ("--onnx", new, "--repository", server.repository, "--timeout", "0.01")
    done = command(server, "swap", "face_reid", *options)
    version = max(int(path.name) for path in (server.repository / "face_reid").glob("[0-9]*"))
    # A busy machine may begin to load later, or be done by the time it is asked.
    state = r"(It is still being loaded; version \d+ answers until then|Version \d+ still answers)"
    assert re.search(rf"not done in 0\.01 s\. {state}", str(done.exception))
    with Connection(server.grpc_address) as connection:
        wait_until(lambda: serving_version(connection, "face_reid") == str(version))


def test_what_does_not_load_leaves_the_old_version_and_nothing_else(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    connection = Connection(server.grpc_address)
    before = serving_version(connection, "face_reid")
    found_before = {path.name for path in (server.repository / "face_reid").glob("[0-9]*")}
    nonsense = tmp_path / "no.onnx"
    nonsense.write_bytes(b"nonsense")
    options = ("--onnx", nonsense, "--repository", server.repository)
    done = command(server, "swap", "face_reid", *options)
    assert done.exception is not None
    assert "Protobuf parsing failed" in str(done.exception)
    assert str(done.exception).endswith(f"Version {before} still answers")
    assert isinstance(done.exception, ServerError)
    assert done.exception.exit_code == 3
    assert "\n" not in str(done.exception)
    assert serving_version(connection, "face_reid") == before
    found = {path.name for path in (server.repository / "face_reid").iterdir() if path.is_dir()}
    assert found == found_before
    connection.close()


def test_going_back_is_deleting_the_new_version(
    server: EmbeddedServer, tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    weights = scaled(tiny_models[1], 9.0, tmp_path / "new.onnx")
    options = ("--onnx", weights, "--repository", server.repository)
    assert command(server, "swap", "face_reid", *options).exit_code == 0
    new = max(int(path.name) for path in (server.repository / "face_reid").glob("[0-9]*"))
    shutil.rmtree(server.repository / "face_reid" / str(new))
    output = command(server, "load", "face_reid").output
    assert output == f"face_reid: version {new - 1} answers\n"


def test_a_swap_without_a_new_version_is_a_mistake(server: EmbeddedServer) -> None:
    done = command(server, "swap", "face_detect")
    assert "there is no version above 1" in str(done.exception)
    done = command(server, "swap", "face_detect", "--onnx", server.repository)
    assert done.exit_code == 2


def test_a_model_that_is_loaded_again_is_awaited(server: EmbeddedServer) -> None:
    with Session(server.grpc_address, {"face_reid": SlotGroup(4, 4)}) as session:
        load = Load(session)
        with load.working():
            while not load.seen:
                time.sleep(0.01)
            assert command(server, "unload", "face_reid").exit_code == 0
            time.sleep(0.5)
            answered = len(load.seen)
            assert command(server, "load", "face_reid").exit_code == 0
            end_s = time.monotonic() + 20.0
            while len(load.seen) == answered and time.monotonic() < end_s:
                time.sleep(0.01)
    assert load.troubles == []
    assert len(load.seen) > answered


def test_unload_list_and_load(server: EmbeddedServer) -> None:
    assert command(server, "unload", "face_detect").output == "face_detect: unloaded\n"
    assert "face_detect    1  UNAVAILABLE  unloaded" in command(server, "list").output
    assert command(server, "load", "face_detect").output == "face_detect: version 1 answers\n"
    assert "face_detect    1  READY" in command(server, "list").output


def test_a_server_without_control_says_how_to_allow_it(triton_server: EmbeddedServer) -> None:
    done = command(triton_server, "load", "face_reid")
    assert "start it with --model-control-mode=explicit" in str(done.exception)


def test_a_repository_that_is_none_is_named(server: EmbeddedServer, tmp_path: Path) -> None:
    new = tmp_path / "new.onnx"
    shutil.copy(paths.models_dir() / "face_reid.onnx", new)
    done = command(server, "swap", "face_reid", "--onnx", new, "--repository", tmp_path)
    assert "No such file or directory" in str(done.exception)
    assert "serve --model-control" in str(done.exception)
