"""The Multi-Process Service's daemon: started for a run, private, ended with it.

The real one needs a GPU (`tests/gpu/test_mps.py`); a script with its command line stands in.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import psutil
import pytest

from dualface_client.errors import PlatformError
from dualface_client.settings.paths import tritonserver_dir
from dualface_client.triton.mps import MpsDaemon, multi_process_service
from dualface_client.triton.mps_shares import share_of_client
from dualface_client.triton.server_files import find_server_files
from dualface_client.triton.server_process import server_environment
from tests.processes import wait_until

PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
CONTROL = """#!/bin/sh
log="$CUDA_MPS_LOG_DIRECTORY/control.log"
if [ "$1" = -f ]; then
    echo started as $$ with "GPUs $CUDA_VISIBLE_DEVICES" >> "$log"
    mkfifo "$CUDA_MPS_PIPE_DIRECTORY/control"
    exec sleep 1000
fi
read -r command
echo "$command" >> "$LOG_OF_COMMANDS"
"""


@pytest.fixture(name="commands")
def a_daemon_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "nvidia-cuda-mps-control"
    program.parent.mkdir()
    program.write_text(CONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG_OF_COMMANDS", str(tmp_path / "commands"))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return tmp_path / "commands"


def model_module() -> Any:
    """What runs in the server's stubs, beside an empty module in place of what Triton brings."""
    stub = "triton_python_backend_utils"
    sys.modules[stub] = types.ModuleType(stub)
    try:
        return importlib.import_module("dualface_client.triton.embedded_model.model")
    finally:
        del sys.modules[stub]
        sys.modules.pop("dualface_client.triton.embedded_model.model", None)


def sleepers() -> list[psutil.Process]:
    return [each for each in psutil.process_iter(["cmdline"]) if is_daemon(each)]


def is_daemon(process: psutil.Process) -> bool:
    return bool(process.info["cmdline"] == ["sleep", "1000"])


def test_processes_find_it_while_it_runs_and_nothing_is_left(commands: Path) -> None:
    with multi_process_service(wanted=True) as variables:
        directory = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
        assert variables == {
            "CUDA_MPS_PIPE_DIRECTORY": str(directory),
            "CUDA_MPS_LOG_DIRECTORY": str(directory),
        }
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "control").exists()
        assert commands.read_text().split("\n")[0] == "get_server_list"
        assert len(sleepers()) == 1
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert commands.read_text().endswith("quit -t 2\n")
    assert not directory.exists()
    assert not sleepers()


def test_workers_the_server_and_its_models_have_shares_of_their_own(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PERCENT, raising=False)
    files = find_server_files(tritonserver_dir())
    with multi_process_service(wanted=True):
        of_server = server_environment(files, "cuda", os.environ)
        assert of_server[PERCENT] == "10"
        assert share_of_client(os.environ) == {PERCENT: "25"}
        assert PERCENT not in os.environ  # a further daemon would hold all of its clients to it
        with monkeypatch.context() as stub:
            for name, value in of_server.items():
                stub.setenv(name, value)
            model_module().take_share()
            assert os.environ[PERCENT] == "100"
    assert not share_of_client(os.environ)
    assert PERCENT not in server_environment(files, "cuda", os.environ)


def test_a_share_that_the_user_gave_holds_for_all(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PERCENT, "50")
    with multi_process_service(wanted=True):
        of_server = server_environment(find_server_files(tritonserver_dir()), "cuda", os.environ)
        assert of_server[PERCENT] == "50"
        assert not share_of_client(os.environ)
        with monkeypatch.context() as stub:
            for name, value in of_server.items():
                stub.setenv(name, value)
            model_module().take_share()
            assert os.environ[PERCENT] == "50"


def test_it_serves_all_gpus_whichever_its_clients_see(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with multi_process_service(wanted=True):
        log = Path(os.environ["CUDA_MPS_LOG_DIRECTORY"]) / "control.log"
        assert log.read_text().splitlines()[0].endswith("with GPUs ")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert commands.exists()


def test_what_the_user_had_set_comes_back(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    with multi_process_service(wanted=True):
        assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] != "/somewhere"
    assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == "/somewhere"
    with multi_process_service(wanted=False) as variables:
        assert not variables
        assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == "/somewhere"


def test_it_ends_with_a_process_that_is_killed(commands: Path) -> None:
    script = """
from dualface_client.triton.mps import MpsDaemon
daemon = MpsDaemon()
print(daemon.environment["CUDA_MPS_PIPE_DIRECTORY"], flush=True)
import signal; signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as own:
        assert own.stdout is not None
        directory = Path(own.stdout.readline().strip())
        assert (directory / "control").exists()
        own.send_signal(signal.SIGKILL)
    wait_until(lambda: not directory.exists() and not sleepers())


def test_a_machine_without_it_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="nvidia-cuda-mps-control is not on the PATH"):
        MpsDaemon()


def test_its_last_words_are_told_if_it_does_not_start(commands: Path) -> None:
    program = commands.parent / "bin" / "nvidia-cuda-mps-control"
    program.write_text("#!/bin/sh\necho Cannot find MPS control daemon process\nexit 1\n")
    with pytest.raises(PlatformError, match=r"did not start .Cannot find MPS control daemon"):
        MpsDaemon()
