"""Files that several processes may write: checksums, whole files and one lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dualface_client.assets.installation import Installation
from dualface_client.atomic_file import open_for_writing, write_atomically
from dualface_client.errors import AssetError

LOCK_FILE = ".lock"
POLL_S = 0.2
#: What to do where a directory is full or cannot be written.
NEEDS_SPACE = "free some space there, or name another directory in DUALFACE_HOME"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_asset(path: Path, content: bytes) -> None:
    """Writes a file as a whole, and makes its directory where it is missing.

    Raises:
        AssetError: The directory is not writable or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise AssetError(_cannot_write(path, error)) from error


def _cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror}; {NEEDS_SPACE}"


@contextmanager
def exclusive(
    directory: Path, installation: Installation, timeout_s: float = 900.0
) -> Iterator[None]:
    """Holds the directory's lock; the kernel drops it when the process ends in any way.

    Args:
        directory: Made if it does not exist.
        installation: Is told if there is something to wait for, and may end the wait.
        timeout_s: How long to wait for another holder.

    Raises:
        AssetError: Not writable, or still locked after `timeout_s`.
        StoppedError: A stop was asked for.
    """
    path = directory / LOCK_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(open_for_writing(path), "w")
    except OSError as error:
        raise AssetError(_cannot_write(path, error)) from error
    with file:
        _acquire(file, path, timeout_s, installation)
        yield


def _acquire(file: IO[str], path: Path, timeout_s: float, installation: Installation) -> None:
    deadline = time.monotonic() + timeout_s
    waiting = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AssetError(
                    f"{path} is still locked after {timeout_s:g} s: another fetch or export is "
                    "running; wait for it or end it"
                ) from None
            if not waiting:
                installation.tell(f"waiting for another process that holds {path}")
            waiting = True
            installation.stop.wait(POLL_S)
            installation.check_stop()
        except OSError as error:
            raise AssetError(
                f"{path} cannot be locked ({error.strerror}): this file system has no file locks; "
                "set DUALFACE_HOME to a directory on another one"
            ) from error
        else:
            return
