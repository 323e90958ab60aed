"""Streams that come and go in real workers on a real server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dualface_client.errors import ServerError
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.observe.run_state import RunState
from dualface_client.settings.cast import CastSettings
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.workers.fleet import Fleet
from dualface_client.workers.messages import SteerStream
from dualface_client.workers.patience import Patience
from dualface_client.workers.place import Place
from tests.processes import LONG_CLIP, left_by, playable_frames, wait_until

SETTINGS = StreamSettings(
    output=OutputSettings((320, 180), preset="ultrafast", encoder_threads=1),
    cast=CastSettings(enabled=False),  # no look before the first frame
)
#: A failure beyond it, so long that a busy machine is none.
PATIENCE_S = 150.0
QUICK = Patience(backoff_s=0.05, silence_s=3.0, forgive_s=1.0)


class Running:
    """A fleet, with its streams' state at hand."""

    def __init__(self, address: str, folder: Path, *, workers: int = 1, streams: int = 2) -> None:
        self.folder = folder
        self.state = RunState("test", [])
        self.stop = Stop()
        self.statuses: dict[str, StreamStatus] = {}
        setup = WorkerSetup(address, "cpu", SETTINGS, streams)
        self.fleet = Fleet([Place(setup, workers)], self.stop, self.state, QUICK)
        self.fleet.start()

    def add(self, name: str, source: Path = LONG_CLIP) -> None:
        job = Job(name, source, self.folder / f"{name}.mp4")
        (self.statuses[name],) = new_statuses([job])
        self.fleet.give(job, self.statuses[name])

    def frames(self, name: str) -> int:
        return self.statuses[name].snapshot().frames_out

    def has_ended(self, name: str) -> bool:
        return self.statuses[name].snapshot().state in FINAL_STATES

    def pid_of(self, name: str) -> int:
        workers = self.state.as_dict()["workers"]
        return next((w["pid"] for w in workers if name in w["streams"]), 0)

    def pids(self) -> list[int]:
        return [w["pid"] for w in self.state.as_dict()["workers"] if w["pid"]]


@pytest.fixture
def running(triton_server: EmbeddedServer, tmp_path: Path) -> Iterator[Running]:
    found = Running(triton_server.grpc_address, tmp_path)
    yield found
    found.stop.ask()
    assert found.fleet.join(PATIENCE_S)


def test_a_stream_comes_is_steered_and_goes_while_another_runs(running: Running) -> None:
    running.add("stays")
    running.add("goes")
    wait_until(lambda: running.statuses["goes"].snapshot().sides, PATIENCE_S, "somebody is known")
    assert running.pid_of("stays") == running.pid_of("goes")  # one worker has room for both
    before = running.statuses["goes"].snapshot().sides
    fleet = running.fleet
    assert fleet.steer(SteerStream("goes", 0, "swap")).result(PATIENCE_S) == ""
    turned = {person: {"left": "right", "right": "left"}[side] for person, side in before.items()}
    wait_until(lambda: running.statuses["goes"].snapshot().sides == turned, PATIENCE_S, "the swap")
    assert fleet.steer(SteerStream("goes", 0, "layout", layout="stacked")).result(PATIENCE_S) == ""
    assert "is not known" in fleet.steer(SteerStream("goes", 0, "hold", person=99)).result(
        PATIENCE_S
    )
    assert (
        fleet.steer(SteerStream("nobody", 0, "swap")).result(PATIENCE_S)
        == "the stream is not running"
    )
    fleet.withdraw("goes")
    wait_until(lambda: running.has_ended("goes"), PATIENCE_S, "the end of one")
    report = running.statuses["goes"].snapshot()
    assert report.state == "stopped"
    assert playable_frames(Path(report.partial_output)) == report.frames_out
    so_far = running.frames("stays")
    running.add("goes")  # the name is free again
    wait_until(lambda: running.frames("goes") > 3, PATIENCE_S, "it runs again")
    assert running.frames("stays") > so_far
    assert running.statuses["stays"].snapshot().attempts == 1


def test_a_wish_whose_worker_dies_is_answered(running: Running) -> None:
    running.add("a")
    wait_until(lambda: running.frames("a") > 3, PATIENCE_S, "a stream")
    victim = running.pid_of("a")
    os.kill(victim, signal.SIGSTOP)
    answer = running.fleet.steer(SteerStream("a", 0, "swap"))
    running.fleet.steer(SteerStream("nobody", 0, "swap")).result(PATIENCE_S)  # behind the first
    assert not answer.done()
    os.kill(victim, signal.SIGKILL)
    assert answer.result(PATIENCE_S) == "its worker ended before it could be done"


def test_streams_of_a_dead_worker_run_on_at_once_each_in_a_worker_of_its_own(
    running: Running,
) -> None:
    """In a run each suspect would wait for the end of the one before, which never comes here."""
    for name in "ab":
        running.add(name)
    wait_until(lambda: min(map(running.frames, "ab")) > 3, PATIENCE_S, "two streams")
    victim = running.pid_of("a")
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: len({running.pid_of(name) for name in "ab"} - {0, victim}) == 2,
        PATIENCE_S,
        "two workers",
    )
    wait_until(lambda: min(map(running.frames, "ab")) > 3, PATIENCE_S, "both run")
    # Once forgiven, others may join them, and a worker too many ends with its last stream.
    running.fleet.withdraw("b")
    wait_until(lambda: len(running.pids()) == 1, PATIENCE_S, "the second worker ends")
    running.add("c")
    wait_until(lambda: running.pid_of("c") == running.pid_of("a") != 0, PATIENCE_S, "c joins a")
    assert left_by(victim) == set()


def test_a_stop_ends_everything_and_answers_everybody(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    running = Running(triton_server.grpc_address, tmp_path)
    running.add("a")
    wait_until(lambda: running.frames("a") > 3, PATIENCE_S, "a stream")
    pids = running.pids()
    running.stop.ask()
    assert running.fleet.join(PATIENCE_S)
    assert running.has_ended("a")
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert left_by(*pids) == set()


def test_without_a_server_the_fleet_ends_with_the_reason(tmp_path: Path) -> None:
    running = Running("127.0.0.1:9", tmp_path)
    running.add("a")
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9"):
        running.fleet.join(PATIENCE_S)
    assert running.fleet.has_ended
    assert running.statuses["a"].snapshot().state == "failed"
    assert not any(thread.name == "fleet" for thread in threading.enumerate())
