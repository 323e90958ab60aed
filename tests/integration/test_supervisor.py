"""Real worker processes on a real server, killed with real signals."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import av
import psutil
import pytest

from dualface_client.errors import ServerError
from dualface_client.memory.names import parse
from dualface_client.observe.report import StreamReport
from dualface_client.observe.run_log import EventRecorder, run_log
from dualface_client.observe.run_state import RunState
from dualface_client.settings.stream import DetectionSettings, OutputSettings, StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.connection import Connection
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.registration import registered_regions
from dualface_client.workers.patience import Patience
from dualface_client.workers.place import Place
from dualface_client.workers.supervisor import Supervisor
from tests.processes import LONG_CLIP, left_by, start_of, wait_until

SETTINGS = StreamSettings(
    detection=DetectionSettings(every=1),  # so that streams are still under way when one is hit
    output=OutputSettings((320, 180), preset="ultrafast", encoder_threads=1),
)
QUICK = Patience(backoff_s=0.05, silence_s=3.0)


class Run:
    """A supervised run on a thread, with its streams' state at hand."""

    def __init__(
        self,
        address: str,
        folder: Path,
        inputs: dict[str, Path],
        *,
        workers: int = 1,
        streams: int = 1,
        patience: Patience = QUICK,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.jobs = [Job(name, path, folder / f"{name}.mp4") for name, path in inputs.items()]
        self.statuses = new_statuses(self.jobs)
        self.state = RunState("test", self.statuses)
        self.stop = Stop()
        self.error: BaseException | None = None
        self.events: EventRecorder | None = None
        setup = WorkerSetup(address, "cpu", SETTINGS, streams)
        self._supervisor = Supervisor([Place(setup, workers)], self.state, patience)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with run_log("text", lambda _: None) as self.events:
                self.regions = self._supervisor.run(self.jobs, self.statuses, self.stop)
        except BaseException as error:
            self.error = error

    def report(self, name: str) -> StreamReport:
        return next(s.snapshot() for s in self.statuses if s.snapshot().name == name)

    def pid_of(self, name: str) -> int:
        """The worker that works on a stream, 0 for none."""
        workers = self.state.as_dict()["workers"]
        return next((w["pid"] for w in workers if name in w["streams"]), 0)

    def pids(self) -> list[int]:
        return [w["pid"] for w in self.state.as_dict()["workers"] if w["pid"]]

    def finish(self, timeout_s: float = 120.0) -> dict[str, StreamReport]:
        self.thread.join(timeout_s)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        return {s.snapshot().name: s.snapshot() for s in self.statuses}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("in")
    return {
        name: start_of(LONG_CLIP, folder / f"{name}.mkv", 60 + 6 * i)
        for i, name in enumerate("abc")
    }


@pytest.fixture(scope="module")
def undisturbed(
    triton_server: EmbeddedServer, inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run = Run(triton_server.grpc_address, folder, inputs, workers=2, streams=1)
    reports = run.finish()
    assert {r.state for r in reports.values()} == {"done"}
    assert [reports[n].frames_out for n in "abc"] == [60, 66, 72]
    assert set(run.regions) == {"worker 1", "worker 2"}
    return {name: digest(folder / f"{name}.mp4") for name in inputs}


def test_a_killed_worker_is_replaced_and_every_output_is_as_without(
    triton_server: EmbeddedServer,
    inputs: dict[str, Path],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    run = Run(triton_server.grpc_address, tmp_path / "out", inputs, workers=1, streams=2)
    wait_until(lambda: min(run.report(n).frames_out for n in "ab") > 5, 60, "two streams under way")
    victim = run.pid_of("a")
    assert run.pid_of("b") == victim
    assert left_by(victim)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: run.pid_of("a") not in (0, victim), 30, "a new worker")
    assert run.pid_of("b") == 0  # each suspect runs alone
    reports = run.finish()
    assert {r.state for r in reports.values()} == {"done"}
    assert {n: digest(tmp_path / "out" / f"{n}.mp4") for n in inputs} == undisturbed
    assert [reports[n].attempts for n in "abc"] == [2, 2, 1]
    assert any("killed by SIGKILL" in text for text in reports["a"].warnings)
    assert left_by(victim, *run.pids()) == set()
    connection = Connection(triton_server.grpc_address)
    try:
        held = [parse(name) for name in registered_regions(connection)]
    finally:
        connection.close()
    assert victim not in [name.owner.pid for name in held if name]
    assert run.events is not None
    assert "worker_died" in [event.event for event in run.events.events]


@pytest.mark.soak
def test_a_stream_that_kills_three_workers_is_put_aside_alone(
    triton_server: EmbeddedServer,
    inputs: dict[str, Path],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    run = Run(triton_server.grpc_address, tmp_path / "out", inputs, workers=2, streams=2)
    killed: list[int] = []
    while run.thread.is_alive():
        pid = run.pid_of("b")
        if pid and pid not in killed and run.report("b").frames_out > 2:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    reports = run.finish()
    assert len(killed) == 3
    assert reports["b"].state == "failed"
    assert "put aside: 3 workers died under it (killed by SIGKILL)" in reports["b"].error
    assert reports["b"].exit_code == 1
    assert reports["b"].partial_output == str(tmp_path / "out" / "b.partial.mp4")
    for name in "ac":
        assert reports[name].state == "done"
        assert digest(tmp_path / "out" / f"{name}.mp4") == undisturbed[name]
    assert left_by(*killed) == set()


@pytest.mark.soak
def test_a_frozen_worker_is_noticed_killed_and_replaced(
    triton_server: EmbeddedServer,
    inputs: dict[str, Path],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    run = Run(triton_server.grpc_address, tmp_path / "out", {"a": inputs["a"]})
    wait_until(lambda: run.report("a").frames_out > 3, 60, "some frames")
    os.kill(run.pid_of("a"), signal.SIGSTOP)
    assert run.finish()["a"].attempts == 2
    assert digest(tmp_path / "out" / "a.mp4") == undisturbed["a"]


def test_a_stop_finishes_the_files_and_ends_every_process(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    # So long that none is done before the other one is under way.
    inputs = {name: start_of(LONG_CLIP, tmp_path / f"{name}.mkv", 250) for name in "ab"}
    run = Run(triton_server.grpc_address, tmp_path / "out", inputs, workers=2)
    wait_until(lambda: min(run.report(n).frames_out for n in "ab") > 5, 60, "two streams under way")
    pids = run.pids()
    run.stop.ask()
    reports = run.finish()
    assert {r.state for r in reports.values()} == {"stopped"}
    for name in "ab":
        with av.open(reports[name].partial_output) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert frames == reports[name].frames_out > 5
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert left_by(*pids) == set()


@pytest.mark.soak
def test_workers_of_a_killed_supervisor_finish_their_files_and_end(
    triton_server: EmbeddedServer, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """The supervisor is a process here: it is the one that is killed."""
    import subprocess
    import sys

    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.integration.test_supervisor",
            triton_server.grpc_address,
            str(tmp_path),
            str(inputs["c"]),
        ],
        cwd=Path(__file__).parents[2],
    )
    part = tmp_path / "c.partial.mp4"
    try:
        wait_until(lambda: part.exists() and part.stat().st_size > 3000, 60, "some output")
        children = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(c.is_running() for c in children), 15, "the worker ends")
    assert left_by(*(child.pid for child in children)) == set()
    with av.open(str(part)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 0


def test_without_a_server_the_first_refusal_ends_the_run(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    run = Run("127.0.0.1:9", tmp_path / "out", inputs)
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9"):
        run.finish()
    assert run.pids() == []


if __name__ == "__main__":
    import sys

    Run(sys.argv[1], Path(sys.argv[2]), {"c": Path(sys.argv[3])}).finish()
