"""An embedded server that a program holds for many calls."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import replace

from dualface_client.batch.server import choice_of, start_embedded
from dualface_client.batch.server_restarter import ServerRestarter
from dualface_client.batch.shared_memory import check_server_memory
from dualface_client.closing import ClosesAtExit
from dualface_client.config.program import AnySettings, check_settings
from dualface_client.errors import UsageError
from dualface_client.settings.program import ServerSettings
from dualface_client.stream.device_choice import device_for
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.reaper import reap_shared_memory


class HeldServer(ClosesAtExit):
    """A running Triton for many calls of `process`, even from several threads; a context manager.

    It is restarted at the same address if it dies, and ends with the process that started it,
    however that ends.

    Attributes:
        device: Where its models run, `cpu` or `cuda`.
        settings: What it was started with.
    """

    def __init__(self, embedded: EmbeddedServer, device: str, settings: ServerSettings) -> None:
        """Takes a running server over; `serve` starts one."""
        self.device = device
        self.settings = settings
        self._embedded = embedded
        self._owner_pid = os.getpid()
        self._is_closed = False
        # That of the start may be set at any time later, as by a timer that bounds the start.
        self._closing = threading.Event()
        embedded.abandon_restarts_at(self._closing)
        with ExitStack() as stack:
            stack.enter_context(embedded)
            stack.enter_context(ServerRestarter(embedded))
            self._stack = stack.pop_all()

    @property
    def address(self) -> str:
        """`unix:PATH` of its gRPC endpoint, for other processes of this user on this machine."""
        return self._embedded.grpc_address

    @property
    def metrics_url(self) -> str:
        """Address of Triton's Prometheus metrics."""
        return self._embedded.metrics_url

    @property
    def pid(self) -> int:
        """Process id of `tritonserver`; another one after a restart."""
        return self._embedded.pid

    def embedded(self) -> EmbeddedServer:
        """The server itself.

        Raises:
            UsageError: It is closed, or another process's.
        """
        if self._is_closed:
            raise UsageError("server: this one is closed; start another with serve()")
        if os.getpid() != self._owner_pid:
            raise UsageError(
                f"server: process {self._owner_pid} holds it, and this is a fork of it; pass "
                "server.address instead"
            )
        return self._embedded

    def close(self) -> None:
        """Stops it; safe to call twice. In a fork of its process it does nothing."""
        if os.getpid() == self._owner_pid:
            self._is_closed = True
            self._closing.set()  # a restart under way is waited for
            self._stack.close()


def serve(
    settings: AnySettings | None = None,
    *,
    device: str | None = None,
    stop: threading.Event | None = None,
) -> HeldServer:
    """Starts a Triton server that many calls of `process` can use.

    Args:
        settings: As in `process`; only `server` and `run.device` matter here.
        device: `cpu`, `cuda`, or `auto` for `cuda` if that works.
        stop: Set it from another thread to abandon the start; later it does nothing.

    Returns:
        The server, ready. Close it, or use it in a `with` statement.

    Raises:
        UsageError: A value is invalid.
        PlatformError: The device was asked for and something is missing, or no embedded server
            runs here, or /dev/shm is too small for one.
        AssetError: A model or the server's binary is missing.
        ServerStartError: It died or hung while starting.
        StoppedError: `stop` was set before it was ready.
    """
    program = check_settings(settings, {"device": ("run.device", device)})
    refuse_no_event(stop)
    if program.server.address is not None:
        raise UsageError(
            f"settings: server.address: {program.server.address}: that server runs already; pass "
            "its address to process(server=...), or remove it to start one here"
        )
    where = device_for(program.run.device, server_is_local=True, embedded_server=True)
    reap_shared_memory()
    choice = replace(choice_of(program.server, where), device=where)
    check_server_memory(choice)
    return HeldServer(start_embedded(choice, stop), where, program.server)


def refuse_no_event(stop: object) -> None:
    """Checks the argument `stop`.

    Raises:
        UsageError: It is not an event.
    """
    if stop is not None and not isinstance(stop, threading.Event):
        raise UsageError(
            f"stop: {type(stop).__name__} {stop!r:.80}: expected a threading.Event; set it from "
            "another thread to end early"
        )
