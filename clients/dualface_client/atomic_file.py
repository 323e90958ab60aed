"""Files that readers see either as they were or as they will be, never in part."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which takes the file's name at the end of the body.

    If the body fails, the file stays as it was and the draft is removed. An existing file keeps its
    permissions, and a symbolic link its target.

    Args:
        path: The file; its directory must exist.

    Yields:
        A path in the same directory, without a file so far.

    Raises:
        OSError: The file cannot be replaced.
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield draft
        if target.is_file():
            shutil.copymode(target, draft)
        draft.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that is raised says what is wrong there
            draft.unlink()
        raise


def write_atomically(path: Path, content: str | bytes, *, sync: bool = False) -> None:
    """Replaces a file atomically; a pipe or a device, such as `/dev/stdout`, is written to.

    Args:
        path: The file; its directory must exist.
        content: All of it; text becomes UTF-8.
        sync: Whether to wait until it is on the disk, so that it survives a power failure.

    Raises:
        OSError: It cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
