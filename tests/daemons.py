"""The daemon as a process of its own, and requests to it."""

from __future__ import annotations

import json
import re
import subprocess
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from dualface_client.closing import ClosesAtExit
from tests.processes import CLI, wait_until

#: A failure beyond it, so long that a busy machine is none.
PATIENCE_S = 150.0


class DaemonProcess(ClosesAtExit):
    """Started by its constructor, which waits until it is ready; a context manager.

    Args:
        folder: For its state; `streams.yaml` in it says what should run, and is made if missing.
        options: Further options of the command.
    """

    def __init__(self, folder: Path, *options: str | Path) -> None:
        self.folder = folder
        self.streams_file = folder / "streams.yaml"
        if not self.streams_file.exists():
            self.streams_file.write_text("streams: []\n")
        self._log = (folder / "daemon.log").open("a+")
        line = ["daemon", "--config", self.streams_file, "--directory", folder, "--port", "0"]
        begin = self._log.tell()
        self.process = subprocess.Popen([*CLI, *map(str, (*line, *options))], stderr=self._log)
        self._url = ""

        def is_ready() -> bool:
            assert self.process.poll() is None, self.log()
            found = re.search(r"http://([\d.]+:\d+)/", self.log()[begin:])
            self._url = found[1] if found else ""
            return bool(found)

        try:
            wait_until(is_ready, PATIENCE_S, "the daemon is ready")
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Of its page."""
        return f"http://{self._url}/"

    @property
    def token(self) -> str:
        """What requests must bring."""
        return (self.folder / "token").read_text().strip()

    def log(self) -> str:
        """What it has said."""
        return (self.folder / "daemon.log").read_text()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        code, _, data = self.fetch(method, path, body)
        return code, json.loads(data)

    def fetch(self, method: str, path: str, body: object = None) -> tuple[int, Message, bytes]:
        """Status, headers and body of an answer."""
        connection = HTTPConnection(self._url, timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        said = reply.read()
        connection.close()
        return reply.status, reply.headers, said

    def done(self, method: str, path: str, body: object = None) -> Any:
        """What was done; fails if it was not."""
        code, said = self.ask(method, path, body)
        assert code < 300, said
        return said

    def stream(self, name: str) -> dict[str, Any]:
        """A stream's state."""
        found: dict[str, Any] = self.done("GET", f"/v1/streams/{name}")
        return found

    def frames(self, name: str) -> int:
        """Frames that a stream has written since its last start."""
        return int(self.stream(name).get("frames_out", 0))

    def pids(self) -> dict[str, int]:
        """Its processes by name."""
        found = self.done("GET", "/v1/status")["processes"]
        return {each["name"]: each["pid"] for each in found}

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric over its labels, or over those that have one, as `state="x"`."""
        text = self.fetch("GET", "/metrics")[2].decode()
        labels = rf"(?:\{{[^}}]*{label}[^}}]*\}})" if label else r"(?:\{[^}]*\})?"
        lines = re.findall(rf"^{name}{labels} (\S+)$", text, re.MULTILINE)
        return sum(map(float, lines))

    def end(self) -> int:
        """Ends it as a service manager does; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Ends it if it still runs."""
        if self.process.poll() is None:
            self.end()
        self._log.close()
