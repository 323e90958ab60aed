"""A bar for each download of a set-up, where somebody sits at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from dualface_client.background import BackgroundLoop
from dualface_client.observe.run_log import failure_logger

_PERIOD_S = 0.2


@contextmanager
def download_bar(
    console: Console, what: str, size_bytes: int, so_far_bytes: Callable[[], int]
) -> Iterator[None]:
    """Shows a bar while its body downloads; nothing where the console is no terminal.

    Args:
        console: Where to.
        what: Name and version.
        size_bytes: Of the whole, 0 where what has come cannot be seen.
        so_far_bytes: Says how much has come.
    """
    if not console.is_terminal or console.quiet:
        yield
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24))
    sizes = (DownloadColumn(),) if size_bytes else ()
    bar = Progress(*columns, *sizes, TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task(what, total=size_bytes or None)

    def show() -> None:
        bar.update(task, completed=min(so_far_bytes(), size_bytes) if size_bytes else 0)

    failed = failure_logger("the bar of the download")
    with bar, BackgroundLoop(show, name="download", period_s=_PERIOD_S, failed=failed):
        yield
