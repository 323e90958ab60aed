"""A frame's way through its stream as an OpenTelemetry trace, for a few frames of all.

    frame ── decode ─ queue ─ detect ─ decide ─ compose ─ encode

Requests to the server are sent with the context of the stage that they belong to (W3C's
`traceparent`), so that a Triton with OpenTelemetry traces puts its own spans below it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualface_client.closing import ClosesAtExit
from dualface_client.extras import TRACE, require
from dualface_client.observe.run_log import log_event
from dualface_client.request_headers import requests_with
from dualface_client.settings.program import TraceSettings
from dualface_client.types import Frame

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

_SERVICE = "dualface"
_PATH = "/v1/traces"
#: A collector that does not answer must not hold up the end of a worker.
_EXPORT_TIMEOUT_S = 2.0
_REASON_LETTERS = 200
_LOGGER = logging.getLogger("opentelemetry")


class Traces(ClosesAtExit):
    """Where the traces of a process go; a context manager that sends the last ones at its end.

    Args:
        settings: Where to, and how many.
        processor: Gets the spans instead of the collector that the settings name.

    Raises:
        PlatformError: OpenTelemetry is not installed.
    """

    def __init__(self, settings: TraceSettings, processor: SpanProcessor | None = None) -> None:
        self._settings = settings
        self._provider: Any = None
        self._teller = _Once(settings.endpoint or "")
        if settings.endpoint is None and processor is None:
            return
        require(*TRACE)
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource({"service.name": _SERVICE, "process.pid": os.getpid()})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or _to_collector(settings.endpoint or ""))
        _LOGGER.addHandler(self._teller)

    def of(self, stream: str) -> FrameTraces:
        """The traces of one stream.

        Args:
            stream: Its name.
        """
        tracer = None if self._provider is None else self._provider.get_tracer(_SERVICE)
        return FrameTraces(tracer, stream, self._settings.every_s)

    def close(self) -> None:
        """Sends what has not been sent; waits for a moment at most."""
        if self._provider is not None:
            self._provider.shutdown()
            _LOGGER.removeHandler(self._teller)


def _to_collector(endpoint: str) -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
    return BatchSpanProcessor(OTLPSpanExporter(url, timeout=_EXPORT_TIMEOUT_S))


class _Once(logging.Handler):
    """Says once that traces do not arrive."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = endpoint
        self._told = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._told.is_set():
            self._told.set()
            text = (
                f"{self._endpoint}: traces cannot be sent there; check that a collector listens "
                f"({record.getMessage()[:_REASON_LETTERS]})"
            )
            log_event("traces_failed", text, level=logging.WARNING)


@dataclass(slots=True)
class _Walk:
    """A frame that is traced.

    Attributes:
        frame: The whole way.
        stage: Where it is.
    """

    frame: Span
    stage: Span


class FrameTraces:
    """Traces one frame of a stream now and then; thread-safe.

    Args:
        tracer: Makes the spans; None traces nothing.
        stream: Name of the stream.
        every_s: From one traced frame to the next, 0 for all of them.
        clock_s: Monotonic.
    """

    def __init__(
        self,
        tracer: Tracer | None = None,
        stream: str = "",
        every_s: float = 1.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracer = tracer
        self._stream = stream
        self._every_s = every_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._next_s = 0.0
        self._walks: dict[int, _Walk] = {}

    def decoding(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames; the trace of each that is traced begins with its decoding."""
        if self._tracer is None:
            yield from frames
            return
        iterator = iter(frames)
        while True:
            began_ns = time.time_ns()
            frame = next(iterator, None)
            if frame is None:
                return
            self._begin(frame.index, began_ns)
            yield frame

    def reach(self, index: int, stage: str) -> None:
        """A frame has come to the next stage; does nothing for one that is not traced."""
        if self._tracer is None:
            return
        with self._lock:
            walk = self._walks.get(index)
            if walk is not None:
                walk.stage.end()
                walk.stage = self._child(stage, walk.frame)

    def end(self, index: int, dropped: str = "") -> None:
        """A frame has been written.

        Args:
            index: Of the frame.
            dropped: Why it was not, empty if it was.
        """
        if self._tracer is None:
            return
        with self._lock:
            if (walk := self._walks.pop(index, None)) is not None:
                walk.stage.end()
                if dropped:
                    walk.frame.set_attribute("dropped", dropped)
                walk.frame.end()

    def close(self) -> None:
        """The stream has ended; frames that were on their way are dropped."""
        for index in list(self._walks):
            self.end(index, "stopped")

    def carried_by(self, indices: Iterable[int]) -> AbstractContextManager[None]:
        """Requests that are sent in the body belong to the first of these frames that is traced."""
        with self._lock:
            walk = next((self._walks[each] for each in indices if each in self._walks), None)
        return nullcontext() if walk is None else requests_with(_headers_of(walk.stage))

    def _begin(self, index: int, began_ns: int) -> None:
        if self._tracer is None or self._clock_s() < self._next_s:
            return
        self._next_s = self._clock_s() + self._every_s
        attributes: dict[str, str | int] = {"stream": self._stream, "frame": index}
        frame = self._tracer.start_span("frame", start_time=began_ns, attributes=attributes)
        self._child("decode", frame, began_ns).end()
        with self._lock:
            self._walks[index] = _Walk(frame, self._child("queue", frame))

    def _child(self, name: str, parent: Span, began_ns: int | None = None) -> Span:
        from opentelemetry.trace import set_span_in_context

        assert self._tracer is not None  # noqa: S101 - there is a parent
        return self._tracer.start_span(name, set_span_in_context(parent), start_time=began_ns)


def _headers_of(span: Span) -> dict[str, str]:
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, set_span_in_context(span))
    return headers
