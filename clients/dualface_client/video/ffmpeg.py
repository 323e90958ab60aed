"""The way to FFmpeg: the import of PyAV and the mapping of its errors, only here."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualface_client.errors import (
    DiskFullError,
    PlatformError,
    SinkError,
    SourceError,
    UsageError,
)
from dualface_client.extras import INSTALL

try:
    import av
except ImportError as missing:  # pragma: no cover - a broken installation
    raise PlatformError(
        f"PyAV cannot be imported ({missing}); install it with: {INSTALL}"
    ) from missing

if TYPE_CHECKING:
    from av.packet import Packet

__all__ = [
    "AV_ERRORS",
    "NO_SPACE",
    "av",
    "file_url",
    "packet_of",
    "reason",
    "sink_error",
    "source_error",
    "thread_count",
    "ticks",
]

#: Errors that somebody can end by making room. A file that has grown too large (EFBIG) is
#: different: neither the process's limit nor the file system's largest file size changes while one
#: waits.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# What FFmpeg says of headers that make no sense; of a file on a disk it means nothing else.
_SENSELESS = frozenset({errno.EBUSY, errno.EINVAL, errno.ERANGE, errno.EDOM})
#: AVFMT_TS_DISCONT, of a container format: its times may start again, so that its duration is only
#: measured in its last bytes.
TIMES_RESTART = 0x0200
# PyAV raises its own tree; its non-FFmpeg failures are plain ValueError and OSError.
AV_ERRORS: tuple[type[Exception], ...] = (av.FFmpegError, OSError, ValueError, RuntimeError)


def reason(error: Exception) -> str:
    """What an error says, without PyAV's prefix and file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def source_error(path: Path, error: Exception, remedy: str) -> SourceError:
    """Maps a failed read.

    Args:
        path: The input.
        error: What PyAV or the system raised.
        remedy: What the user can do.
    """
    said = reason(error)
    if getattr(error, "errno", None) in _SENSELESS and path.is_file():
        said = "its header says what FFmpeg does not take, such as an impossible size"
    return SourceError(f"{path}: cannot be read as a video ({said}); {remedy}")


def sink_error(path: Path, error: Exception) -> SinkError:
    """Maps a failed write by its errno; the part before the failure stays playable."""
    number = getattr(error, "errno", None)
    if number == errno.EFBIG:
        return DiskFullError(
            f"{path}: the output has reached the largest size allowed here (File too large); raise "
            "the limit (`ulimit -f`), or choose a file system that allows larger files"
        )
    if number in NO_SPACE:
        return DiskFullError(
            f"{path}: no space is left for the output ({os.strerror(number)}); "
            "free some or choose another directory"
        )
    return SinkError(f"{path}: writing the output failed ({reason(error)})")


def thread_count(threads: int | str) -> int:
    """Codec threads as FFmpeg counts them: 0 is its own choice.

    Args:
        threads: `"auto"` or a positive number.

    Raises:
        UsageError: Anything else.
    """
    if threads == "auto":
        return 0
    if isinstance(threads, int) and threads > 0:
        return threads
    raise UsageError(f"threads is {threads!r}; expected 'auto' or a number from 1")


def file_url(path: Path) -> str:
    """The path for FFmpeg, so that a colon in a name is not taken for a protocol."""
    return f"file:{path}"


def packet_of(data: bytes) -> Packet[Any]:
    """A packet with a copy of some data, followed by the zeros that decoders read beyond its end.

    `av.Packet(data)` only refers to the data: what lies behind it in memory is then read as more of
    it, and now and then a good picture counts as damaged.
    """
    packet: Packet[Any] = av.Packet(len(data))
    if data:
        packet.update(data)
    return packet


def ticks(seconds: Fraction, time_base: Fraction) -> int:
    """Seconds as the nearest whole number of time base units."""
    return round(seconds / time_base)
