"""The watch goes on whatever keeps a server from starting; real servers: test_server_recovery."""

from __future__ import annotations

import os
from typing import Any

import pytest

from dualface_client.batch.server_restarter import ServerRestarter
from dualface_client.errors import ContractError, ServerStartError
from tests.processes import wait_until


class Dying:
    """A server that is dead until its restarts have failed in every given way."""

    def __init__(self, *failures: Exception) -> None:
        self.pid = os.getpid()
        self.failures = list(failures)
        self.lives = False

    def is_alive(self) -> bool:
        return self.lives

    def answers(self, timeout_s: float) -> bool:
        return self.lives

    def restart(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.lives = True

    def log_tail(self) -> str:
        return ""


@pytest.mark.parametrize(
    "failure",
    [
        ServerStartError("it died"),
        ContractError("somebody else's server has taken the port"),
        OSError("Resource temporarily unavailable"),  # no process can be started just now
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_restart_that_fails_is_tried_again(failure: Exception) -> None:
    server: Any = Dying(failure)
    with ServerRestarter(server) as watch:
        wait_until(lambda: watch.restarts)
    assert (server.lives, watch.restarts) == (True, 1)


class Silent(Dying):
    """A server that runs, and stops answering for a number of questions."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.questions, self.asked = questions, 0

    def is_alive(self) -> bool:
        return True

    def answers(self, timeout_s: float) -> bool:
        self.asked += 1
        return self.asked > self.questions


def test_a_server_that_hangs_is_restarted() -> None:
    server: Any = Silent(10_000)
    with ServerRestarter(server, ask_every_s=0.001) as watch:
        wait_until(lambda: watch.restarts)
    assert server.lives
    assert server.asked >= 6


def test_a_server_that_is_only_slow_to_answer_is_not() -> None:
    server: Any = Silent(5)
    with ServerRestarter(server, ask_every_s=0.001) as watch:
        wait_until(lambda: server.asked > 8)
        assert watch.restarts == 0


def test_a_server_that_does_not_come_back_is_given_up_and_that_is_said_once() -> None:
    server: Any = Dying(*(ServerStartError("it died") for _ in range(9)))
    told: list[str] = []
    with ServerRestarter(server, limit=1, given_up=told.append) as watch:
        wait_until(lambda: told)
    assert watch.restarts == 0
    (why,) = told
    assert why.startswith("the embedded server died 1 times in a row")
