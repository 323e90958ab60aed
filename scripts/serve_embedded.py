"""Becomes the embedded tritonserver, in a container: fixed ports, a key for what changes it.

    python scripts/serve_embedded.py [--directory DIR] [--threads N] [--key-file FILE]
        [--watchdog FILE]

The process is replaced by `tritonserver`, so that the container's signals reach it; the watchdog
becomes its child. Models and the server's wheel come from the cache directory, which may be
read-only.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from dualface_client.errors import DualfaceError, UsageError
from dualface_client.memory.names import new_name
from dualface_client.settings.paths import models_dir, tritonserver_dir
from dualface_client.triton.description import MODELS
from dualface_client.triton.keeper import keep_files_private
from dualface_client.triton.repository import PythonModel, write_python_model
from dualface_client.triton.server_files import ServerFiles, find_server_files

#: What a client must send the key for. Health, metadata and inference stay open: the first two for
#: the health check, inference because it reaches nothing that was not registered with the key.
RESTRICTED = (
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
#: Name of the gRPC header, after Triton's own prefix `triton-grpc-protocol-`.
KEY_NAME = "dualface-key"
#: Where the watchdog tells Prometheus about the server.
WATCHDOG_PORT = 8003


def prepare(directory: Path, files: ServerFiles, threads: int) -> None:
    """Writes the model repository and the backend directory.

    Args:
        directory: Empty directory.
        files: The server's pieces.
        threads: Threads of one model run.
    """
    packages = dict.fromkeys(Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib"))
    for spec in MODELS:
        onnx_path = models_dir() / f"{spec.name}.onnx"
        model = PythonModel(spec, onnx_path, threads, python_path=tuple(packages))
        write_python_model(directory / "models", model)
    backend = directory / "backends" / "python"
    backend.mkdir(parents=True)
    for source in (*files.backend.iterdir(), files.stub):
        (backend / source.name).symlink_to(source)


def command(files: ServerFiles, directory: Path, key: str) -> list[str]:
    """The server's command line.

    Args:
        files: The server's pieces.
        directory: See `prepare`.
        key: Secret, or empty to restrict nothing.
    """
    rule = f"{','.join(RESTRICTED)}:{KEY_NAME}={key}"
    restricted = [f"--grpc-restricted-protocol={rule}", f"--http-restricted-api={rule}"]
    return [
        str(files.binary),
        f"--model-repository={directory / 'models'}",
        f"--backend-directory={directory / 'backends'}",
        # The process stays the same one when it becomes the server, and so does the owner.
        f"--backend-config=python,shm-region-prefix-name={new_name('stub')}_",
        "--disable-auto-complete-config",
        "--model-control-mode=explicit",
        *(f"--load-model={spec.name}" for spec in MODELS),
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--exit-timeout-secs=20",
        *(restricted if key else []),
    ]


def environment(files: ServerFiles) -> dict[str, str]:
    """Environment variables of the server.

    Args:
        files: The server's pieces.
    """
    libraries = ":".join(str(place) for place in files.library_dirs)
    # The stub finds its prefix, and so our packages, by the `python3` that stands first.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": path}


def read_key(path: Path | None) -> str:
    """The secret in a file, empty where no file is named.

    Raises:
        UsageError: There is no such file, or it holds no plain word.
    """
    if path is None:
        return ""
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise UsageError(f"--key-file {path}: {error.strerror}") from error
    if not re.fullmatch(r"[0-9A-Za-z_-]{16,}", key):
        raise UsageError(f"--key-file {path}: expected 16 or more letters, digits, - and _")
    return key


def start_watchdog(script: Path) -> None:
    """Starts what ends the server where that hangs; this process is about to become the server."""
    names = [part for spec in MODELS for part in ("--model", spec.name)]
    line = [sys.executable, str(script), "--pid", str(os.getpid()), *names]
    subprocess.Popen([*line, "--metrics-port", str(WATCHDOG_PORT)])


def main(argv: Sequence[str] | None = None) -> int:
    """Starts the server; returns only where that fails, with exit status 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("/tmp/serve"))  # noqa: S108 - a container's own
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--key-file", type=Path)
    parser.add_argument("--watchdog", type=Path, help="scripts/watchdog.py")
    options = parser.parse_args(argv)
    try:
        key = read_key(options.key_file)
        files = find_server_files(tritonserver_dir())
        prepare(options.directory, files, options.threads or len(os.sched_getaffinity(0)))
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.watchdog is not None:
        start_watchdog(options.watchdog)
    arguments = command(files, options.directory, key)
    keep_files_private()
    return os.execve(arguments[0], arguments, environment(files))  # noqa: S606 - our own path, no shell


if __name__ == "__main__":
    sys.exit(main())
