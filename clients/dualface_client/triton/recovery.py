"""Brings a session back after its server went away, hung, or forgot the session's regions.

A server that restarts has forgotten every region. The first thread whose request fails waits for
the server, compares its models again and registers the regions again; the others wait for that, and
all send their requests again. Slots whose requests were never answered return to use here, where it
is certain that no server touches them any more.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualface_client.backoff import Backoff
from dualface_client.errors import (
    InferenceTimeoutError,
    MemoryRegionError,
    ModelDiedError,
    RegionUnknownError,
    ServerError,
    ServerUnreachableError,
)
from dualface_client.memory.region import Region
from dualface_client.memory.slots import SlotPool
from dualface_client.triton.client import InferenceClient
from dualface_client.triton.connection import CALL_TIMEOUT_S, Connection
from dualface_client.triton.registration import (
    kind_of,
    register,
    registered_regions,
    unregister,
)

#: Failures after which the same request may succeed.
PASSING = (ServerUnreachableError, InferenceTimeoutError, RegionUnknownError, ModelDiedError)
#: How often in a row a server may come back and die again without having answered anything.
_FRUITLESS_LIMIT = 5
_LOOK_S = 0.5
#: How long requests of later streams wait for a server that did not come back in time.
_LOST_WAIT_S = 1.0
_UNSEEN_RESTART_S = 5.0
_QUIET_S = 5.0
_RENEW_EVERY_S = 2.0


def _nothing(event: str, text: str) -> None:
    """Nobody listens."""
    del event, text


@dataclass(frozen=True, slots=True)
class Endurance:
    """How a session reacts to a server that goes away.

    Attributes:
        wait_s: How long to wait for it, seconds; 0 fails at once.
        tell: Gets the name of an event and a sentence, when the wait for the server begins and when
            it is back.
        pause_s: First pause before trying again a server that came back and answered nothing,
            seconds; doubles each time.
    """

    wait_s: float = 300.0
    tell: Callable[[str, str], None] = _nothing
    pause_s: float = 0.5


class Recovery:
    """Recovers one session; thread-safe."""

    def __init__(
        self,
        connection: Connection,
        client: InferenceClient,
        pool: SlotPool,
        regions: Sequence[Region],
        models: Sequence[str],
        check_models: Callable[[], None],
        endurance: Endurance,
        check: Callable[[], None],
    ) -> None:
        """Made by `Session`.

        Args:
            connection: The session's.
            client: The session's.
            pool: The session's.
            regions: Everything that it has registered.
            models: Names of the models it uses.
            check_models: Compares the server's models with those of the session.
            endurance: What may be tried.
            check: Called while waiting; raises to give up.
        """
        self._connection = connection
        self._client = client
        self._pool = pool
        self._regions = tuple(regions)
        self._models = tuple(models)
        self._check_models = check_models
        self._endurance = endurance
        self._check = check
        self._busy = threading.Lock()
        self._lost: ServerError | None = None
        self._lost_at_s = 0.0
        self._fruitless = Backoff(endurance.pause_s)
        self._answered = 0
        self._next_renewal_s = 0.0
        self._returns = 0

    @property
    def returns(self) -> int:
        """How often the server came back without our regions."""
        return self._returns

    def after(self, error: ServerError, epoch: int) -> None:
        """Makes the session usable again after a request's failure; then send the request again.

        Args:
            error: How it failed, one of `PASSING`.
            epoch: The request's.

        Raises:
            ServerError: The server did not come back in time, keeps dying, or is another one.
            MemoryRegionError: It refuses our regions.
        """
        asked_s = time.monotonic()
        with self._busy:
            if self._client.epoch > epoch:
                return
            if self._lost is not None and self._lost_at_s >= asked_s:
                raise self._lost
            try:
                self._recover(error)
            except ServerError as lost:
                self._lost, self._lost_at_s = lost, time.monotonic()
                self._connection.call_timeout_s = _LOST_WAIT_S
                raise
            self._lost, self._connection.call_timeout_s = None, CALL_TIMEOUT_S

    def _recover(self, error: ServerError) -> None:
        wait_s = self._endurance.wait_s if self._lost is None else _LOST_WAIT_S
        end_s = time.monotonic() + wait_s
        self._pause(error)
        told = False
        while not self._is_back(error):
            if time.monotonic() >= end_s:
                raise type(error)(f"{error}. It did not come back in {wait_s:g} s")
            if not told:
                self._endurance.tell(
                    "server_awaited",
                    f"the server {self._connection.address} does not answer; waiting for it for up "
                    f"to {wait_s:g} s",
                )
            told = True
            self._check()

    def _is_back(self, error: ServerError) -> bool:
        """Whether the server is ready and knows our regions, if need be registered again now."""
        try:
            self._connection.wait_ready(self._models, _LOOK_S, self._check)
            registered_anew = self._take_back_regions()
        except (
            ServerUnreachableError,
            InferenceTimeoutError,
        ):  # not yet: will be asked again
            return False
        if isinstance(error, ModelDiedError) and not registered_anew:
            # It answers, but still without the model: a restart is needed. Without regions nothing
            # shows that there was one, and the request itself has to.
            time.sleep(_LOOK_S if self._regions else _UNSEEN_RESTART_S)
            return not self._regions
        return True

    def _pause(self, error: ServerError) -> None:
        """Backs off from a server that comes back and dies without an answer, then gives up."""
        if self._client.answered != self._answered:
            self._answered = self._client.answered
            self._fruitless.reset()
        if self._fruitless.failures >= _FRUITLESS_LIMIT:
            raise ServerUnreachableError(
                f"{error}. It came back {self._fruitless.failures} times and answered nothing; its "
                "log says why"
            )
        end_s = time.monotonic() + self._fruitless.pause_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left_s, _LOOK_S))

    def _take_back_regions(self) -> bool:
        """Registers what the server does not know; returns whether there was anything."""
        listed = {
            name
            for kind in {kind_of(region) for region in self._regions}
            for name in registered_regions(self._connection, kind)
        }
        missing = [region for region in self._regions if region.name not in listed]
        if not missing:
            return False
        self._check_models()
        if len(missing) == len(self._regions):
            # This server does not know our memory: the one that did is gone.
            self._pool.reclaim_quarantined()
        for region in missing:
            register(self._connection, region)
        self._client.begin_epoch()
        self._returns += 1
        self._fruitless.fail()
        self._endurance.tell(
            "server_returned",
            f"the server {self._connection.address} was restarted: regions registered again",
        )
        return True

    def renew(self) -> bool:
        """Gets quarantined slots back from a living server by registering the region again.

        A slot of a request without an answer must not be used again while the server may still
        write into it; a server that has confirmed an unregistration cannot.

        Returns:
            Whether they are back. If not, the server still uses them, or does not answer.
        """
        if time.monotonic() < self._next_renewal_s or not self._busy.acquire(blocking=False):
            return False
        try:
            self._next_renewal_s = time.monotonic() + _RENEW_EVERY_S
            with self._client.quiet(_QUIET_S) as is_quiet:
                return is_quiet and self._renew()
        finally:
            self._busy.release()

    def _renew(self) -> bool:
        unregistered: list[Region] = []
        done = False
        try:
            self._connection.call("readiness", "is_server_ready", client_timeout=1.0)
            for region in self._regions:
                unregister(self._connection, region.name, 1.0, kind_of(region))
                unregistered.append(region)
            self._pool.reclaim_quarantined()
            done = True
        except (ServerError, MemoryRegionError):
            pass  # another time; the requests will say what is wrong
        # If this fails, the next request finds its region unknown, and `after` repeats this.
        with contextlib.suppress(ServerError, MemoryRegionError):
            for region in unregistered:
                register(self._connection, region)
        return done
