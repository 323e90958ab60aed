"""A server that a program holds for many calls, with a real Triton."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client import HeldServer, Listener, ProgramSettings, UsageError, process, serve
from dualface_client.triton.embedded import EmbeddedModel
from tests.media import Clip, make
from tests.processes import left_by, wait_until

FRAMES = 6
POOL_FAULT = "error occurred while trying to load GPU buffers in the Python backend stub\n"
SETTINGS = {"output": {"size": "320x180", "preset": "ultrafast"}}


@pytest.fixture(scope="module")
def server(tiny_models: Sequence[EmbeddedModel]) -> Iterator[HeldServer]:
    """Models that cost nothing: what is tested is the server around them."""
    detector, reid = (model.onnx_path for model in tiny_models)
    settings = {"server": {"detector_onnx": detector, "reid_onnx": reid, "model_threads": 1}}
    stop = threading.Event()
    with serve(settings, stop=stop) as held:
        stop.set()  # late, as by a timer that bounds the start
        yield held


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clip") / "talk.mp4", Clip(FRAMES, (160, 120)))


def run(clip: Path, output: Path, server: HeldServer | str) -> str:
    (report,) = process(clip, output, server=server, settings=SETTINGS)
    return f"{report.state} {report.frames_out}{report.error}"


def test_one_server_serves_many_calls_also_at_a_time(
    server: HeldServer, clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pid = server.pid
    outputs = [tmp_path / f"{number}.mp4" for number in range(3)]
    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(lambda output: run(clip, output, server), outputs))
    assert ends == [f"done {FRAMES}"] * 3
    assert run(clip, tmp_path / "address.mp4", server.address) == f"done {FRAMES}"
    assert server.pid == pid
    assert "starting the embedded" not in caplog.text


def test_it_is_restarted_where_it_dies_at_its_address(
    server: HeldServer, clip: Path, tmp_path: Path
) -> None:
    address, died = server.address, list[int]()
    for number in range(2):  # one start alone may come through although it was abandoned
        died.append(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.pid not in died, 30, "a new server")
        assert run(clip, tmp_path / f"{number}.mp4", server) == f"done {FRAMES}"
    assert server.address == address


def test_keys_for_others_servers_are_not_for_this_one(
    server: HeldServer, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUALFACE_SERVER_KEY_FILE", str(tmp_path / "missing"))
    assert run(clip, tmp_path / "o.mp4", server) == f"done {FRAMES}"
    with pytest.raises(UsageError, match="DUALFACE_SERVER_KEY_FILE"):
        run(clip, tmp_path / "p.mp4", server.address)


def test_what_it_was_not_started_with_is_refused(server: HeldServer, clip: Path) -> None:
    with pytest.raises(UsageError, match="device: cuda: the held server runs on cpu"):
        process(clip, None, server=server, device="cuda")
    other = ProgramSettings(server=replace(server.settings, model_threads=3))
    with pytest.raises(UsageError, match=r"settings: server.model_threads: 3 \(it has 1\)"):
        process(clip, None, server=server, settings=other)


def test_a_fork_neither_uses_nor_stops_it(server: HeldServer, clip: Path, tmp_path: Path) -> None:
    pid = server.pid
    child = os.fork()
    if child == 0:  # what a fork meets that leaves the `with` statement of its parent
        try:
            server.close()
            server.embedded()
        except UsageError as error:
            os._exit(7 if f"process {os.getppid()} holds it" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert run(clip, tmp_path / "o.mp4", server) == f"done {FRAMES}"
    assert server.pid == pid


class Deaf(Listener):
    """Fails at all that it hears."""

    def say(self, event: str, text: str, level: int = 0) -> None:
        raise RuntimeError(f"did not hear {event}")


def test_a_pool_fault_ends_later_calls_too_whatever_the_listener_does(
    tiny_models: Sequence[EmbeddedModel],
    clip: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    detector, reid = (model.onnx_path for model in tiny_models)
    before = left_by(os.getpid())
    with serve({"server.detector_onnx": detector, "server.reid_onnx": reid}) as server:
        with server.embedded().log_path.open("a") as log:
            log.write(
                "error occurred while trying to load GPU buffers in the Python backend stub\n"
            )
        for number in range(2):
            (report,) = process(
                clip, tmp_path / f"{number}.mp4", server=server, settings=SETTINGS, listener=Deaf()
            )
            assert (report.state, report.error[:22]) == ("failed", "Triton's memory pool: ")
        assert "the listener failed at: " in caplog.text
        pid, directory = server.pid, server.embedded().repository.parent
    assert not Path(f"/proc/{pid}").exists()
    assert not directory.exists()
    assert left_by(os.getpid()) == before
    server.close()
    with pytest.raises(UsageError, match="this one is closed"):
        run(clip, tmp_path / "o.mp4", server)
