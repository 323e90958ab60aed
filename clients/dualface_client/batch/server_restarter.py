"""Restarts the embedded server of a run if it dies or hangs, a limited number of times.

The workers of the run wait for it meanwhile and send again what it had not answered
(`triton.recovery`); its address stays the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psutil

from dualface_client.background import BackgroundLoop
from dualface_client.backoff import Backoff
from dualface_client.errors import DualfaceError, StoppedError
from dualface_client.observe.run_log import failure_logger, log_event
from dualface_client.triton.embedded import EmbeddedServer

_LOOK_S = 0.2
#: A server that lived this long was not killed by its start, nor by its first requests.
_CALM_S = 2.0
_IN_ROW_LIMIT = 8
#: A server that hangs is found after as many questions without an answer in a row. A clock would
#: also count the time for which the whole machine was suspended.
_SILENT_LIMIT = 6
_ASK_EVERY_S = 5.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 8.0


class ServerRestarter(BackgroundLoop):
    """Looks after one server until it is closed; a context manager.

    Closing waits for a restart that is under way.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        ask_every_s: float = _ASK_EVERY_S,
        *,
        limit: int = _IN_ROW_LIMIT,
        given_up: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Starts watching.

        Args:
            server: A running one. It stays the caller's, who closes it after this.
            ask_every_s: How often it is asked whether it is live, and how long it may take to
                answer, seconds.
            limit: Restarts in a row after which it is given up.
            given_up: Called on the watch's thread when it is, with the reason.
        """
        self._server = server
        self._limit, self._given_up = limit, given_up
        self._ask_every_s = ask_every_s
        self._silent = 0
        self._next_question_s = time.monotonic() + ask_every_s
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, retried_at_once=1)
        self._restarts = 0
        self._ready_at_s = time.monotonic()
        self._suspect = False
        super().__init__(
            self._restart_on_death,
            name="server restarter",
            period_s=_LOOK_S,
            failed=failure_logger("the watch over the server"),
            join_limit_s=None,
        )

    @property
    def restarts(self) -> int:
        """How often the server was restarted."""
        return self._restarts

    def _restart_on_death(self) -> bool:
        """Whether to go on watching."""
        died = self._how_it_died()
        return not died or self._restart(died)

    def _how_it_died(self) -> str:
        """What is wrong, empty for nothing."""
        if not self._server.is_alive():
            return "the embedded server died"
        # Triton does not restart a model's process. It reaps those that it ends itself, so one
        # that is still a zombie at the next check died by itself.
        before, self._suspect = self._suspect, _has_zombie(self._server.pid)
        if before and self._suspect:
            return "a model's process died"
        return "the embedded server hangs" if self._hangs() else ""

    def _hangs(self) -> bool:
        if time.monotonic() < self._next_question_s:
            return False
        answers = self._server.answers(self._ask_every_s)
        self._silent = 0 if answers else self._silent + 1
        self._next_question_s = time.monotonic() + self._ask_every_s
        return self._silent >= _SILENT_LIMIT

    def _restart(self, died: str) -> bool:
        """Whether to go on watching."""
        if time.monotonic() - self._ready_at_s > _CALM_S:
            self._backoff.reset()
        self._backoff.fail()
        if self._backoff.failures > self._limit:
            why = f"{died} {self._limit} times in a row: it is no longer restarted"
            text = f"{why}; its last log lines:\n{self._server.log_tail()}"
            log_event("server_given_up", text, level=logging.ERROR)
            self._given_up(why)
            return False
        log_event("server_died", f"{died}; restarting it", level=logging.WARNING)
        if self._closing.wait(self._backoff.pause_s):
            return False
        try:
            self._server.restart()
        except StoppedError:  # the run is ending: nobody waits for the server
            return False
        except (DualfaceError, OSError) as error:  # whatever it is may be over next time
            log_event("server_not_restarted", str(error), level=logging.ERROR)
        else:
            self._restarts += 1
        self._ready_at_s = time.monotonic()
        self._suspect = False
        self._silent = 0
        self._next_question_s = self._ready_at_s + self._ask_every_s
        return True


def _has_zombie(pid: int) -> bool:
    try:
        children = psutil.Process(pid).children()
        return any(child.status() == psutil.STATUS_ZOMBIE for child in children)
    except psutil.Error:  # ended between two checks: the next one finds it dead
        return False
