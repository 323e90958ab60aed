"""The state of a run as a JSON file, replaced atomically and so complete even after `kill -9`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dualface_client.atomic_file import write_atomically
from dualface_client.background import BackgroundLoop
from dualface_client.errors import SinkError, UsageError
from dualface_client.observe.report import json_pieces
from dualface_client.observe.run_log import failure_logger, log_event
from dualface_client.observe.run_state import STATE_VERSION, RunState

_REST = 9


class StateFile(BackgroundLoop):
    """Writes the state repeatedly until it is closed; a context manager.

    A stream's end is on disk within `interval_s`, and closing writes the last state. Each time
    a new file takes the old one's name, so that a reader never sees half of it. Where writing takes
    long, as with 100,000 streams, it is done less often: it takes at most a tenth of the time.

    Args:
        path: The file; its directory must exist.
        state: What to write.
        interval_s: Between two writes.

    Raises:
        SinkError: It cannot be written at the start. Later failures are logged once; the run goes
            on.
    """

    def __init__(self, path: Path, state: RunState, interval_s: float = 1.0) -> None:
        self._path = path
        self._state = state
        self._is_written = True
        self._interval_s = interval_s
        write_state(path, state)
        super().__init__(
            self._write,
            name="state",
            period_s=interval_s,
            once_more=True,
            failed=failure_logger("the state file"),
        )

    def _write(self) -> None:
        began_s = time.monotonic()
        try:
            write_state(self._path, self._state)
            self._is_written = True
        except SinkError as error:
            if self._is_written:
                log_event("state_not_written", str(error), level=logging.WARNING)
            self._is_written = False
        self.period_s = max(self._interval_s, _REST * (time.monotonic() - began_s))


def write_state(path: Path, state: RunState) -> None:
    """Replaces a file by a run's state, as `write_json`, without having all of it in memory.

    Raises:
        SinkError: It cannot be written.
    """
    _write(path, json_pieces(state.head(), "streams", state.streams(), indent=1))


def write_json(path: Path, data: Any) -> None:
    """Replaces a file by new JSON, which outlives a loss of power.

    Raises:
        SinkError: It cannot be written.
    """
    _write(path, json.dumps(data, indent=1) + "\n")


def _write(path: Path, content: str | Iterable[str]) -> None:
    try:
        write_atomically(path, content, sync=True)
    except OSError as error:
        raise SinkError(f"{path}: cannot write the state: {error.strerror}") from error


def read_state(path: Path) -> dict[str, Any]:
    """Reads a state file back.

    Returns:
        The state; empty if there is no file yet.

    Raises:
        UsageError: It is not a state file, or one of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # a first run has none
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a state file ({error}); remove it") from error
    version = data.get("state_version") if isinstance(data, dict) else None
    if version != STATE_VERSION or not isinstance(data.get("streams"), list):
        raise UsageError(
            f"{path}: is not a state file of version {STATE_VERSION} (found {version!r}); "
            "name another file"
        )
    return dict(data)
