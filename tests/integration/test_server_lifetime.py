"""How an embedded server starts, ends, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dualface_client.errors import InferenceFailedError, ServerStartError, ServerUnreachableError
from dualface_client.memory.region import SHM_DIR
from dualface_client.settings import paths
from dualface_client.triton.description import MODELS
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.reaper import reap_shared_memory
from dualface_client.triton.server_files import server_binary
from dualface_client.triton.server_process import free_ports
from dualface_client.triton.session import Session, SlotGroup
from tests.processes import CLI, wait_until

StartServer = Callable[[Sequence[EmbeddedModel]], EmbeddedServer]

# Starts a server from a thread that ends, as a supervisor may; then lives on.
PARENT = """
import os, sys, threading, time
from pathlib import Path
from dualface_client.settings import paths
from dualface_client.triton.description import MODELS
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedServer
models = [EmbeddedModel(spec, Path(path)) for spec, path in zip(MODELS, sys.argv[1:])]
servers = []
start = lambda: servers.append(EmbeddedServer(paths.tritonserver_dir(), models))
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(0.5)
if os.fork() == 0:  # a child that holds the keeper's pipe open
    time.sleep(300)
    os._exit(0)
print(servers[0].pid, servers[0].is_alive(), flush=True)
time.sleep(60)
"""


def files_of(pid: int) -> list[str]:
    """Shared memory files and server directories that carry a process's id."""
    places = (SHM_DIR, Path(tempfile.gettempdir()))
    return [path.name for place in places for path in place.glob(f"dualface-*-*-{pid}-*")]


@contextmanager
def other_parent(
    models: Sequence[EmbeddedModel],
) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """Another process with a server of its own; it is killed with the child that it forked."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *(str(model.onnx_path) for model in models)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            pid, alive = parent.stdout.readline().split()
            assert alive == "True", "the end of the starting thread took the server along"
            yield parent, psutil.Process(int(pid))
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def infer_once(session: Session) -> None:
    with session.lease("face_reid", 1.0) as lease:
        session.infer_async("face_reid", lease).result(10.0)


def test_stop_leaves_nothing(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...]
) -> None:
    before = set(files_of(os.getpid()))
    server = start_server(tiny_models)
    stubs = psutil.Process(server.pid).children()
    assert len(stubs) == 2
    assert len(set(files_of(os.getpid())) - before) == 4  # two stubs' memory, two directories
    # Ctrl-C in the terminal goes to the client's group only.
    assert os.getsid(server.pid) != os.getsid(0)
    server.close()
    server.close()
    assert not server.is_alive()
    assert not any(process.is_running() for process in stubs)
    assert set(files_of(os.getpid())) <= before


def test_the_environment_is_on_no_command_line(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...]
) -> None:
    """Command lines are for all to read; the environment may hold secrets."""
    server = psutil.Process(start_server(tiny_models).pid)
    keeper = server.parent()
    assert keeper is not None
    assert os.environ["PATH"] in server.environ()["PATH"]
    for process in (keeper, server, *server.children()):
        assert os.environ["PATH"] not in " ".join(process.cmdline())


def test_a_server_that_dies_at_its_start_shows_its_log(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...]
) -> None:
    before = set(files_of(os.getpid()))
    broken = EmbeddedModel(MODELS[1], Path("/nonexistent/face_reid.onnx"))
    with pytest.raises(ServerStartError, match=r"last log lines:\n[\s\S]*nonexistent/face_reid"):
        start_server([tiny_models[0], broken])
    assert set(files_of(os.getpid())) <= before


def test_the_server_ends_with_a_killed_parent(tiny_models: tuple[EmbeddedModel, ...]) -> None:
    with other_parent(tiny_models) as (parent, server):
        family = [server, *server.children(recursive=True), server.parent()]
        assert len(files_of(parent.pid)) == 4
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(p.is_running() for p in family if p))
        wait_until(lambda: files_of(parent.pid) == [])


def test_a_killed_keeper_takes_the_server_along(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...]
) -> None:
    server = start_server(tiny_models)
    process = psutil.Process(server.pid)
    family = [process, *process.children()]
    keeper = process.parent()
    assert keeper is not None
    keeper.kill()
    wait_until(lambda: not any(p.is_running() for p in family))
    assert not server.is_alive()


def test_a_model_that_notices_nothing_is_reaped(tiny_models: tuple[EmbeddedModel, ...]) -> None:
    """As one that waits for a lock which the killed server had."""
    with other_parent(tiny_models) as (parent, server):
        keeper, (stub, other) = server.parent(), server.children()
        assert keeper is not None
        stub.suspend()
        keeper.kill()
        parent.kill()
        parent.wait()
        wait_until(lambda: not server.is_running() and not other.is_running())
        reap_shared_memory()  # unless a run that began meanwhile was first
        wait_until(lambda: not stub.is_running())
        assert files_of(parent.pid) == []


def test_a_dead_stub_is_named_and_a_dead_server_too(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...]
) -> None:
    server = start_server(tiny_models)
    with Session(server.grpc_address, {"face_reid": SlotGroup(1, 2)}) as session:
        infer_once(session)
        for stub in psutil.Process(server.pid).children():
            stub.kill()
        with pytest.raises(InferenceFailedError, match="restart the server"):
            infer_once(session)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not server.is_alive())
        with pytest.raises(ServerUnreachableError, match="no server answers"):
            infer_once(session)


def test_nobody_at_the_address_is_said_in_time() -> None:
    with pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1:9 is not ready after 0\.5 s"):
        Session("127.0.0.1:9", {}, ready_timeout_s=0.5)


def test_another_onnxruntime_beside_numpy_is_not_used(
    tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    """The client's own comes first on its path; the stub's interpreter has another one."""
    import onnxruntime

    real = Path(str(onnxruntime.__file__)).parent
    own = tmp_path / "own" / "onnxruntime"
    own.mkdir(parents=True)
    for path in real.iterdir():
        if path.name not in {"__init__.py", "__pycache__"}:
            (own / path.name).symlink_to(path)
    mark = tmp_path / "used"
    text = (real / "__init__.py").read_text()
    (own / "__init__.py").write_text(f"{text}\nopen({str(mark)!r}, 'w').close()\n")
    script = f"""
