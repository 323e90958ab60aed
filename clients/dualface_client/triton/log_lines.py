"""Lines of a growing log: a file, or a pipe such as `docker compose logs -f`."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 1 << 16
#: Longer lines are cut here; nothing that long is looked for.
_LINE_BYTES = 8192


class _Cutter:
    """Cuts chunks into lines and keeps the last, incomplete one."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, chunk: bytes) -> list[str]:
        *complete, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[-_LINE_BYTES:]
        return [line.decode(errors="replace") for line in complete]


class LogFile:
    """New complete lines of a growing file, which may be truncated, replaced or not there yet.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._cutter = _Cutter()

    @property
    def ended(self) -> bool:
        """False: a file may always grow."""
        return False

    def lines(self) -> Iterator[str]:
        """Lines that were completed since the last call."""
        for chunk in self._chunks():
            yield from self._cutter.cut(chunk)

    def _chunks(self) -> Iterator[bytes]:
        # Read first what was written to the old file before it was replaced.
        for _ in range(2):
            if self._file is not None:
                while chunk := self._file.read(_CHUNK_BYTES):
                    yield chunk
            if not self._reopened():
                return

    def _reopened(self) -> bool:
        """Opens the file if it is new; goes to its beginning if it was truncated."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:  # being rotated: it will be there next time
            return False
        if self._file is not None:
            mine = os.fstat(self._file.fileno())
            if (mine.st_dev, mine.st_ino) == (now.st_dev, now.st_ino):
                if now.st_size >= self._file.tell():
                    return False
                self._file.seek(0)
                return True
            self.close()
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115 - followed until `close`
        except FileNotFoundError:  # removed since it was looked at: it will be there next time
            return False
        return True

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


class LogPipe:
    """Lines that come through a file descriptor, until its other end closes.

    Args:
        descriptor: Of a pipe or terminal; stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._cutter = _Cutter()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the other end has closed."""
        return self._ended

    def lines(self) -> Iterator[str]:
        """Lines that have come since the last call."""
        while not self._ended and select.select([self._descriptor], [], [], 0)[0]:
            chunk = os.read(self._descriptor, _CHUNK_BYTES)
            self._ended = not chunk
            # A last line without a line end counts too.
            yield from self._cutter.cut(chunk or b"\n")

    def close(self) -> None:
        """Does nothing: the descriptor is the caller's."""
