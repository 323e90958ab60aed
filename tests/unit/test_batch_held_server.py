"""The watch over a held server and its end; real servers: tests/integration/test_held_server."""

from __future__ import annotations

import os
import threading
from typing import Any

from dualface_client.batch.held_server import HeldServer
from dualface_client.closing import ClosesAtExit
from dualface_client.errors import StoppedError
from dualface_client.settings.program import ServerSettings


class Endless(ClosesAtExit):
    """A dead server whose restarts take until they are abandoned."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.starting, self.abandoned = threading.Event(), threading.Event()
        self.is_closed = False

    def is_alive(self) -> bool:
        return False

    def abandon_restarts_at(self, stop: threading.Event) -> None:
        self.stop = stop

    def restart(self) -> None:
        self.starting.set()
        if self.stop.wait(30.0):
            self.abandoned.set()
            raise StoppedError("stopped while it was starting")

    def close(self) -> None:
        self.is_closed = True


def test_its_end_abandons_a_restart_that_is_under_way() -> None:
    server: Any = Endless()
    with HeldServer(server, "cpu", ServerSettings()):
        assert server.starting.wait(30.0)
    assert server.abandoned.is_set()
    assert server.is_closed
