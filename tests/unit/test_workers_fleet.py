"""A fleet's decisions about streams that come and go, and about its workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from dualface_client.errors import ServerStartError
from dualface_client.stream.job import new_statuses
from dualface_client.stream.stop import Stop
from dualface_client.workers.fleet import Fleet
from dualface_client.workers.patience import Patience
from dualface_client.workers.place import Place
from dualface_client.workers.supervisor import Supervisor
from tests.unit.test_workers_places import Machine, place

NO_MEMORY = {"state": "failed", "exit_code": 1, "failure": "OutOfMemory", "error": "oops"}


class Fleeting(Machine):
    """A fleet of places whose workers live and say what the test has them say."""

    fleet: Fleet

    def __init__(
        self, stack: ExitStack, *places: Place, videos: int, patience: Patience | None = None
    ) -> None:
        self.patience = patience
        super().__init__(stack, *places, videos=videos)

    def oversee(self, places: Sequence[Place]) -> Supervisor:
        self.fleet = Fleet(places, Stop(), self.state, self.patience, self.losses)
        return self.fleet

    def withdraw(self, name: str) -> None:
        """A request, done at once: the fleet's thread is the test's."""
        self.fleet.withdraw(name)
        self.fleet._before_round()

    def again(self, name: str) -> None:
        """What the daemon does with a stream that has failed."""
        number = "abcdefgh".index(name)
        self.withdraw(name)
        (self.statuses[number],) = new_statuses([self.jobs[number]])
        self.fleet.give(self.jobs[number], self.statuses[number])
        self.fleet._before_round()
        self.fleet._hand_out()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_stream_that_ends_while_its_place_is_lost_is_not_started_elsewhere(
    stack: ExitStack,
) -> None:
    machine = Fleeting(stack, place("A"), place("B", streams=3), videos=3)
    machine.ready("A", "B")
    assert machine.running() == {"A": "a", "B": "bc"}
    machine.withdraw("a")
    machine.losses.put(("A", ServerStartError("it died 3 times")))
    machine.fleet._take_losses()
    machine.bury("A")
    assert machine.report("a").state == "stopped"
    assert machine.running() == {"A": "", "B": "bc"}
    assert not machine.fleet._waiting


@pytest.mark.parametrize(("running", "ended"), [(2, 0), (3, 0), (4, 0), (6, 2)])
def test_only_idle_workers_beyond_the_usual_number_are_ended(
    stack: ExitStack, running: int, ended: int
) -> None:
    here = place("A", workers=4)
    machine = Fleeting(stack, here, videos=0)
    for worker in machine.fleet._workers[running:]:  # none that was needed so far
        worker.link = None
    while len(machine.fleet._workers) < running:  # as for suspected streams
        machine.fleet._add_worker(here)
        machine.start(stack, machine.fleet._workers[-1])
    machine.ready("A")
    machine.fleet._before_round()
    links = [worker.link for worker in machine.fleet._workers if worker.link is not None]
    assert (len(links), sum(link.told_to_end for link in links)) == (running, ended)


def test_a_stream_that_its_place_may_have_failed_is_given_to_the_others_in_turn(
    stack: ExitStack,
) -> None:
    machine = Fleeting(stack, place("A"), place("B", streams=4), videos=3)
    machine.ready("A", "B")
    assert machine.running() == {"A": "a", "B": "bc"}
    for expected in ({"A": "", "B": "bca"}, {"A": "a", "B": "bc"}, {"A": "", "B": "bca"}):
        machine.says("a", **NO_MEMORY)
        assert machine.report("a").state == "failed"  # who runs the fleet starts it again
        machine.again("a")
        assert machine.running() == expected


def test_a_fault_of_the_stream_itself_says_nothing_about_its_place(stack: ExitStack) -> None:
    machine = Fleeting(stack, place("A"), place("B"), videos=2)
    machine.ready("A", "B")
    machine.says("a", state="failed", error="no video", exit_code=1, failure="SourceError")
    machine.again("a")
    assert machine.running() == {"A": "a", "B": "b"}


def test_a_stream_does_not_wait_for_room_at_another_place(stack: ExitStack) -> None:
    machine = Fleeting(stack, place("A"), place("B", streams=1), videos=2)
    machine.ready("A", "B")
    machine.says("a", **NO_MEMORY)
    machine.again("a")
    assert machine.running() == {"A": "a", "B": "b"}


def test_a_further_worker_is_started_where_a_stream_has_not_failed(stack: ExitStack) -> None:
    machine = Fleeting(stack, place("A"), place("B", streams=1, workers=2), videos=2)
    *_, further = machine.fleet._workers
    further.link = None
    machine.ready("A", "B")
    assert machine.running() == {"A": "a", "B": "b|"}
    assert not machine.fleet._wants(further)
    machine.says("a", **NO_MEMORY)
    machine.withdraw("a")
    machine.fleet.add(machine.jobs[0], machine.statuses[0])
    assert machine.fleet._wants(further)
    machine.start(stack, further)
    machine.fleet._hand_out()
    assert machine.running() == {"A": "", "B": "b|"}  # it will be ready soon
    machine.ready("B")
    assert machine.running() == {"A": "", "B": "b|a"}


def test_a_failure_is_forgotten_after_a_while(stack: ExitStack) -> None:
    machine = Fleeting(stack, place("A"), place("B"), videos=2, patience=Patience(avoid_s=0.0))
    machine.ready("A", "B")
    machine.says("a", **NO_MEMORY)
    machine.again("a")
    assert machine.running() == {"A": "a", "B": "b"}


def test_a_place_at_which_a_stream_runs_well_is_forgiven(stack: ExitStack) -> None:
    patience = Patience(forgive_s=0.0)
    machine = Fleeting(stack, place("A"), place("B", streams=1), videos=2, patience=patience)
    machine.ready("A", "B")
    machine.says("a", **NO_MEMORY)
    machine.again("a")
    machine.fleet._before_round()
    machine.says("a", state="stopped")
    machine.says("b", state="stopped")
    machine.again("a")
    assert machine.running() == {"A": "a", "B": ""}
