"""The environment, the port, the privacy and the end of the server's process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualface_client.errors import PlatformError, UsageError
from dualface_client.memory.region import SHM_DIR
from dualface_client.triton import keeper
from dualface_client.triton.mps_shares import share_of_server
from dualface_client.triton.server_files import ServerFiles

_PID_WAIT_S = 10.0


def server_environment(
    files: ServerFiles, device: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Environment variables of the server.

    Args:
        files: The pieces it is started from.
        device: `cpu` or `cuda`.
        environ: Those of the place where it is started.
    """
    keep = {
        key: value
        for key, value in environ.items()
        # These are for our interpreter, not for the stub's; and nothing is fetched from anywhere.
        if not key.startswith("PYTHON") and not key.lower().endswith("_proxy")
    }
    libraries = [str(place) for place in files.library_dirs]
    if device != "cpu":  # perhaps the only way to the driver's libraries
        libraries += [place for place in [environ.get("LD_LIBRARY_PATH")] if place]
    # The stub finds its prefix, and so our packages, by the first `python3` on the path.
    path = f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}"
    return {
        **keep,
        **(share_of_server(environ) if device != "cpu" else {}),
        "PATH": path,
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def refuse_open_memory(prefix: str, directory: Path = SHM_DIR) -> None:
    """Checks that no other user can read what passes through a server's shared memory.

    Args:
        prefix: What the names of its files begin with.
        directory: Where they lie.

    Raises:
        PlatformError: Another user can.
    """
    for path in directory.glob(f"{prefix}*"):
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise PlatformError(
                f"{path}: other users of this machine could read pictures there (mode {mode:o}). "
                "The embedded server makes it private by a seccomp filter, which this kernel or "
                "sandbox refuses: allow the system calls seccomp and prctl, or use a running "
                "Triton (--server HOST:PORT)"
            )


def refuse_taken(option: str, port: int) -> None:
    """Refuses a port of 127.0.0.1 on which somebody listens.

    Args:
        option: That named it, for the message.
        port: The port.

    Raises:
        UsageError: It is taken, or this user may not have it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"{option} {port}: cannot be used on 127.0.0.1 ({error.strerror}); choose another "
                "port, or leave it out for a free one"
            ) from error


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that were free a moment ago."""
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            probe = open_sockets.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def start_keeper(launch: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Starts a program that ends with this process, however that ends.

    Args:
        launch: What `keeper` reads.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal is only for the client
    )
    assert process.stdin is not None  # noqa: S101 - for the type checker
    with contextlib.suppress(OSError):  # it died: `pid_from` says so
        process.stdin.write(json.dumps(launch) + "\n")
        process.stdin.flush()
    return process


def pid_from(process: subprocess.Popen[str]) -> int | None:
    """The process id of what a keeper started, None if it could not."""
    assert process.stdout is not None  # noqa: S101 - for the type checker
    ready, _, _ = select.select([process.stdout], [], [], _PID_WAIT_S)
    line = process.stdout.readline() if ready else ""
    return int(json.loads(line)["pid"]) if line else None


def end_keeper(process: subprocess.Popen[str], grace_s: float) -> None:
    """Ends the server through its keeper and waits for both.

    Args:
        process: The keeper, with pipes.
        grace_s: How long the server may take to end by itself, seconds; 0 kills it at once.
    """
    with contextlib.suppress(OSError, ValueError):  # it has died: `wait` below sees that
        assert process.stdin is not None  # noqa: S101 - for the type checker
        process.stdin.write(f"stop {grace_s}\n")
        process.stdin.flush()
    with contextlib.suppress(OSError, ValueError):  # likewise
        process.stdin.close()  # type: ignore[union-attr] # a pipe, see `EmbeddedServer`
    try:
        process.wait(grace_s + 5.0)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # takes the server with it
        process.wait(5.0)
    if process.stdout is not None:
        process.stdout.close()
