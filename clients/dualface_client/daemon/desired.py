"""What should run: streams of a file, as an API has changed them; kept on disk."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from dualface_client.atomic_file import write_atomically
from dualface_client.config.streams_file import StreamEntry
from dualface_client.config.table import settings_table
from dualface_client.errors import DualfaceError, UsageError

STATE_VERSION = 1
_BYTES_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class DesiredStream:
    """One stream that should run.

    Attributes:
        name: Unique among all streams.
        input: A path or an address, without secrets.
        outputs: Paths or addresses; none writes nothing.
        settings: Its own settings as text, by key.
        gap_px_aside: Of the two tiles, while the layout is one picture, which may have no gap.
    """

    name: str
    input: str
    outputs: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    gap_px_aside: int = 0

    @classmethod
    def of(cls, entry: StreamEntry) -> DesiredStream:
        """A stream as a file describes it."""
        table = settings_table()
        texts = {key: table[key].kind.show(given.value) for key, given in entry.overrides.items()}
        return cls(entry.name, entry.address or str(entry.input), entry.outputs, texts)

    def with_settings(self, texts: Mapping[str, str]) -> DesiredStream:
        """The same with other values of some settings."""
        return replace(self, settings={**self.settings, **texts})


@dataclass(frozen=True, slots=True)
class _Kept:
    """The state file: what differs from the file of streams, and what it said then.

    Attributes:
        state_version: Of this form.
        streams: Streams that were added or changed here.
        written: What the file said of those streams, by name; nothing of those that were added.
        removed: What the file said of streams that were removed here, by name.
    """

    state_version: int = STATE_VERSION
    streams: list[DesiredStream] = field(default_factory=list)
    written: dict[str, DesiredStream] = field(default_factory=dict)
    removed: dict[str, DesiredStream] = field(default_factory=dict)


class NotSavedError(DualfaceError):
    """The state file cannot be written.

    Attributes:
        is_full: Whether there is no room for it.
    """

    exit_code = 2

    def __init__(self, text: str, *, is_full: bool) -> None:
        super().__init__(text)
        self.is_full = is_full


class DesiredStreams:
    """The streams that should run, by name; not thread-safe.

    Where the file of streams and what was changed here disagree, the later one counts: a stream
    whose entry in the file changes is as the file says again, also if it had been removed here.
    Every change is on the disk when its method returns; where it cannot be written, the method
    raises `NotSavedError` and nothing has changed.

    Args:
        path: The state file; its directory exists.

    Raises:
        UsageError: The state file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = _read(path)
        self._written, self._removed = dict(kept.written), dict(kept.removed)
        self._streams = {stream.name: stream for stream in kept.streams}

    @property
    def streams(self) -> dict[str, DesiredStream]:
        """A copy."""
        return dict(self._streams)

    def is_from_file(self, name: str) -> bool:
        """Whether the file of streams has this stream too."""
        return name in self._written

    def take_file(self, entries: Iterable[StreamEntry]) -> None:
        """Takes the file of streams in, at the start and whenever it has changed."""
        said = {entry.name: DesiredStream.of(entry) for entry in entries}
        gone = [name for name in self._written if name not in said]
        streams, written = _without(self._streams, *gone), _without(self._written, *gone)
        removed = {name: was for name, was in self._removed.items() if said.get(name) == was}
        for name, stream in said.items():
            if name in removed:
                continue
            if written.get(name) != stream:
                streams[name] = written[name] = stream
        self._keep(streams, written, removed)

    def add(self, stream: DesiredStream) -> None:
        """Adds a stream whose name is free."""
        self._keep({**self._streams, stream.name: stream}, self._written, self._removed)

    def change(self, stream: DesiredStream) -> None:
        """Replaces the stream of the same name, which runs like that already.

        So it is changed also if `NotSavedError` is raised, and is saved with what changes next.
        """
        self._streams[stream.name] = stream
        self._keep(self._streams, self._written, self._removed)

    def remove(self, name: str) -> None:
        """Removes a stream for good, or until its entry in the file changes."""
        was = {name: self._written[name]} if name in self._written else {}
        self._keep(
            _without(self._streams, name), _without(self._written, name), {**self._removed, **was}
        )

    def _keep(
        self,
        streams: dict[str, DesiredStream],
        written: dict[str, DesiredStream],
        removed: dict[str, DesiredStream],
    ) -> None:
        """Writes first: what was not saved is not done either, and the caller can say so."""
        kept = _Kept(STATE_VERSION, list(streams.values()), written, removed)
        try:
            write_atomically(self._path, json.dumps(asdict(kept), indent=1) + "\n", sync=True)
            self._path.chmod(0o600)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "make room there" if is_full else "put that right"
            text = f"{self._path}: cannot be written: {error.strerror}; {remedy} and try again"
            raise NotSavedError(text, is_full=is_full) from error
        self._streams, self._written, self._removed = streams, written, removed


def _without(streams: Mapping[str, DesiredStream], *names: str) -> dict[str, DesiredStream]:
    return {name: stream for name, stream in streams.items() if name not in names}


def _read(path: Path) -> _Kept:
    try:
        with path.open("rb") as file:
            found: Any = json.loads(file.read(_BYTES_LIMIT))
        kept = msgspec.convert(found, _Kept)
    except FileNotFoundError:  # the first start
        return _Kept()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{path}: is not a state file of the daemon ({error}); remove it to begin with the "
            "file of streams alone, or name another directory"
        ) from error
    if kept.state_version != STATE_VERSION:
        raise UsageError(
            f"{path}: has state_version {kept.state_version}, expected {STATE_VERSION}; it is of "
            "another version of this program: remove it, or name another directory"
        )
    return kept
