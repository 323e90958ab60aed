"""The nodes of a Ray cluster: an actor for each GPU, or one for a machine without GPUs.

Ray says which machines there are and which are lost, starts our actors there and ends them with
this process. Machines that join while a run goes on get actors too.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dualface_client.backoff import Backoff
from dualface_client.closing import ClosesAtExit
from dualface_client.cluster.actor import NodeActor
from dualface_client.cluster.driver import Answer, Joined, Left, NodeEvent, Say
from dualface_client.cluster.messages import News, NodePlan, Order
from dualface_client.errors import ServerError, UsageError
from dualface_client.extras import CLUSTER, require

_LOOK_S = 1.0
_CLOSE_S = 60.0
_KNOCK_S = 5.0
#: An actor that dies is started again, after a pause.
_PAUSE_S, _PAUSE_LIMIT_S = 1.0, 30.0
#: One that dies so often in a row, without an answer in between, is left out.
_DEATHS = 5
#: An actor that has said nothing for this long waits for cores or a GPU that other work holds.
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node goes.

    Attributes:
        name: `HOST-ID`, and `HOST-ID:gpuN` for a GPU, as several machines may have one name.
        machine: Ray's id of the machine.
        cpus: Cores that it gets.
        gpus: 1 for a GPU, 0 for a machine without one.
    """

    name: str
    machine: str
    cpus: int
    gpus: int


@dataclass(slots=True)
class _Actor:
    """A node's actor, over its deaths."""

    place: Place
    backoff: Backoff = field(default_factory=lambda: Backoff(_PAUSE_S, _PAUSE_LIMIT_S))
    handle: Any = None
    asked_s: float = 0.0
    start_at_s: float = 0.0
    has_answered: bool = False
    is_told: bool = False


