"""Files that readers see either as they were or as they will be, never in part.

No symbolic link is followed to a file: in a directory where others can write, it would lead to a
file of their choice. The devices of `/dev`, such as `/dev/stdout`, are links too and may be named.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

#: What is wrong with a link, to follow its path.
LINK = "is a symbolic link, which is not followed; remove it, or name the file that it leads to"


def is_device(path: Path) -> bool:
    """Whether a path leads to a pipe or a device, or lies in `/dev`, and is written to in place."""
    in_dev = path.parent in (Path("/dev"), Path("/dev/fd")) and os.path.lexists(path)
    return in_dev or (path.exists() and not path.is_file())


def refuse_link(path: Path) -> None:
    """Checks that a file is not reached through a symbolic link.

    Raises:
        OSError: It is one, also if it leads nowhere.
    """
    if path.is_symlink() and not is_device(path):
        raise OSError(errno.ELOOP, LINK, str(path))


def open_for_writing(path: Path, flags: int = 0) -> int:
    """A file descriptor, not of what a symbolic link leads to, except to a device.

    Args:
        path: Is made if it does not exist.
        flags: Of `os.open`, further ones.

    Raises:
        OSError: It cannot be opened, or is a symbolic link.
    """
    refuse_link(path)
    flags |= os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    # A link may have been put there since.
    return os.open(path, flags if is_device(path) else flags | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which takes the file's name at the end of the body.

    If the body fails, the file stays as it was and the draft is removed. An existing file keeps its
    permissions.

    Args:
        path: The file; its directory must exist.

    Yields:
        A path in the same directory, of an empty file.

    Raises:
        OSError: The file cannot be replaced, or is a symbolic link.
    """
    refuse_link(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)  # of a killed process with the same id
    draft.touch(exist_ok=False)
    try:
        yield draft
        if path.is_file():
            shutil.copymode(path, draft)
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that is raised says what is wrong there
            draft.unlink()
        raise


def write_atomically(
    path: Path, content: str | bytes | Iterable[str], *, sync: bool = False
) -> None:
    """Replaces a file atomically; a pipe or a device, such as `/dev/stdout`, is written to.

    Args:
        path: The file; its directory must exist.
        content: All of it, at once or piece by piece; text becomes UTF-8.
        sync: Whether to wait until it is on the disk, so that it survives a power failure.

    Raises:
        OSError: It cannot be written.
    """
    pieces = (content,) if isinstance(content, str | bytes) else content
    data = (piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    if is_device(path):
        with path.open("wb") as device:
            device.writelines(data)
        return
    with replacing(path) as draft, draft.open("wb") as file:
        file.writelines(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
