"""The state of a run as a JSON file that is whole at every moment, also after `kill -9`."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import SinkError, UsageError
from dualface_client.observe.run_log import log_event
from dualface_client.observe.run_state import STATE_VERSION, RunState


class StateFile(ClosesAtExit):
    """Writes the state again and again until it is closed; a context manager.

    A stream that ends is on disk within `interval_s`. Each time a new file takes the old one's
    name, so that a reader never sees half of it.

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
        self._interval_s = interval_s
        self._failed = False
        write_json(path, state.as_dict())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="state", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes the last state and ends; safe to call twice."""
        self._stop.set()
        self._thread.join(5.0)

    def _write_on(self) -> None:
        ending = False
        while not ending:
            ending = self._stop.wait(self._interval_s)
            try:
                write_json(self._path, self._state.as_dict())
                self._failed = False
            except SinkError as error:
                if not self._failed:
                    log_event("state_not_written", str(error), level=30)
                self._failed = True


def write_json(path: Path, data: Any) -> None:
    """Replaces a file by new JSON, atomically.

    Raises:
        SinkError: It cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the error below says what is wrong there
            draft.unlink(missing_ok=True)
        raise SinkError(f"{path}: cannot write the state: {error.strerror}") from error


def read_state(path: Path) -> dict[str, Any]:
    """Reads a state file back.

    Returns:
        The state; empty where there is no file yet.

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
            f"{path}: is no state file of version {STATE_VERSION} (found {version!r}); "
            "name another file"
        )
    return dict(data)
