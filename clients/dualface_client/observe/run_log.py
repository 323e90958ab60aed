"""What happens in a run as log records: for machines as JSON lines, for people as plain ones.

Every record has an `event`, a short name that does not change, and the name of its stream if it
concerns one. All of them come from `log_event` and travel through the standard library's logging,
under the logger `dualface_client`.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

ROOT = "dualface_client"
_FIELDS = "dualface_fields"
_EVENTS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        time_unix_s: When, seconds since 1970.
        level: `info`, `warning` or `error`.
        stream: Which stream it concerns, empty for the whole run.
        event: Its name.
        text: What a person reads.
    """

    time_unix_s: float
    level: str
    stream: str
    event: str
    text: str


def log_event(
    event: str, text: str, *, stream: str = "", level: int = logging.INFO, **fields: Any
) -> None:
    """Writes one record.

    Args:
        event: Its name, in `snake_case`.
        text: One sentence for people.
        stream: Name of the stream it concerns, empty for the whole run.
        level: A level of `logging`.
        fields: Figures for machines; what JSON cannot hold is written as text.
    """
    logging.getLogger(f"{ROOT}.run").log(
        level, "%s", text, extra={"event": event, "stream": stream, _FIELDS: fields}
    )


def failure_logger(what: str) -> Callable[[Exception], None]:
    """Logs that something beside the streams has failed; the run goes on without it.

    Args:
        what: As the beginning of a sentence, such as `the state file`.
    """

    def tell(error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        log_event("helper_failed", f"{what} ended: {error!r}", level=logging.ERROR, trace=trace)

    return tell


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time` (RFC 3339, UTC), `level`, `stream`, `event`, `text`, fields.

    Records of other loggers, and those without an event, are written too; their event is `log`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        event = event_of(record)
        time = datetime.fromtimestamp(event.time_unix_s, UTC).isoformat(timespec="milliseconds")
        data = {
            "time": time.replace("+00:00", "Z"),
            "level": event.level,
            "stream": event.stream,
            "event": event.event,
            "text": event.text,
        }
        fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
        data |= {key: value for key, value in fields.items() if key not in data}
        if record.exc_info:
            data["trace"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str)


class EventRecorder(logging.Handler):
    """Keeps the last records of a run, for its report."""

    def __init__(self, limit: int = _EVENTS_KEPT) -> None:
        super().__init__(logging.INFO)
        self._events: deque[Event] = deque(maxlen=limit)
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one record."""
        with self._guard:
            self._events.append(event_of(record))

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, oldest first."""
        with self._guard:
            return tuple(self._events)


class _LineHandler(logging.Handler):
    def __init__(self, write: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


@contextmanager
def run_log(log_format: str, write: Callable[[str], None]) -> Iterator[EventRecorder]:
    """Directs the records of this package during a run.

    Args:
        log_format: `json` writes every record as a JSON line; `text` writes the text of warnings
            and errors, because progress is shown otherwise.
        write: Takes one line without its end; may be called from any thread.
    """
    lines = _LineHandler(write, logging.INFO if log_format == "json" else logging.WARNING)
    lines.setFormatter(JsonFormatter() if log_format == "json" else None)
    recorder = EventRecorder()
    logger = logging.getLogger(ROOT)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(lines)
    logger.addHandler(recorder)
    try:
        yield recorder
    finally:
        logger.removeHandler(lines)
        logger.removeHandler(recorder)
        logger.level, logger.propagate = before


def trace_of(record: logging.LogRecord) -> str:
    """The stack trace of a record's error, empty without one."""
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def event_of(record: logging.LogRecord) -> Event:
    """The record as a value."""
    return Event(
        record.created,
        record.levelname.lower(),
        getattr(record, "stream", ""),
        getattr(record, "event", "log"),
        record.getMessage(),
    )
