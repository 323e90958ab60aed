"""Ctrl-C, SIGTERM and a closed terminal: the first ends the run in order, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

from dualface_client.stream.stop import Stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NO_MORE = 0  # no signal's number


class StopRequest(Stop):
    """What the user asked for.

    Attributes:
        signal_number: The first signal, 0 until there is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.signal_number = 0

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells report it; 0 until there is one."""
        return 128 + self.signal_number if self.signal_number else 0


@contextmanager
def stop_on_signal(
    tell: Callable[[str], None], clean_up: Callable[[], None]
) -> Iterator[StopRequest]:
    """Turns the first signal into an event and ends the process at the second.

    The embedded server's keeper notices that this process has gone, and ends the server with
    everything that belongs to it.

    Args:
        tell: Gets the line for the user.
        clean_up: Called at the second signal, just before the end: removes what no other process
            would.
    """
    request = StopRequest()

    def act(number: int) -> None:
        if request.signal_number and number == signal.SIGHUP:
            return  # of a terminal that closes, kernel and shell tell both
        if request.signal_number:
            try:
                clean_up()
            finally:
                os._exit(128 + number)
        request.signal_number = number
        request.ask()
        tell("stopping; what is finished so far stays playable (repeat to stop at once)")

    # A signal that is ignored stays ignored: shells start background jobs like this, and `nohup`.
    wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    with _heard(wanted, act):
        yield request


@contextmanager
def set_on_hangup() -> Iterator[threading.Event]:
    """An event that each SIGHUP sets, while the body runs."""
    event = threading.Event()
    with _heard([signal.SIGHUP], lambda number: event.set()):
        yield event


@contextmanager
def _heard(numbers: Sequence[int], act: Callable[[int], None]) -> Iterator[None]:
    """Has a thread act on signals while the body runs.

    A handler runs in the middle of what the main thread does, which may hold the very lock that the
    handler would wait for: that of an event, for example. To put something into this queue is safe
    there.
    """
    came: SimpleQueue[int] = SimpleQueue()

    def listen() -> None:
        for number in iter(came.get, _NO_MORE):
            act(number)

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    before = {
        number: signal.signal(number, lambda number, frame: came.put(number)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        came.put(_NO_MORE)
        thread.join()
