"""The file below a sink: written under a partial name, published under the final one."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from dualface_client.atomic_file import LINK
from dualface_client.errors import SinkError, UsageError
from dualface_client.video import integrity
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.ffmpeg import sink_error

#: Attempts to get a file that nobody else holds; one fails while another process is ending its
#: output under the same name.
_OPEN_TRIES = 5
#: What a taken lock says; some network file systems say the second. The rest means no locks here.
_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EACCES})


def partial_path_of(final: Path) -> Path:
    """Where a file is written until it is complete: `out.mp4` as `out.partial.mp4`."""
    return final.with_name(f"{final.stem}.partial{final.suffix}")


def part_path_of(final: Path, number: int) -> Path:
    """Where a part of a recording stays that was broken off: `out.mp4` as `out.part1.mp4`."""
    return final.with_name(f"{final.stem}.part{number}{final.suffix}")


def is_finished(partial: Path, final: Path) -> bool:
    """Whether a partial name is a second name of the finished output.

    Its process was killed after giving the final name and before removing the partial one. To
    remove it, hold the file's lock, so that this is not happening at the moment.
    """
    try:
        return os.path.samestat(os.lstat(partial), os.lstat(final))
    except FileNotFoundError:  # one of the two names is not there
        return False


def is_being_written(final: Path, lock: Callable[[int, int], None] = fcntl.flock) -> bool:
    """Whether a process writes this output; False also where file locks cannot tell.

    Args:
        final: The finished file's name.
        lock: As `fcntl.flock`.
    """
    try:
        fd = os.open(partial_path_of(final), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # not there
        return False
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # the answer
        return error.errno in _TAKEN
    finally:
        os.close(fd)
    return False


def why_no_partial(partial: Path) -> str:
    """Why a partial name cannot be used, empty where it can: what is there is no file of ours."""
    if partial.is_symlink():
        return LINK
    return "exists and is no file; remove it" if partial.exists() and not partial.is_file() else ""


def why_not_locked(partial: Path, error: OSError) -> str:
    """Why an existing partial file cannot be taken over, and what to do.

    Args:
        partial: The file.
        error: What `flock` raised.
    """
    if error.errno in _TAKEN:
        return f"{partial}: another process is writing it; wait for it or choose another output"
    return (
        f"{partial}: exists, and this file system has no file locks ({error.strerror}) that would "
        "tell whether another process is writing it; delete it if none is, or choose another output"
    )


class OutputFile:
    """A seekable file object for PyAV that keeps the first write error and then freezes.

    FFmpeg writes an MP4's index last, and only then turns the fragments before it into one block.
    If the index does not fit on the disk, the rest must not happen either: after the first error
    every write is dropped, so that the fragments on disk stay playable.

    The partial file is locked: two processes never write the same output. One that a killed
    process left behind is replaced, unless the file system has no locks; there, only a partial file
    that did not exist before is written.

    Attributes:
        error: The first failed write, None so far.
    """

    def __init__(
        self,
        final: Path,
        *,
        overwrite: bool,
        keeps_parts: bool = False,
        disk_wait: DiskWait | None = None,
        lock: Callable[[int, int], None] = fcntl.flock,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        """Creates the partial file.

        Args:
            final: The name that it gets in the end.
            overwrite: Whether an existing output is replaced.
            keeps_parts: Whether what was left under the partial name gets one of its own (see
                `part_path_of`) instead of being removed: a camera does not send it again.
            disk_wait: Patience with a full disk, None for none.
            lock: As `fcntl.flock`.
            sync: As `os.fsync`.

        Raises:
            UsageError: The output exists and `overwrite` is false, it is a directory, or another
                process writes it.
            SinkError: The directory is missing or not writable, or something else has the partial
                file's name.
        """
        self._final = final
        self._overwrite = overwrite
        self._keeps_parts = keeps_parts
        self._disk_wait = disk_wait or DiskWait()
        self._lock = lock
        self._sync = sync
        self._partial: Path | None = partial_path_of(final)
        self.error: OSError | None = None
        self._fd = self._open_locked(partial_path_of(final))

    @property
    def partial_path(self) -> Path | None:
        """Path of the unpublished file, None once it is published or removed."""
        return self._partial

    def write(self, data: bytes) -> int:
        """Writes at the current position, waiting for space; an error is kept, not raised."""
        rest = memoryview(data)
        while rest and self.error is None:
            try:
                rest = rest[os.write(self._fd, rest) :]
                self._disk_wait.succeeded()
            except OSError as error:
                if not self._disk_wait.wait(error):
                    self.error = error
                    self._cut_to_whole_boxes()
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, in bytes."""
        return os.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """The position, in bytes."""
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def publish(self) -> None:
        """Gives the file its final name, atomically, and closes it.

        Its bytes are on the disk before the name is, so a file with this name is complete even
        after a power failure.

        Raises:
            SinkError: The disk did not take all of it, the output appeared meanwhile, or the
                directory refuses the name or is another one. The partial file stays.
        """
        partial = partial_path_of(self._final)
        try:
            self._sync(self._fd)
            self._check_place(partial)
            if self._overwrite:
                partial.replace(self._final)
            else:
                _rename_exclusive(partial, self._final)
        except FileExistsError as error:
            raise SinkError(
                f"{self._final}: appeared while it was written; the result is kept as {partial}"
            ) from error
        except OSError as error:
            raise sink_error(self._final, error) from error
        finally:
            self.release()
        self._partial = None

    def discard(self) -> None:
        """Removes the partial file and closes it."""
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
        self._partial = None
        self.release()

    def release(self) -> None:
        """Closes the file and leaves it where it is; may be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _keep_mode(self, fd: int) -> None:
        """Gives the new file the permissions of the one that it is going to replace, if any."""
        if self._final.is_file() and not self._final.is_symlink():
            os.fchmod(fd, stat.S_IMODE(self._final.stat().st_mode))

    def _check_place(self, partial: Path) -> None:
        """Refuses to give the final name to anything but what was written here."""
        if not _is_at(partial, self._fd):
            found = os.readlink(f"/proc/self/fd/{self._fd}")
            raise SinkError(
                f"{self._final}: {partial} was moved, removed or replaced while it was written, or "
                f"its directory was; the result is {found}"
            )

    def _cut_to_whole_boxes(self) -> None:
        """Cuts an MP4 after its last complete box: players refuse a file with half a `moof`."""
        with os.fdopen(os.dup(self._fd), "rb") as stream:
            size = os.fstat(self._fd).st_size
            if integrity.is_mp4(os.pread(self._fd, 12, 0)):
                boxes = integrity.mp4_boxes(stream, size, limit=None)
                ends = [end for _, end in boxes if end <= size]
                os.ftruncate(self._fd, max(ends, default=0))

    def _make_way(self, partial: Path, fd: int) -> None:
        """Removes what was left under the partial name, or gives it another one."""
        has_content = os.fstat(fd).st_size > 0 and not is_finished(partial, self._final)
        if not self._keeps_parts or not has_content:
            partial.unlink()
            return
        for number in itertools.count(1):
            try:
                _rename_exclusive(partial, part_path_of(self._final, number))
            except FileExistsError:  # an earlier part
                continue
            return

    def _check_target(self) -> None:
        parent = self._final.parent
        if not parent.is_dir():
            raise SinkError(f"{parent}: is not a directory; create it or choose another output")
        if self._final.is_dir():
            raise UsageError(f"{self._final}: is a directory; name an output file")
        if os.path.lexists(self._final) and not self._overwrite:
            raise UsageError(f"{self._final}: exists; choose another name or allow --overwrite")

    def _open_locked(self, partial: Path) -> int:
        """The partial file, new and only ours.

        One that a killed process left behind is removed once it is locked, and not truncated: it
        may have another name, that of a finished output or of somebody's file.
        """
        for _ in range(_OPEN_TRIES):
            self._check_target()
            fd, is_new = _opened(partial)
            try:
                self._lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if is_new and error.errno not in _TAKEN:
                    return fd  # no locks here: whoever finds the file leaves it alone
                os.close(fd)
                kind = UsageError if error.errno in _TAKEN else SinkError
                raise kind(why_not_locked(partial, error)) from error
            if _is_at(partial, fd):
                if is_new:
                    self._keep_mode(fd)
                    return fd
                self._make_way(partial, fd)
            os.close(fd)
        raise SinkError(
            f"{partial}: other processes keep finishing this output; choose another output"
        )


def _opened(partial: Path) -> tuple[int, bool]:
    """An open file, and whether it did not exist before."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(partial, flags | os.O_EXCL, 0o666), True
        except FileExistsError:  # left behind, or being written: the lock shows it
            if reason := why_no_partial(partial):
                raise SinkError(f"{partial}: {reason}") from None
            return os.open(partial, flags, 0o666), False
    except PermissionError as error:
        raise SinkError(
            f"{partial.parent}: is not writable; change its permissions or choose another"
        ) from error
    except OSError as error:
        raise sink_error(partial, error) from error


def _is_at(path: Path, fd: int) -> bool:
    """Whether an open file is the one with this name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except (FileNotFoundError, NotADirectoryError):  # the name has gone, or its directory
        return False


def _rename_exclusive(old: Path, new: Path) -> None:
    """Renames without replacing; `FileExistsError` if the new name is taken."""
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: check and rename, nearly as good
        if os.path.lexists(new):
            raise FileExistsError(str(new)) from None
        old.rename(new)
    else:
        old.unlink()
