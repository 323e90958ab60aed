"""NVIDIA's Multi-Process Service for one run: its own daemon, which ends with it.

Without it a GPU works for one process at a time and changes between them hundreds of times a
second. With it the kernels of all of them run side by side, in one context of the MPS server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import PlatformError
from dualface_client.memory.names import new_name
from dualface_client.memory.region import SHM_DIR
from dualface_client.triton.reaper import owner_prefix
from dualface_client.triton.server_directory import make_socket_directory
from dualface_client.triton.server_process import end_keeper, pid_from, start_keeper

_PROGRAM = "nvidia-cuda-mps-control"
_VARIABLES = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
_READY_S, _ANSWER_S, _END_S = 20.0, 5.0, 5.0
_POLL_S = 0.05


class MpsDaemon(ClosesAtExit):
    """The control daemon, in a directory that only this user can enter.

    It never outlives this process, even on `kill -9`.

    Raises:
        PlatformError: It is missing or does not start; the message ends with its last words.
    """

    def __init__(self) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise PlatformError(
                f"server.mps: {_PROGRAM} is not on the PATH. It comes with NVIDIA's driver (in a "
                "container it has to be mounted); without --mps nothing needs it"
            )
        self._program = program
        self._directory = make_socket_directory()
        self.environment = dict.fromkeys(_VARIABLES, str(self._directory))
        self._log = self._directory / "daemon.log"
        self._keeper: subprocess.Popen[str] | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the daemon and its server; safe to call twice. Its clients should have ended."""
        if self._keeper is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it is killed below
                self._ask("quit -t 2")
            end_keeper(self._keeper, _END_S)
            self._keeper = None
        # Leftovers do no harm, and `reap` removes them.
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        self._keeper = start_keeper(
            {
                "parent": os.getpid(),
                "command": [self._program, "-f"],
                "env": {**_for_all_gpus(), **self.environment},
                "cwd": str(self._directory),
                "socket_dir": str(self._directory),
                "log": str(self._log),
                "shm_dir": str(SHM_DIR),
                "shm_prefix": f"{new_name('mps')}_",
                "parent_prefix": owner_prefix(),
            }
        )
        if pid_from(self._keeper) is None or not self._becomes_ready():
            raise PlatformError(
                f"server.mps: {_PROGRAM} did not start ({self._last_words()}); the run works "
                "without --mps, too"
            )

    def _becomes_ready(self) -> bool:
        assert self._keeper is not None  # noqa: S101 - started above
        for _ in range(int(_READY_S / _POLL_S)):
            if self._keeper.poll() is not None:
                return False
            if (self._directory / "control").exists():
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # asked again
                    if self._ask("get_server_list") == 0:
                        return True
            threading.Event().wait(_POLL_S)
        return False

    def _ask(self, command: str) -> int:
        return subprocess.run(
            [self._program],
            input=f"{command}\n",
            text=True,
            env={**os.environ, **self.environment},
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        ).returncode

    def _last_words(self) -> str:
        texts = []
        for path in (self._log, self._directory / "control.log"):
            with contextlib.suppress(OSError):  # part of a message about something worse
                texts += Path(path).read_text(errors="replace").split("\n")[-4:]
        return " | ".join(text for text in texts if text) or "it said nothing"


def _for_all_gpus() -> dict[str, str]:
    """This process's environment, for a daemon that serves every GPU.

    One that is told to see some of them counts those from 0, and a client that is told the same
    finds none (docs.nvidia.com/deploy/mps, CUDA_VISIBLE_DEVICES).
    """
    return {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}


@contextmanager
def multi_process_service(*, wanted: bool) -> Iterator[Mapping[str, str]]:
    """Runs a daemon while the body runs; processes that are started meanwhile use it.

    Args:
        wanted: False does nothing.

    Yields:
        Environment variables by which other processes find it, empty without one.

    Raises:
        PlatformError: As `MpsDaemon`.
    """
    if not wanted:
        yield {}
        return
    before = {name: os.environ.get(name) for name in _VARIABLES}
    with MpsDaemon() as daemon:
        os.environ.update(daemon.environment)
        try:
            yield daemon.environment
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
