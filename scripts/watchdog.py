"""Ends a Triton that no longer answers, so that whoever restarts dead servers restarts it.

    python3 watchdog.py --pid PID [--url http://127.0.0.1:8000] [--model NAME ...]
        [--metrics-port PORT] [--fallbacks FILE]

A health check alone only marks a container as unhealthy: Docker does not restart it for that. Run
this as a child of the server's process, PID; it ends with it. It asks whether the server is live
and lets each model answer a request of zeros. An answer is an answer, also one that refuses;
silence, or a model whose own process has died, is none. On `--metrics-port` it tells Prometheus
what Triton does not: when the server was started, and how many lines of its log, collected in FILE,
say that a memory pool has run dry. It uses the standard library only, because it also runs in
NVIDIA's container.
"""

from __future__ import annotations

import argparse
import http.server
import json
import math
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

_ITEM_BYTES = {"UINT8": 1, "INT8": 1, "BOOL": 1, "FP16": 2, "FP32": 4}
#: Triton's words for a model of the Python backend whose process has died; it does not come back.
_DEAD_MODEL = b"is not healthy"
_STEP_S = 0.2


def ask(url: str, timeout_s: float, body: bytes | None = None) -> bytes:
    """One request; returns the body of the answer, also of one that refuses.

    Raises:
        OSError: No answer in time.
    """
    # 0: everything is tensor data, and the batch is one item.
    headers = {} if body is None else {"Inference-Header-Content-Length": "0"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - from compose.yaml
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - likewise
            return bytes(answer.read())
    except urllib.error.HTTPError as refusal:
        return refusal.read()


def zeros(metadata: bytes) -> bytes:
    """One item of the model's only input, empty where the server does not describe one."""
    inputs = json.loads(metadata).get("inputs") or [{"datatype": "UINT8", "shape": [0, 0]}]
    items = math.prod(inputs[0]["shape"][1:])
    return bytes(items * _ITEM_BYTES.get(inputs[0]["datatype"], 1))


def trouble(url: str, models: Sequence[str], timeout_s: float) -> str:
    """What is wrong with the server, empty for nothing."""
    what = "the server"
    try:
        ask(f"{url}/v2/health/live", timeout_s)
        for name in models:
            what = f"model {name}"
            item = zeros(ask(f"{url}/v2/models/{name}", timeout_s))
            if item and _DEAD_MODEL in ask(f"{url}/v2/models/{name}/infer", timeout_s, item):
                return f"the process of {what} has died"
    except (OSError, ValueError) as error:  # ValueError: what came is not Triton's JSON
        return f"{what} does not answer ({error})"
    return ""


def pause(pid: int, seconds: float) -> bool:
    """Waits; returns whether the server's process is still there."""
    end_s = time.monotonic() + seconds
    while os.getppid() == pid and (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(left_s, _STEP_S))
    return os.getppid() == pid


def watch(options: argparse.Namespace) -> str:
    """Returns when the server has ended or must end: why it must, or nothing."""
    failures, answered, begin_s = 0, False, time.monotonic()
    while pause(options.pid, options.period_s):
        found = trouble(options.url, options.model, options.timeout_s)
        failures = failures + 1 if found else 0
        answered = answered or not found
        if answered and failures >= options.failures:
            return f"{found}, {failures} times in a row"
        waited_s = time.monotonic() - begin_s
        if not answered and waited_s > options.start_s:
            return f"{found}, {waited_s:.0f} s after its start"
    return ""


def metrics(fallbacks: str, started_unix_s: float) -> bytes:
    """The figures in Prometheus text."""
    lines = [
        "# HELP dualface_server_started_seconds When the server was started, seconds since 1970.",
        "# TYPE dualface_server_started_seconds gauge",
        f"dualface_server_started_seconds {started_unix_s:.0f}",
    ]
    if fallbacks:
        try:
            with open(fallbacks, "rb") as file:
                count = sum(1 for _ in file)
        except OSError:  # none so far
            count = 0
        lines += [
            "# HELP dualface_server_pool_fallbacks_total Lines of its log that say a pool was dry.",
            "# TYPE dualface_server_pool_fallbacks_total counter",
            f"dualface_server_pool_fallbacks_total {count}",
        ]
    return ("\n".join(lines) + "\n").encode()


def tell_prometheus(port: int, fallbacks: str) -> None:
    """Answers on a thread of its own until this process ends."""
    started_unix_s = time.time()

    class Page(http.server.BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            body = metrics(fallbacks, started_unix_s)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Logs nothing: Prometheus comes every few seconds."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 if the server ended by itself, 1 if it had to be ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pid", type=int, required=True, help="the server, this one's parent")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", action="append", default=[], help="may be repeated")
    parser.add_argument("--period-s", type=float, default=10.0, help="between two looks")
    parser.add_argument("--timeout-s", type=float, default=20.0, help="of one request")
    parser.add_argument("--failures", type=int, default=3, help="in a row that end the server")
    parser.add_argument("--start-s", type=float, default=600.0, help="how long a start may take")
    parser.add_argument("--metrics-port", type=int, help="of 127.0.0.1; without it, no page")
    parser.add_argument("--fallbacks", default="", help="file with a line for each dry pool")
    options = parser.parse_args(argv)
    if options.metrics_port is not None:
        tell_prometheus(options.metrics_port, options.fallbacks)
    if not (reason := watch(options)):
        return 0
    print(f"watchdog: {reason}: ending the server, so that it is restarted", flush=True)
    if os.getppid() == options.pid:
        os.kill(options.pid, signal.SIGKILL)  # one that hangs does not hear anything else
    return 1


if __name__ == "__main__":
    sys.exit(main())
