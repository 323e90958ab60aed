"""Several places: where streams go, and what happens to those of a place that fails."""

from __future__ import annotations

import math
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dualface_client.errors import ServerError, ServerStartError, UsageError
from dualface_client.location import Location
from dualface_client.observe.report import StreamReport
from dualface_client.observe.run_log import run_log
from dualface_client.observe.run_state import PlaceState, RunState
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.setup import WorkerSetup
from dualface_client.workers.link import WorkerLink, start_worker
from dualface_client.workers.messages import Progress, Ready
from dualface_client.workers.place import FAILURES, Choosing, Losses, Place
from dualface_client.workers.supervisor import Supervisor, Worker

PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"


def place(name: str, *, streams: int = 2, workers: int = 1, unfit: str = "") -> Place:
    setup = WorkerSetup("127.0.0.1:9", "cpu", StreamSettings(), streams)
    return Place(setup, workers, Location(name), frozenset(unfit))


class Machine:
    """A supervisor of places whose workers live and say what the test has them say."""

    def __init__(self, stack: ExitStack, *places: Place, videos: int = 4) -> None:
        self.jobs = [Job(name, Path(f"{name}.mp4"), None) for name in "abcdefgh"[:videos]]
        self.statuses = new_statuses(self.jobs)
        self.state = RunState("test", self.statuses)
        self.state.set_places([PlaceState(each.name, "unix:/x") for each in places])
        self.losses = Losses()
        self.overseer = self.oversee(places)
        for job, status in zip(self.jobs, self.statuses, strict=True):
            self.overseer.add(job, status)
        for worker in self.overseer._workers:
            self.start(stack, worker)

    def oversee(self, places: Sequence[Place]) -> Supervisor:
        return Supervisor(places, self.state, losses=self.losses)

    def start(self, stack: ExitStack, worker: Worker) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        )
        worker.link = WorkerLink(worker.number, process, time.monotonic())
        stack.callback(worker.link.close)

    def ready(self, *names: str) -> None:
        for worker in self.overseer._workers:
            if worker.place.name in names and worker.link is not None:
                self.overseer._on_message(worker, worker.link, Ready())
        self.overseer._hand_out()

    def running(self) -> dict[str, str]:
        """Streams at each place, the worker's separated by a bar."""
        found: dict[str, list[str]] = {}
        for worker in self.overseer._workers:
            names = "".join(worker.link.running) if worker.link is not None else ""
            found.setdefault(worker.place.name, []).append(names)
        return {name: "|".join(each) for name, each in found.items()}

    def says(self, name: str, **changes: object) -> None:
        """The worker of a stream reports its end."""
        for worker in self.overseer._workers:
            link = worker.link
            if link is not None and name in link.running:
                report = replace(StreamReport(name, "", ""), **changes)  # type: ignore[arg-type] # fields by name
                self.overseer._on_message(worker, link, Progress(report))
        self.overseer._hand_out()

    def report(self, name: str) -> StreamReport:
        return self.statuses["abcdefgh".index(name)].snapshot()

    def bury(self, name: str) -> None:
        """The processes of a place have ended."""
        for worker in self.overseer._workers:
            if worker.place.name == name and worker.link is not None:
                worker.link.process.wait(10.0)
                self.overseer._on_end(worker, worker.link)
        self.overseer._hand_out()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_workers_of_the_places_are_started_in_turns() -> None:
    overseer = Supervisor([place("A", workers=3), place("B", workers=2)])
    assert [worker.place.name for worker in overseer._workers] == ["A", "B", "A", "B", "A"]
    assert [worker.number for worker in overseer._workers] == [1, 2, 3, 4, 5]


def test_streams_go_where_the_largest_share_is_free(stack: ExitStack) -> None:
    machine = Machine(stack, place("A", streams=4), place("B", streams=2), videos=6)
    machine.ready("A", "B")
    assert machine.running() == {"A": "acdf", "B": "be"}
    assert machine.report("b").place == "B"
    small = Machine(stack, place("A"), place("B"), videos=2)
    small.ready("A", "B")
    assert small.running() == {"A": "a", "B": "b"}


def test_a_stream_runs_only_where_it_fits(stack: ExitStack) -> None:
    machine = Machine(stack, place("A", unfit="abc"), place("B", streams=1), videos=4)
    machine.ready("A", "B")
    assert machine.running() == {"A": "d", "B": "a"}


def test_a_lost_places_streams_go_to_the_others_and_it_gets_none(stack: ExitStack) -> None:
    machine = Machine(stack, place("A"), place("B", streams=3), videos=4)
    machine.ready("A", "B")
    assert machine.running() == {"A": "ad", "B": "bc"}
    lines: list[str] = []
    with run_log("text", lines.append):
        machine.losses.put(("A", ServerStartError("it died 3 times")))
        machine.overseer._take_losses()
        machine.bury("A")
    assert [line for line in lines if "A is left out: it died 3 times" in line]
    assert machine.running() == {"A": "", "B": "bca"}
    moved = machine.report("a")
    assert (moved.attempts, moved.place) == (2, "B")
    assert moved.warnings == ("A failed; started again at another place",)
    assert machine.report("d").state == "waiting"
    machine.says("b", state="done")
    assert machine.running() == {"A": "", "B": "cad"}
    assert not machine.overseer._wants(machine.overseer._workers[0])
    assert [(one.name, one.lost) for one in machine.state.places] == [
        ("A", "it died 3 times"),
        ("B", ""),
    ]


