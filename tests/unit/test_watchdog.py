"""A server that hangs is ended; one that only refuses, or is slow to start, is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dualface_client.triton.server_process import free_ports
from scripts.pins import ROOT
from scripts.watchdog import ask
from tests.processes import wait_until

WATCHDOG = ROOT / "scripts" / "watchdog.py"


class Fake(ThreadingHTTPServer):
    """Triton's three pages; each kind of trouble is switched on by name."""

    daemon_threads = True

    def __init__(self) -> None:
        self.trouble = ""
        self.bodies: list[int] = []
        self.gets = 0
        self.asked = threading.Event()
        self.goes_on = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.goes_on.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self.server.gets += 1
        if self.server.trouble == "hangs":
            self.server.goes_on.wait(60.0)
        metadata = {"inputs": [{"datatype": "UINT8", "shape": [-1, 4, 5, 3]}]}
        refuses = self.server.trouble == "refuses"
        self.reply(400 if refuses else 200, {"error": "unknown"} if refuses else metadata)

    def do_POST(self) -> None:
        self.server.bodies.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.trouble == "model hangs":
            self.server.goes_on.wait(60.0)
        died = {"error": "Stub process 'face_reid_0_0' is not healthy."}
        self.reply(*((500, died) if self.server.trouble == "model died" else (200, {})))
        self.server.asked.set()

    def reply(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
        """Keeps the tests' output clean."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    with closing(Fake()) as fake:
        yield fake


def start(url: str, *options: str) -> subprocess.Popen[str]:
    """A process that stands for the server, with the watchdog as its child, as in compose.yaml."""
    watch = f"{sys.executable} {WATCHDOG} --pid $$ --url {url} --model face_reid"
    line = f"{watch} --period-s 0.05 --timeout-s 0.5 {' '.join(options)} & exec sleep 300"
    return subprocess.Popen(["/bin/sh", "-c", line], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("hangs", "the server does not answer (timed out), 3 times in a row"),
        ("model hangs", "model face_reid does not answer (timed out), 3 times in a row"),
        ("model died", "the process of model face_reid has died, 3 times in a row"),
    ],
)
def test_a_server_that_no_longer_answers_is_ended(fake: Fake, trouble: str, words: str) -> None:
    with start(fake.url) as server:
        assert fake.asked.wait(20.0)  # it has answered once
        fake.trouble = trouble
        output, _ = server.communicate(timeout=30.0)
    assert server.returncode == -signal.SIGKILL
    assert output == f"watchdog: {words}: ending the server, so that it is restarted\n"
    assert set(fake.bodies) == {60}  # one item of the input


def test_one_that_never_comes_up_is_ended_after_the_time_of_a_start() -> None:
    with start("http://127.0.0.1:9", "--start-s", "0.3") as server:
        output, _ = server.communicate(timeout=30.0)
    assert server.returncode == -signal.SIGKILL
    assert "Connection refused" in output
    assert "s after its start" in output


def test_one_that_is_starting_is_left_alone_and_the_watchdog_ends_with_it(fake: Fake) -> None:
    fake.trouble = "hangs"
    with start(fake.url, "--failures", "1", "--timeout-s", "0.05") as server:
        wait_until(lambda: fake.gets > 4)
        assert server.poll() is None
        server.terminate()
        output, _ = server.communicate(timeout=30.0)  # the watchdog has closed its end too
    assert (server.returncode, output) == (-signal.SIGTERM, "")


def test_a_refusal_is_an_answer(fake: Fake) -> None:
    with start(fake.url, "--failures", "1") as server:
        assert fake.asked.wait(20.0)
        fake.trouble = "refuses"
        before = fake.gets
        wait_until(lambda: fake.gets > before + 4)
        assert server.poll() is None
        server.terminate()
        assert server.communicate(timeout=30.0)[0] == ""


def test_prometheus_hears_of_the_start_and_of_dry_pools(fake: Fake, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    fallbacks = tmp_path / "pool-fallbacks"
    options = ("--metrics-port", str(port), "--fallbacks", str(fallbacks))

    def told() -> dict[str, float]:
        page = ask(f"http://127.0.0.1:{port}/metrics", 5.0).decode()
        rows = (line.split() for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    with start(fake.url, *options) as server:
        assert fake.asked.wait(20.0)
        before = told()
        fallbacks.write_text("one\ntwo\n")
        after = told()
        server.terminate()
    assert abs(before["dualface_server_started_seconds"] - time.time()) < 600
    assert before["dualface_server_pool_fallbacks_total"] == 0
    assert after["dualface_server_pool_fallbacks_total"] == 2
