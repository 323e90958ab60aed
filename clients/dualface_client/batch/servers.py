"""The servers of a run: one, or one at each of several locations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from dualface_client.assets.installation import Installation
from dualface_client.batch.listener import Listener
from dualface_client.batch.pool_faults import ending_at_pool_fault
from dualface_client.batch.server import ServerChoice, fetch_missing, server_for, start_embedded
from dualface_client.batch.server_restarter import ServerRestarter
from dualface_client.errors import DualfaceError, PlatformError, ServerError, ServerStartError
from dualface_client.location import Location
from dualface_client.observe.run_log import ROOT
from dualface_client.observe.run_state import PlaceState, RunState
from dualface_client.settings import paths
from dualface_client.stream.stop import Stop
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.mps import multi_process_service
from dualface_client.workers.place import Losses

#: Restarts in a row of one server of several: the others take its streams meanwhile.
_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class RunServer:
    """A server that a run uses.

    Attributes:
        location: Where it is.
        address: Of its gRPC endpoint.
        embedded: The server itself, if it is one of this program.
    """

    location: Location
    address: str
    embedded: EmbeddedServer | None

    @property
    def label(self) -> str:
        """For lists of processes."""
        return f"server {self.location.name}".rstrip()


@contextmanager
def servers_for(
    choice: ServerChoice,
    locations: Sequence[Location],
    stop: Stop,
    listener: Listener,
    state: RunState,
    losses: Losses,
    held: EmbeddedServer | None = None,
) -> Iterator[list[RunServer]]:
    """Takes or starts the servers, looks after them, and ends those that it started.

    A fault of the memory pools of the only server ends the run, and so does one that is no longer
    restarted. Of several servers, one that does not start, does not stay, or has such a fault is a
    loss.

    Args:
        choice: Which server.
        locations: Where one is started.
        stop: Ends the start, and is asked to end the run.
        listener: Hears what happens.
        state: Is told which servers there are.
        losses: Gets locations whose server fails later.
        held: One that runs already, None for none.

    Raises:
        DualfaceError: As `server_for`; with several, if none starts.
    """
    with ExitStack() as stack:
        if len(locations) == 1:
            servers = [_one(stack, replace(choice, location=locations[0]), stop, listener, held)]
            ends = [stop.ask]
        else:
            servers = _several(stack, choice, locations, stop, listener, state, losses)
            ends = [partial(_lose, losses, server.location) for server in servers]
        state.set_server(", ".join(map(_shown, servers)))
        for server, end in zip(servers, ends, strict=True):
            stack.enter_context(
                ending_at_pool_fault(
                    server.embedded,
                    end,
                    partial(say_from_watch, listener, "server_pool", level=logging.WARNING),
                    state,
                    gpu=choice.device == "cuda",
                )
            )
        yield servers


def _shown(server: RunServer) -> str:
    return f"{server.address} (embedded)" if server.embedded else server.address


def say_from_watch(listener: Listener, event: str, text: str, level: int) -> None:
    """Tells a listener something on a thread that must go on, whatever the listener does."""
    try:
        listener.say(event, text, level)
    except Exception:  # the log gets it
        logging.getLogger(ROOT).exception("%s: the listener failed at: %s", event, text)


def _one(
    stack: ExitStack,
    choice: ServerChoice,
    stop: Stop,
    listener: Listener,
    held: EmbeddedServer | None,
) -> RunServer:
    if held is None and not choice.address:
        listener.say("server_starting", "starting the embedded Triton server ...")
    address, embedded = stack.enter_context(
        server_for(
            choice,
            stop.event,
            held,
            lambda text: listener.say("setup", text),
            listener.download,
            lambda why: stop.ask(ServerStartError(why)),
        )
    )
    return RunServer(choice.location, address, embedded)


def _several(
    stack: ExitStack,
    choice: ServerChoice,
    locations: Sequence[Location],
    stop: Stop,
    listener: Listener,
    state: RunState,
    losses: Losses,
) -> list[RunServer]:
    """Starts all at the same time; those that do not start are left out."""
    names = ", ".join(location.name for location in locations)
    listener.say("server_starting", f"starting the embedded Triton servers of {names} ...")
    tell = partial(listener.say, "setup")
    # Once, instead of by every server.
    fetch_missing(choice, Installation(paths.home_dir(), tell, stop.event, listener.download))
    stack.enter_context(multi_process_service(wanted=choice.uses_mps))
    with ThreadPoolExecutor(len(locations)) as pool:
        starts = {
            location.name: pool.submit(
                start_embedded, replace(choice, location=location), stop.event
            )
            for location in locations
        }
    started, failed = _outcomes(stack, starts)
    servers = [
        RunServer(location, started[location.name].grpc_address, started[location.name])
        for location in locations
        if location.name in started
    ]
    state.set_places(
        [PlaceState(server.location.name, server.address) for server in servers]
        + [PlaceState(name, "", str(error)) for name, error in failed.items()]
    )
    for name, error in failed.items():
        listener.say("place_lost", f"{name} is left out: {error}", logging.ERROR)
    if not servers:
        raise next(iter(failed.values()))
    for server in servers:
        given_up = partial(_give_up, losses, server.location)
        assert server.embedded is not None  # noqa: S101 - for the type checker
        stack.enter_context(ServerRestarter(server.embedded, limit=_RESTARTS, given_up=given_up))
    return servers


def _outcomes(
    stack: ExitStack, starts: dict[str, Future[EmbeddedServer]]
) -> tuple[dict[str, EmbeddedServer], dict[str, DualfaceError]]:
    """Servers and failures by location; what is no fault of a location ends all of them."""
    started: dict[str, EmbeddedServer] = {}
    failed: dict[str, DualfaceError] = {}
    fatal: DualfaceError | None = None
    for name, start in starts.items():
        try:
            started[name] = stack.enter_context(start.result())
        except (ServerError, PlatformError) as error:
            failed[name] = error
        except DualfaceError as error:
            fatal = error
    if fatal is not None:
        raise fatal
    return started, failed


def _give_up(losses: Losses, location: Location, why: str) -> None:
    _lose(losses, location, ServerStartError(why))


def _lose(losses: Losses, location: Location, error: DualfaceError) -> None:
    losses.put((location.name, error))


def pids_of(servers: Sequence[RunServer]) -> dict[str, Callable[[], int]]:
    """Return process ids of those servers that are of this program, by name."""
    return {
        server.label: partial(_pid, server.embedded)
        for server in servers
        if server.embedded is not None
    }


def _pid(server: EmbeddedServer) -> int:
    return server.pid