def test_what_fits_only_at_the_lost_place_fails_by_name(stack: ExitStack) -> None:
    machine = Machine(stack, place("A", streams=1), place("B", unfit="ad"), videos=4)
    machine.ready("A", "B")
    machine.losses.put(("A", ServerStartError("gone")))
    machine.overseer._take_losses()
    machine.bury("A")
    assert machine.running() == {"A": "", "B": "bc"}
    for name in "ad":
        assert machine.report(name).state == "failed"
        assert "memory of a GPU that is left out" in machine.report(name).error


def test_the_loss_of_the_last_place_ends_the_run(stack: ExitStack) -> None:
    machine = Machine(stack, place("A"), place("B"))
    machine.ready("A", "B")
    machine.losses.put(("A", ServerStartError("A gone")))
    machine.losses.put(("B", ServerStartError("B gone")))
    with pytest.raises(ServerStartError, match="B gone"):
        machine.overseer._take_losses()
    assert {machine.report(name).error for name in "bd"} == {"B gone"}
    assert {status.snapshot().state for status in machine.statuses} == {"failed"}


def test_a_place_whose_first_worker_gets_no_session_is_left_out(stack: ExitStack) -> None:
    machine = Machine(stack, place("A"), place("B"), videos=2)
    machine.ready("B")
    worker = machine.overseer._workers[0]
    assert worker.link is not None
    worker.link.refused = ServerError("no memory on this GPU")
    worker.link.kill()
    machine.bury("A")
    assert machine.running() == {"A": "", "B": "ab"}
    assert machine.state.places[0].lost == "no memory on this GPU"


def test_the_users_mistake_ends_the_run_whatever_is_left(stack: ExitStack) -> None:
    machine = Machine(stack, place("A"), place("B"), videos=2)
    worker = machine.overseer._workers[0]
    assert worker.link is not None
    worker.link.refused = UsageError("--pin left=x.jpg: shows no face")
    worker.link.kill()
    with pytest.raises(UsageError, match="shows no face"):
        machine.bury("A")


@pytest.mark.parametrize(
    "failure",
    [
        {"exit_code": 3, "failure": "ServerUnreachableError"},
        {"exit_code": 1, "failure": "OutOfMemory"},
        {"exit_code": 1, "failure": "CUDARuntimeError", "trace": "Traceback ..."},
    ],
    ids=lambda failure: failure["failure"],
)
def test_a_stream_that_its_place_may_have_failed_is_tried_at_each_other(
    stack: ExitStack, failure: dict[str, object]
) -> None:
    machine = Machine(stack, place("A"), place("B"), videos=1)
    machine.ready("A", "B")
    machine.says("a", state="failed", error="oops", **failure)
    assert machine.running() == {"A": "", "B": "a"}
    assert machine.report("a").warnings == ("A: oops; started again at another place",)
    machine.says("a", state="failed", error="again", **failure)
    assert machine.report("a").state == "failed"
    assert machine.report("a").error == "again"
    assert not machine.overseer._waiting


def test_a_faulty_video_is_tried_once(stack: ExitStack) -> None:
    machine = Machine(stack, place("A"), place("B"), videos=1)
    machine.ready("A", "B")
    machine.says("a", state="failed", error="no video", exit_code=1, failure="SourceError")
    assert (machine.report("a").state, machine.report("a").attempts) == ("failed", 1)


def test_a_place_whose_failures_succeed_elsewhere_is_left_out() -> None:
    bad, good = place("bad"), place("good")
    choosing = Choosing([bad, good])
    jobs = [Job(str(number), Path(), None) for number in range(FAILURES)]
    for number, job in enumerate(jobs, 1):
        assert choosing.note_failure(job, bad)
        assert not choosing.may_run(job, bad)
        blamed = choosing.note_success(job, good)
        assert blamed == ([bad] if number == FAILURES else [])
    choosing.note_success(jobs[0], bad)
    assert bad.failures == 0  # one that was made there says that it works


def test_a_stream_that_failed_everywhere_may_run_anywhere() -> None:
    """Its worker died at both: which of the two is its third attempt's, does not matter."""
    places = [place("A"), place("B")]
    choosing, job = Choosing(places), Job("x", Path(), None)
    assert choosing.note_failure(job, places[0])
    assert not choosing.note_failure(job, places[1])
    assert choosing.may_run(job, places[0])
    assert choosing.may_run(job, places[1])
    assert choosing.preferred(job) == places[:1]  # where it failed first
    choosing.forget_older(math.inf, 1)
    assert choosing.preferred(job) == places
    assert choosing.note_failure(job, places[0])


def test_failures_of_so_many_streams_are_remembered_at_most() -> None:
    places = [place("A"), place("B")]
    choosing, jobs = Choosing(places), [Job(name, Path(), None) for name in "xyz"]
    for name in "xyzx":
        choosing.note_failure(jobs["xyz".index(name)], places[0])
    choosing.forget_older(-math.inf, 2)
    assert [len(choosing.preferred(job)) for job in jobs] == [1, 2, 1]


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({"CUDA_MPS_PIPE_DIRECTORY": "/nowhere"}, "25"),
        ({"CUDA_MPS_PIPE_DIRECTORY": "/nowhere", PERCENT: "60"}, "60"),
        ({}, None),
    ],
)
def test_a_worker_under_mps_gets_its_share_of_the_gpu(
    given: dict[str, str], share: str | None
) -> None:
    setup = WorkerSetup("127.0.0.1:9", "cpu", StreamSettings(), 1)
    link = start_worker(1, setup, queue.Queue(), threading.Event(), Location("GPU 0", given))
    try:
        assert psutil.Process(link.process.pid).environ().get(PERCENT) == share
    finally:
        link.close()
