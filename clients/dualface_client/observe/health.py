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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import UsageError
from dualface_client.observe.metrics import CONTENT_TYPE, metrics_text
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
        return 200, CONTENT_TYPE, metrics_text(state)
    stalled = state.stalled()
    ready = state.is_ready  # after the check of the streams
    healthy = not stalled and not state.pool_fault
    checks = {"/healthz": healthy, "/readyz": ready and healthy}
    if path not in checks:
        return _json(404, {"error": f"{path}: not here; try {' '.join((*checks, '/metrics'))}"})
    body = {"ok": checks[path], "stalled": list(stalled), **state.as_dict()}
    return _json(200 if checks[path] else 503, body)


def _json(status: int, data: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", (json.dumps(data, indent=1) + "\n").encode()
