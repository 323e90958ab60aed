"""A process that decides for some streams of its parent: `python -m ... FD`.

`FD` is a Unix socket from the parent, over which each stream arrives as two file descriptors: a
connection and memory for thumbnails and previews. The process ends when that socket does.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Generator
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from dualface_client.decisions.decider import Brief, CloserLook, Decider, Decision, Seen, Steps
from dualface_client.decisions.messages import (
    NOTHING,
    Accounts,
    Failed,
    Final,
    Finish,
    LookCloser,
    Obey,
    PackedDecisions,
    Places,
    Take,
    Tell,
)
from dualface_client.observe.stage_clock import StageClock

#: How often it looks whether the parent is still there.
_LOOK_S = 1.0


def _nothing() -> Generator[None, None, None]:
    yield from ()


class _Stream:
    """One stream of the parent: a message in, at most one out."""

    def __init__(self, connection: Connection, places: Places) -> None:
        self._connection = connection
        self._places = places
        self._clock = StageClock()
        self._decider: Decider | None = None
        self._work = _nothing()
        self._look: CloserLook | None = None

    def hear(self) -> None:
        """Takes one message.

        Raises:
            EOFError: The stream has ended.
        """
        message = self._connection.recv()
        if isinstance(message, CloserLook):
            self._look = message
        elif isinstance(message, Brief):
            self._decider = Decider(message, self._clock)
            return
        else:
            assert self._decider is not None, "a stream begins with its brief"  # noqa: S101 - own parent
            self._work = self._worked(self._decider, message)
        next(self._work, None)  # to its next question or its end

    def close(self) -> None:
        """Ends work that waits for an answer, which holds the stream and its memory."""
        self._work.close()
        self._connection.close()

    def fail(self, error: Exception) -> None:
        """Tells the parent."""
        trace = "".join(traceback.format_exception(error, limit=-20))
        self._connection.send(Failed(repr(error), trace))

    def _worked(
        self, decider: Decider, message: Take | Obey | Finish | Tell
    ) -> Generator[None, None, None]:
        if isinstance(message, Obey):
            self._connection.send(Final(NOTHING, problem=decider.obey(message.command)))
            return
        if isinstance(message, Finish):
            self._connection.send(Final(PackedDecisions.of(decider.finish())))
            return
        if isinstance(message, Tell):
            stages = tuple(self._clock.totals().items())
            self._connection.send(Accounts(decider.account(), stages))
            return
        decisions: list[Decision] = []
        found = message.faces.unpacked()
        for index, (time_s, faces) in enumerate(zip(message.times_s, found, strict=True)):
            thumbnail = self._places.thumbnail(index, message.thumbnail_shape)
            preview = partial(self._places.preview, index, message.preview_shape)
            steps = decider.take(Seen(time_s, faces, thumbnail, preview))
            decisions += yield from self._stepped(index, steps)
        self._connection.send(Final(PackedDecisions.of(decisions)))

    def _stepped(self, index: int, steps: Steps) -> Any:
        """Asks the parent for each closer look; returns the decisions."""
        try:
            rows = next(steps)
            while True:
                self._connection.send(LookCloser(index, rows))
                yield
                assert self._look is not None, "resumed by nothing else"  # noqa: S101 - see `hear`
                rows = steps.send(self._look)
        except StopIteration as end:
            return end.value


def main() -> int:
    """Serves the parent; returns the exit status."""
    # Ctrl-C and a service manager's SIGTERM reach all processes: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # what was imported stays
    parent_pid = os.getppid()
    streams: dict[Connection, _Stream] = {}
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        # A process that was forked from the parent may hold the socket's other end open.
        while os.getppid() == parent_pid:
            for ready in wait([parent, *streams], _LOOK_S):
                if isinstance(ready, Connection):
                    _serve(ready, streams)
                elif not _welcome(parent, streams):
                    return 0
    return 0


def _welcome(parent: socket.socket, streams: dict[Connection, _Stream]) -> bool:
    """Takes a new stream; False if the parent is gone."""
    data, fds, _, _ = socket.recv_fds(parent, 1, 2)
    if not data:
        return False
    connection, memory = fds
    places = Places(memory)
    os.close(memory)
    new = Connection(connection)
    streams[new] = _Stream(new, places)
    return True


def _serve(connection: Connection, streams: dict[Connection, _Stream]) -> None:
    stream = streams[connection]
    try:
        try:
            stream.hear()
        except (EOFError, OSError):
            raise
        except Exception as error:  # one stream's trouble must not take the others with it
            stream.fail(error)
    except (EOFError, OSError):  # closed by the parent, or with it
        stream.close()
        del streams[connection]


if __name__ == "__main__":
    # Small work for many streams: OpenCV's and BLAS's own threads would only wait for it.
    import cv2

    cv2.setNumThreads(1)
    sys.exit(main())
