"""What somebody wants to be changed in a running stream; done between two frames."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dualface_client.decisions.commands import Command
from dualface_client.stream.preview import PreviewTap


@dataclass(frozen=True, slots=True)
class Asked:
    """A command on its way.

    Attributes:
        command: What is to be done.
        answer: Gets why it could not be done, empty for done; called once, on any thread.
    """

    command: Command
    answer: Callable[[str], None]


_ENDED = "the stream has ended"
_FAILED = "the stream failed before it could be done"


class Controls:
    """Commands for one stream; thread-safe.

    Every command is answered: by the loop, or, when the stream has ended, by `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[Asked] = []
        self._closed = False

    def ask(self, command: Command, answer: Callable[[str], None]) -> None:
        """Asks for something; `answer` is as in `Asked`."""
        with self._lock:
            if not self._closed:
                self._asked.append(Asked(command, answer))
                return
        answer(_ENDED)

    def take(self) -> list[Asked]:
        """What was asked for since the last call, in order."""
        if not self._asked:  # looked at before every frame, and nearly always empty
            return []
        with self._lock:
            asked, self._asked = self._asked, []
        return asked

    def obey_all(self, obey: Callable[[Command], str]) -> None:
        """Does what was asked for since the last call.

        Args:
            obey: Does one; returns why it could not be done, empty for done.

        Raises:
            Exception: What `obey` raises; whoever still waits is told so.
        """
        asked = deque(self.take())
        try:
            while asked:
                problem = obey(asked[0].command)
                asked.popleft().answer(problem)
        finally:
            for each in asked:
                each.answer(_FAILED)

    def close(self) -> None:
        """The stream has ended: whoever still waits is told so."""
        with self._lock:
            self._closed = True
        for asked in self.take():
            asked.answer(_ENDED)


@dataclass(frozen=True, slots=True)
class Outside:
    """What people outside want of a running stream.

    Attributes:
        controls: Changes.
        tap: Pictures.
    """

    controls: Controls = field(default_factory=Controls)
    tap: PreviewTap = field(default_factory=PreviewTap)