class RayNodes(ClosesAtExit):
    """Connects to a cluster and runs nodes on it until it is closed; a context manager.

    Args:
        address: `auto` for the cluster of this machine, `HOST:PORT`, or `ray://HOST:PORT`.
        plan: What every node is told.
        say: Tells the user what happens to nodes.

    Raises:
        PlatformError: Ray is not installed.
        UsageError: There is no such cluster.
    """

    def __init__(self, address: str, plan: NodePlan, say: Say) -> None:
        require(*CLUSTER)
        import ray

        self._ray = ray
        self._plan = plan
        self._say = say
        self._actors: dict[str, _Actor] = {}
        self._dismissed: set[str] = set()
        self._under_way: dict[Any, _Actor] = {}
        self._looked_s = 0.0
        try:
            _knock(address)
            ray.init(
                address=address,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"--cluster {address}: no Ray cluster can be reached there ({error}); start one "
                "with `ray start --head`, or name the address that it printed"
            ) from error

    def events(self, wait_s: float) -> Sequence[NodeEvent]:
        """As `driver.Nodes`."""
        found: list[NodeEvent] = []
        if time.monotonic() - self._looked_s > _LOOK_S:
            self._looked_s = time.monotonic()
            found += self._look()
        if not self._under_way:
            if not found:
                time.sleep(wait_s)
            return found
        asked = list(self._under_way)
        ready, _ = self._ray.wait(asked, num_returns=1, timeout=0 if found else wait_s)
        if ready:
            ready, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        for question in ready:
            actor = self._under_way.pop(question)
            if self._actors.get(actor.place.name) is actor:  # not gone with its machine
                found.append(self._answer(actor, question))
        return found

    def send(self, node: str, order: Order) -> None:
        """As `driver.Nodes`."""
        actor = self._actors[node]
        actor.asked_s = time.monotonic()
        self._under_way[actor.handle.talk.remote(order)] = actor

    def dismiss(self, node: str) -> None:
        """As `driver.Nodes`."""
        self._dismissed.add(node)
        self._end(self._actors.pop(node))

    def close(self) -> None:
        """Ends the actors in order, and the connection."""
        if not self._ray.is_initialized():
            return
        actors = [actor.handle for actor in self._actors.values() if actor.handle is not None]
        closing = [handle.close.remote() for handle in actors]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
        for handle in actors:
            self._ray.kill(handle)
        self._actors.clear()
        self._ray.shutdown()

    def _look(self) -> list[NodeEvent]:
        """Starts actors where there are none; notices machines that have gone."""
        nodes: Any = self._ray.nodes  # without types
        places = places_of(nodes(), self._plan.program.run.device)
        gone = [self._actors.pop(name) for name in list(self._actors) if name not in places]
        found: list[NodeEvent]
        found = [Left(a.place.name, "its machine left the cluster") for a in gone if a.handle]
        for name, place in places.items():
            if name not in self._actors and name not in self._dismissed:
                self._actors[name] = _Actor(place)
        now_s = time.monotonic()
        for name, actor in self._actors.items():
            if actor.handle is None and now_s >= actor.start_at_s:
                actor.handle = self._start(actor.place)
                actor.has_answered = False
                found.append(Joined(name))
            self._tell_if_waiting(actor, now_s)
        return found

    def _tell_if_waiting(self, actor: _Actor, now_s: float) -> None:
        waits = not actor.has_answered and actor.asked_s and now_s - actor.asked_s > _PATIENCE_S
        if waits and not actor.is_told:
            actor.is_told = True
            place = actor.place
            self._say(
                "node_waits",
                f"{place.name}: has not started after {_PATIENCE_S:g} s: perhaps other work of the "
                f"cluster holds its {place.cpus} cores and {place.gpus} GPUs (`ray status`)",
                logging.WARNING,
            )

    def _start(self, place: Place) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": place.cpus,
            "num_gpus": place.gpus,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.machine, soft=False),
            "max_restarts": 0,
        }
        actor = self._ray.remote(NodeActor).options(**options)
        return actor.remote(place.name, self._plan, place.cpus)

    def _answer(self, actor: _Actor, question: Any) -> NodeEvent:
        name = actor.place.name
        try:
            news: News = self._ray.get(question)
        except self._ray.exceptions.RayError as error:
            actor.handle = None
            actor.backoff.fail()
            actor.start_at_s = time.monotonic() + actor.backoff.pause_s
            if actor.backoff.failures >= _DEATHS:
                why = f"it died {_DEATHS} times in a row: {_reason(error)}"
                return Answer(name, News(refused=why, exit_code=ServerError.exit_code))
            return Left(name, _reason(error))
        actor.has_answered = True
        if news.reports:
            actor.backoff.reset()
        return Answer(name, news)

    def _end(self, actor: _Actor) -> None:
        if actor.handle is None:
            return
        with suppress(self._ray.exceptions.RayError):  # it is dead: that is what is wanted
            self._ray.get(actor.handle.close.remote(), timeout=_CLOSE_S)
        self._ray.kill(actor.handle)


def _knock(address: str) -> None:
    """Whether anybody listens there: Ray itself would try for minutes.

    Raises:
        OSError: Nobody does, or the name does not exist.
        ValueError: It is no address.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("expected auto, HOST:PORT or ray://HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def places_of(machines: Sequence[Mapping[str, Any]], device: str) -> dict[str, Place]:
    """Where nodes go, by name.

    Args:
        machines: As `ray.nodes()`.
        device: What was asked for; on `cpu` a machine's GPUs are left alone, and on `cuda` machines
            without one.
    """
    found: dict[str, Place] = {}
    for machine in machines:
        if not machine["Alive"]:
            continue
        resources, node_id = machine["Resources"], str(machine["NodeID"])
        name = f"{machine['NodeManagerHostname']}-{node_id[:6]}"
        cpus = int(resources.get("CPU", 0))
        gpus = int(resources.get("GPU", 0)) if device != "cpu" else 0
        places = [
            Place(f"{name}:gpu{number}", node_id, max(1, cpus // gpus), 1) for number in range(gpus)
        ]
        if not gpus and cpus and device != "cuda":
            places = [Place(name, node_id, cpus, 0)]
        found |= {place.name: place for place in places}
    return found


def _reason(error: Exception) -> str:
    """Ray's message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
