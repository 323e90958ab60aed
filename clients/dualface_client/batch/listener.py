"""What a run has to say, and who hears it; importable without NumPy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from dualface_client.assets.installation import show_nobody
from dualface_client.observe.report import StreamStatus
from dualface_client.observe.run_log import log_event


class Listener:
    """Hears what a run has to say; this one writes it to the log and shows no progress.

    Derive from it and override what you want to hear.
    """

    def say(self, event: str, text: str, level: int = logging.INFO) -> None:
        """One line.

        Called on the thread that called `process`, where an exception ends the run, and on threads
        that watch (hardware alerts, the server's memory pools), where one is logged; two calls may
        run at a time.

        Args:
            event: A name for machines, `snake_case`.
            text: A sentence for people.
            level: A level of `logging`.
        """
        log_event(event, text, level=level)

    def display(self, statuses: Sequence[StreamStatus]) -> AbstractContextManager[object]:
        """Shows the streams while they run.

        Called once, on the thread that called `process`. An exception ends the run.

        Args:
            statuses: One for each video, in order; `snapshot()` gives its report as it is now, on
                any thread.

        Returns:
            Entered before the first stream starts and left when the last one has ended.
        """
        del statuses
        return nullcontext()

    def download(
        self, what: str, size_bytes: int, so_far_bytes: Callable[[], int]
    ) -> AbstractContextManager[object]:
        """Shows a download of models or server, which only the first run needs.

        Called on the thread that called `process`. An exception ends the run.

        Args:
            what: Name and version of the package.
            size_bytes: Of the whole download; 0 if what has come cannot be seen.
            so_far_bytes: Says how much has come, on any thread.

        Returns:
            Entered before the download starts and left when it has ended.
        """
        return show_nobody(what, size_bytes, so_far_bytes)
