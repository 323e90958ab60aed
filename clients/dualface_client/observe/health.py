"""`GET /healthz`, `/readyz` and `/metrics` of a run, by the standard library's HTTP server.

`/healthz` says whether the run makes progress: 503 if a running stream has stalled, or the server's
memory pools have run dry. `/readyz` says whether it is working on streams: 503 while it starts,
stops, has ended or waits for a lost server. Both answer with the run's state as JSON. `/metrics` is
Prometheus text (exposition format 0.0.4).
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import UsageError
from dualface_client.observe.report import FINAL_STATES
from dualface_client.observe.run_state import RunState

_REQUEST_LIMIT_S = 2.0  # of a client that connects and says nothing


class _Server(ThreadingHTTPServer):  # its threads are daemons: a silent client delays nobody
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that goes away; otherwise as inherited."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class HealthServer(ClosesAtExit):
    """Answers on threads of its own until it is closed; a context manager.

    Args:
        state: What to tell.
        host: Address to listen on.
        port: TCP port, 0 for a free one.

    Raises:
        UsageError: It cannot listen on the address.
    """

    def __init__(self, state: RunState, host: str = "127.0.0.1", port: int = 0) -> None:
        handler = _handler(state)
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise UsageError(
                f"--health-port {port}: cannot listen on {host}:{port} ({error.strerror}); "
                "choose another port; 0 picks a free one"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="health", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """`HOST:PORT` that it listens on."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Stops answering; safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


def _handler(state: RunState) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_LIMIT_S
        server_version = "dualface"

        def do_GET(self) -> None:
            status, kind, body = answer(state, self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
            """Logs nothing: probes come every few seconds."""

    return Handler


def answer(state: RunState, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body for a path."""
    if path == "/metrics":
        text = "\n".join(metrics_lines(state)) + "\n"
        return 200, "text/plain; version=0.0.4; charset=utf-8", text.encode()
    stalled = state.stalled()
    ready = state.is_ready  # after the check of the streams
    healthy = not stalled and not state.pool_fault
    checks = {"/healthz": healthy, "/readyz": ready and healthy}
    if path not in checks:
        return _json(404, {"error": f"{path}: not here; try {' '.join((*checks, '/metrics'))}"})
    body = {"ok": checks[path], "stalled": list(stalled), **state.as_dict()}
    return _json(200 if checks[path] else 503, body)


def metrics_lines(state: RunState) -> Iterator[str]:
    """The run in Prometheus text."""
    data = state.as_dict()
    yield from _metric("dualface_ready", "gauge", "Whether the run is working on streams.")
    yield f"dualface_ready {int(state.is_ready)}"
    yield from _metric("dualface_stalled_streams", "gauge", "Running streams without progress.")
    yield f"dualface_stalled_streams {len(state.stalled())}"
    yield from _metric("dualface_streams", "gauge", "Streams by state.")
    states = [stream["state"] for stream in data["streams"]]
    for name in ("waiting", "running", *FINAL_STATES):
        yield f'dualface_streams{{state="{name}"}} {states.count(name)}'
    yield from _metric("dualface_worker_restarts_total", "counter", "Restarts of workers.")
    yield f"dualface_worker_restarts_total {sum(w['restarts'] for w in data['workers'])}"
    yield from _metric(
        "dualface_pool_fallbacks_total",
        "counter",
        "Lines of Triton's log that say a memory pool was not enough.",
    )
    for kind, count in sorted(data["pool_fallbacks"].items()):
        yield f'dualface_pool_fallbacks_total{{kind="{_label(kind)}"}} {count}'
    yield from _metric("dualface_output_free_bytes", "gauge", "Free bytes where outputs go.")
    for place, free_bytes in state.output_space().items():
        yield f'dualface_output_free_bytes{{directory="{_label(place)}"}} {free_bytes}'
    for key, help_text in (
        ("frames_in", "Frames decoded."),
        ("frames_out", "Frames written."),
        ("decode_errors", "Packets or pictures that could not be decoded."),
    ):
        yield from _metric(f"dualface_{key}_total", "counter", help_text)
        for stream in data["streams"]:
            if stream["resumed"]:  # another run's work
                continue
            yield f'dualface_{key}_total{{stream="{_label(stream["name"])}"}} {stream[key]}'


def _metric(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _json(status: int, data: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", (json.dumps(data, indent=1) + "\n").encode()
