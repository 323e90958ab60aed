"""A real Triton server as a child of this process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import (
    ServerError,
    ServerStartError,
    ServerUnreachableError,
    StoppedError,
)
from dualface_client.location import HERE, Location
from dualface_client.memory.names import new_name, start_ticks
from dualface_client.memory.region import SHM_DIR
from dualface_client.settings import paths
from dualface_client.triton.access import OPEN_ACCESS
from dualface_client.triton.batch_sizes import Demand
from dualface_client.triton.connection import Connection
from dualface_client.triton.description import ModelSpec
from dualface_client.triton.reaper import owner_prefix
from dualface_client.triton.repository import PythonModel
from dualface_client.triton.server_directory import (
    fill,
    make_directory,
    make_socket_directory,
    package_dirs,
)
from dualface_client.triton.server_files import (
    Host,
    ServerFiles,
    check_host,
    check_place,
    find_server_files,
)
from dualface_client.triton.server_process import (
    end_keeper,
    free_ports,
    pid_from,
    refuse_open_memory,
    server_environment,
    start_keeper,
)

_PORT_ATTEMPTS = 3
#: Share of the time for a start after which a first one that hangs is given up.
_FIRST_TRY = 0.5
#: Triton appends a colon and the port to every address, also to a socket's path.
_SOCKET, _SOCKET_PORT = "grpc", 8001
#: The GPU figures were measured with this; the two models alone need less (`dualface-client plan`).
_CUDA_POOL_BYTES = 256 << 20
_CONTROL = ("--model-control-mode=explicit", "--load-model=*")
_PORT_TAKEN = re.compile(r"already in use|[Ff]ailed to bind", re.ASCII)


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One model to serve.

    Attributes:
        spec: Its contract.
        onnx_path: Its weights.
        instance_count: Copies of it, 0 for the options' number.
        demand: What it is going to be asked, None for anything.
        is_known: Whether it is one of ours, see `PythonModel`.
    """

    spec: ModelSpec
    onnx_path: Path
    instance_count: int = 0
    demand: Demand | None = None
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """How the embedded server runs.

    Attributes:
        intra_op_threads: Threads of one model run, 0 for ONNX Runtime's choice.
        instance_count: Copies of each model, each a process of its own.
        device: `cpu` or `cuda`, which needs onnxruntime-gpu.
        ready_timeout_s: How long a start may take, seconds; one that hangs is tried once more
            after half of it.
        stop_grace_s: How long a stop may take before the server is killed, seconds.
        cuda_pool_bytes: Of the first GPU; None for 256 MiB.
        pinned_pool_bytes: None for Triton's default.
        repositories: Further model repositories to serve, with everything in them.
        model_control: Whether clients may load and unload models.
        has_priorities: Whether requests of live streams are answered before those of files.
        metrics_port: TCP port of the metrics; None for a free one.
        socket_dir: Directory to make for gRPC's socket, so that its address is known beforehand;
            None for one with a name of its own.
        location: With which GPU, and on which cores.
    """

    intra_op_threads: int = 0
    instance_count: int = 1
    device: str = "cpu"
    ready_timeout_s: float = 60.0
    stop_grace_s: float = 10.0
    cuda_pool_bytes: int | None = None
    pinned_pool_bytes: int | None = None
    repositories: tuple[Path, ...] = ()
    model_control: bool = False
    has_priorities: bool = True
    metrics_port: int | None = None
    socket_dir: Path | None = None
    location: Location = HERE


def python_models(models: Sequence[EmbeddedModel], options: EmbeddedOptions) -> list[PythonModel]:
    """How the Python backend serves them."""
    return [
        PythonModel(
            model.spec,
            model.onnx_path.absolute(),
            options.intra_op_threads,
            model.instance_count or options.instance_count,
            options.device,
            package_dirs(),
            options.has_priorities,
            model.demand,
            model.is_known,
        )
        for model in models
    ]