from pathlib import Path
from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
models = [
    EmbeddedModel(FACE_DETECT, Path({str(tiny_models[0].onnx_path)!r})),
    EmbeddedModel(FACE_REID, Path({str(tiny_models[1].onnx_path)!r})),
]
with EmbeddedServer(paths.tritonserver_dir(), models, EmbeddedOptions(1)):
    print("ready")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(own.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "ready\n", done.stderr
    assert mark.exists()


def test_a_server_has_the_addresses_that_it_is_given(tmp_path: Path) -> None:
    (metrics,) = free_ports(1)
    place = tmp_path / "grpc"
    command = [*CLI, "serve", "--socket-directory", str(place), "--metrics-port", str(metrics)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            said = served.stdout.readline()
            assert said.startswith(f"gRPC on unix:{place}/")
            assert said.endswith(f"metrics on http://127.0.0.1:{metrics}/metrics\n")
            assert place.stat().st_mode & 0o777 == 0o700
            again = subprocess.run(command, capture_output=True, text=True, check=False)
            assert again.returncode == 2
            assert f"--metrics-port {metrics}: cannot be used on 127.0.0.1 (Addr" in again.stderr
            again = subprocess.run(command[:-2], capture_output=True, text=True, check=False)
            assert again.returncode == 2
            assert f"{place}: exists: another server may be using it" in again.stderr
        finally:
            served.terminate()
    assert served.returncode == 0
    assert not place.exists()


def test_a_start_that_hangs_is_tried_once_more(
    tiny_models: tuple[EmbeddedModel, ...], tmp_path: Path
) -> None:
    """The wheel's server behind a script that sleeps the first time."""
    real, wheel = paths.tritonserver_dir(), tmp_path / "wheel"
    place = wheel / "pytriton" / "tritonserver"
    (place / "bin").mkdir(parents=True)
    for path in (real / "pytriton" / "tritonserver").iterdir():
        if path.name != "bin":
            (place / path.name).symlink_to(path)
    (wheel / "nvidia_pytriton.libs").symlink_to(real / "nvidia_pytriton.libs")
    hung = tmp_path / "hung"
    script = place / "bin" / "tritonserver"
    script.write_text(
        f"#!/bin/sh\n[ -e {hung} ] || {{ touch {hung}; exec sleep 300; }}\n"
        f'exec {server_binary(real)} "$@"\n'
    )
    script.chmod(0o700)
    with EmbeddedServer(wheel, tiny_models, EmbeddedOptions(1, ready_timeout_s=24.0)) as server:
        assert hung.exists()
        assert server.answers(5.0)
    hung.unlink()
    script.write_text(f"#!/bin/sh\necho started >> {hung}\nexec sleep 300\n")
    with pytest.raises(ServerStartError, match=r"was not ready in 2 s"):
        EmbeddedServer(wheel, tiny_models, EmbeddedOptions(1, ready_timeout_s=2.0))
    assert hung.read_text() == "started\n" * 2
