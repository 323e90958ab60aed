"""A fleet's decisions about streams that come and go, and about its workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from dualface_client.errors import ServerStartError
from dualface_client.stream.stop import Stop
from dualface_client.workers.fleet import Fleet
from dualface_client.workers.place import Place
from dualface_client.workers.supervisor import Supervisor
from tests.unit.test_workers_places import Machine, place


class Fleeting(Machine):
    """A fleet of places whose workers live and say what the test has them say."""

    fleet: Fleet

    def oversee(self, places: Sequence[Place]) -> Supervisor:
        self.fleet = Fleet(places, Stop(), self.state, losses=self.losses)
        return self.fleet

    def withdraw(self, name: str) -> None:
        """A request, done at once: the fleet's thread is the test's."""
        self.fleet.withdraw(name)
        self.fleet._before_round()


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
