"""The messages of supervisor and worker: one JSON object per line, bounded and versioned.

Both ends have the same version, because the supervisor starts the worker; with the version in every
message, a mixed installation is reported instead of misread.

msgspec turns messages into JSON's types and back; the text is written by `json`, which, unlike
msgspec's own writer, has room for file names that are not UTF-8 and for infinity.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from dualface_client import __version__
from dualface_client.errors import DualfaceError
from dualface_client.histogram import Histogram
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.report import StreamReport
from dualface_client.stream.job import Job
from dualface_client.stream.preview import Preview
from dualface_client.stream.setup import WorkerSetup
from dualface_client.types import LayoutKind

#: A stream's last report, with its history, is the longest message, and far shorter.
LINE_LIMIT_BYTES = 4 << 20


class ProtocolError(DualfaceError):
    """The other end said something that this version does not understand."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What one end says to the other."""


class Begin(Message, frozen=True):
    """The first message to a worker."""

    setup: WorkerSetup


class TakeJob(Message, frozen=True):
    """One more job for a worker."""

    job: Job


class StopJobs(Message, frozen=True):
    """A worker's jobs are to end early; `error` says why, empty if somebody wants to stop."""

    error: str
    exit_code: int


class StopStream(Message, frozen=True):
    """One stream of a worker is to end early: nobody wants it any more."""

    stream: str


class SteerStream(Message, frozen=True):
    """Something is to be changed in a running stream; the worker answers with `Steered`.

    Attributes:
        stream: Which.
        number: Of the answer.
        wish: What: `swap`, `hold` (then `side` and `person` say whom) or `layout`.
        side: A person's tile.
        person: A person's number.
        layout: How the canvas is divided.
        gap_px: Between the two tiles; None for what it was.
    """

    stream: str
    number: int
    wish: Literal["swap", "hold", "layout"]
    side: Literal["left", "right"] = "left"
    person: int = 0
    layout: LayoutKind = "side-by-side"
    gap_px: int | None = None


class WatchStream(Message, frozen=True):
    """Somebody looks at a stream for this long from now on; the worker sends `Shown`."""

    stream: str
    seconds: float


class End(Message, frozen=True):
    """A worker is to end when its jobs have."""


class Ready(Message, frozen=True):
    """A worker has its session."""


class Refused(Message, frozen=True):
    """A worker could not open its session."""

    error: str
    exit_code: int


class ServerAwaited(Message, frozen=True):
    """The server went away, and a worker waits for it."""


class Progress(Message, frozen=True):
    """How a stream is doing; a final state is its end."""

    report: StreamReport


class Beat(Message, frozen=True):
    """A worker lives."""


class Figures(Message, frozen=True):
    """How a worker's memory and requests are doing; it is alive, too."""

    region: PoolReport
    requests: dict[str, Histogram]


class LogLine(Message, frozen=True):
    """A worker's log record, `level` as in `logging`."""

    level: int
    event: str
    stream: str
    text: str
    trace: str


class Steered(Message, frozen=True):
    """What came of a `SteerStream`; `problem` is empty if it was done."""

    number: int
    problem: str


class Shown(Message, frozen=True):
    """What a stream shows, for somebody who looks."""

    stream: str
    preview: Preview


class Closed(Message, frozen=True):
    """A worker's last message."""

    region: PoolReport


ToWorker = Begin | TakeJob | StopJobs | StopStream | SteerStream | WatchStream | End
#: What a worker says of itself and of the server, for whoever watches.
News = ServerAwaited | Figures
#: What it says because somebody outside wants something of a stream.
Reply = Steered | Shown
ToSupervisor = Ready | Refused | Progress | Beat | LogLine | News | Reply | Closed


def encode(message: Message) -> bytes:
    """One message as a line.

    Raises:
        ProtocolError: It is too long.
    """
    fields = msgspec.to_builtins(message, str_keys=True, enc_hook=_plain)
    line = json.dumps({"v": __version__, **fields}).encode() + b"\n"
    if len(line) > LINE_LIMIT_BYTES:
        kind = fields["kind"]
        raise ProtocolError(f"message {kind!r} has {len(line)} bytes; limit {LINE_LIMIT_BYTES}")
    return line


def heard_by_worker(line: bytes) -> ToWorker:
    """What the supervisor said.

    Raises:
        ProtocolError: It is not a message of this version to a worker, or is cut short.
    """
    message: ToWorker = _decode(line, ToWorker)
    return message


def heard_by_supervisor(line: bytes) -> ToSupervisor:
    """What a worker said.

    Raises:
        ProtocolError: It is not a message of this version to a supervisor, or is cut short.
    """
    message: ToSupervisor = _decode(line, ToSupervisor)
    return message


def _decode(line: bytes, kinds: Any) -> Any:
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.pop("v", None) != __version__:
            raise ProtocolError(f"not a message of version {__version__}: {line[:80]!r}")
        return msgspec.convert(fields, kinds, str_keys=True, dec_hook=_built)
    except (ValueError, msgspec.ValidationError) as error:
        raise ProtocolError(f"not a message: {error}: {line[:80]!r}") from error


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a message")


def _built(kind: type[Any], value: Any) -> Any:
    return kind(value)  # a path: msgspec knows every other type of the messages