class EmbeddedServer(ClosesAtExit):
    """Starts Triton for a set of models and stops it; a context manager.

    It never outlives this process, even on `kill -9`, and may be started from any thread.
    """

    def __init__(
        self,
        wheel_dir: Path,
        models: Sequence[EmbeddedModel],
        options: EmbeddedOptions | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Starts the server and waits until every model is ready.

        Args:
            wheel_dir: The unpacked `nvidia-pytriton` wheel.
            models: What to serve.
            options: How.
            stop: Set it from elsewhere to abandon the start, and restarts.

        Raises:
            PlatformError: This machine cannot run it, or not without letting other users in.
            AssetError: The wheel is missing.
            ServerStartError: It died or hung; the message ends with its last log lines.
            StoppedError: `stop` was set before it was ready; nothing of it is left.
        """
        check_host(Host.current())
        check_place(paths.TMP)
        self._options = options or EmbeddedOptions()
        self._models = tuple(models)
        self._changing = threading.Lock()
        self._stop_start = stop or threading.Event()
        self._files = find_server_files(wheel_dir)
        self._directory = make_directory()
        self._socket_dir = make_socket_directory(self._options.socket_dir)
        self._log = self._directory / "server.log"
        self._keeper: subprocess.Popen[str] | None = None
        try:
            fill(self._directory, self._files, python_models(self._models, self._options))
            self._start(self._options.metrics_port)
        except BaseException:
            self.close(grace_s=0.0)
            raise

    @property
    def grpc_address(self) -> str:
        """`unix:PATH` of the gRPC endpoint, a socket that only this user reaches."""
        return f"unix:{self._socket_dir}/{_SOCKET}:{_SOCKET_PORT}"

    @property
    def repository(self) -> Path:
        """Where its models are, for new versions; see `EmbeddedOptions.model_control`."""
        return self._directory / "models"

    @property
    def metrics_url(self) -> str:
        """Address of Triton's Prometheus metrics."""
        return f"http://127.0.0.1:{self._metrics_port}/metrics"

    @property
    def pid(self) -> int:
        """Process id of `tritonserver`."""
        return self._pid

    @property
    def log_path(self) -> Path:
        """The file that it and its Python processes log to; gone after `close`."""
        return self._log

    def is_alive(self) -> bool:
        """Whether the server process runs."""
        if self._keeper is None or self._keeper.poll() is not None:
            return False
        # The keeper notices a moment later, and cleans up before it ends.
        return start_ticks(self._pid) is not None

    def answers(self, timeout_s: float) -> bool:
        """Whether the server says that it is live.

        Args:
            timeout_s: Longest wait, seconds.
        """
        with Connection(self.grpc_address, OPEN_ACCESS) as connection:
            try:
                return bool(connection.call("health", "is_server_live", client_timeout=timeout_s))
            except ServerError:  # silence, or a server that is going
                return False

    def abandon_restarts_at(self, stop: threading.Event) -> None:
        """Has another event than that of the first start abandon those that follow.

        Args:
            stop: Set it from elsewhere to abandon a restart.
        """
        self._stop_start = stop

    def restart(self) -> None:
        """Replaces this server, which may be dead, with a new one at the same addresses.

        Raises:
            ServerStartError: It does not start; the message ends with its last log lines.
            PlatformError: As at its first start.
            StoppedError: It was abandoned, see `abandon_restarts_at`.
        """
        with self._changing:
            self._end_keeper(grace_s=0.0)
            self._start(self._metrics_port)

    def log_tail(self, line_count: int = 20) -> str:
        """The last lines that the server wrote, without the frames of its tables.

        Args:
            line_count: How many at most.
        """
        try:
            text = self._log.read_text(errors="replace")
        except OSError:  # it is part of a message about something worse
            return "(no log)"
        # After a failed start, the tables of all options would push the reason out of sight.
        lines = [line for line in text.splitlines() if line and line[0] not in "|+"]
        return "\n".join(line[:1000] for line in lines[-line_count:])

    def close(self, grace_s: float | None = None) -> None:
        """Stops the server and removes everything that belongs to it; safe to call twice.

        Args:
            grace_s: How long it may take to end by itself, seconds; 0 kills it at once, None
                uses the options' value.
        """
        grace_s = self._options.stop_grace_s if grace_s is None else grace_s
        with self._changing:
            self._end_keeper(grace_s)
        for directory in (self._directory, self._socket_dir):
            # Leftovers do no harm, and `reap` removes them.
            shutil.rmtree(directory, ignore_errors=True)

    def _end_keeper(self, grace_s: float) -> None:
        if self._keeper is not None:
            end_keeper(self._keeper, grace_s)
            self._keeper = None

    def _start(self, metrics_port: int | None = None) -> None:
        """Starts the server; once more if it hangs, as one start in several hundred does."""
        limit_s = self._options.ready_timeout_s
        try:
            self._try_to_start(metrics_port, limit_s * _FIRST_TRY)
        except ServerStartError:
            if not self.is_alive():  # it died, and its log says why
                raise
            self._end_keeper(grace_s=0.0)
            self._log.unlink(missing_ok=True)
            self._try_to_start(metrics_port, limit_s)

    def _try_to_start(self, metrics_port: int | None, limit_s: float) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._metrics_port = metrics_port or free_ports(1)[0]
            self._launch()
            try:
                self._await_ready(limit_s)
            except ServerStartError:
                # Somebody took the port after we had found it free and before the server bound it.
                if attempt == _PORT_ATTEMPTS or not _PORT_TAKEN.search(self.log_tail(200)):
                    raise
                self._log.unlink(missing_ok=True)
            else:
                return

    def _launch(self) -> None:
        shm_prefix = self._shm_prefix = f"{new_name('stub')}_"
        launch = {
            "parent": os.getpid(),
            "command": self._command(self._files, shm_prefix),
            "env": server_environment(
                self._files, self._options.device, self._options.location.environment()
            ),
            "cwd": str(self._directory),
            "socket_dir": str(self._socket_dir),
            "log": str(self._log),
            "shm_dir": str(SHM_DIR),
            "shm_prefix": shm_prefix,
            "parent_prefix": owner_prefix(),
        }
        with self._options.location.near():
            self._keeper = start_keeper(launch)
        pid = pid_from(self._keeper)
        if pid is None:
            raise ServerStartError(f"the server's keeper process did not start: {self.log_tail()}")
        self._pid = pid

    def _command(self, files: ServerFiles, shm_prefix: str) -> list[str]:
        directory = self._directory
        return [
            str(files.binary),
            f"--model-repository={directory / 'models'}",
            f"--backend-directory={directory / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            *(f"--model-repository={path}" for path in self._options.repositories),
            *_device_arguments(self._options.device),
            *_pool_arguments(self._options),
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            *(_CONTROL if self._options.model_control else ()),
            "--allow-http=false",
            f"--grpc-address=unix:{self._socket_dir}/{_SOCKET}",
            f"--grpc-port={_SOCKET_PORT}",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={self._metrics_port}",
            f"--exit-timeout-secs={max(1, int(self._options.stop_grace_s))}",
        ]

    def _await_ready(self, limit_s: float) -> None:
        connection = Connection(self.grpc_address, OPEN_ACCESS)
        names = [model.spec.name for model in self._models]
        try:
            connection.wait_ready(names, limit_s, self._check_start)
        except ServerUnreachableError as error:
            raise ServerStartError(
                f"the embedded server was not ready in {limit_s:g} s; its last log lines:\n"
                f"{self.log_tail()}"
            ) from error
        finally:
            connection.close()
        # It answers before it binds the metrics' port, and ends where that is taken.
        self._refuse_dead()
        refuse_open_memory(self._shm_prefix)

    def _check_start(self) -> None:
        if self._stop_start.is_set():
            raise StoppedError("stopped while the embedded server was starting")
        self._refuse_dead()

    def _refuse_dead(self) -> None:
        if not self.is_alive():
            raise ServerStartError(
                f"the embedded server died while starting; its last log lines:\n{self.log_tail()}"
            )


def _device_arguments(device: str) -> list[str]:
    if device == "cpu":
        return []
    return [
        # Finding the fastest convolutions at the start takes longer than the usual 30 s.
        "--backend-config=python,stub-timeout-seconds=240",
    ]


def _pool_arguments(options: EmbeddedOptions) -> list[str]:
    arguments = []
    if options.device != "cpu":
        size = options.cuda_pool_bytes or _CUDA_POOL_BYTES
        arguments.append(f"--cuda-memory-pool-byte-size=0:{size}")
    if options.pinned_pool_bytes is not None:
        arguments.append(f"--pinned-memory-pool-byte-size={options.pinned_pool_bytes}")
    return arguments
