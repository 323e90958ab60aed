"""Progress of a run: live bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from dualface_client.background import BackgroundLoop
from dualface_client.closing import ClosesAtExit
from dualface_client.errors import printable
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import failure_logger


class ProgressDisplay(ClosesAtExit):
    """Shows the streams' reports on a thread until it is closed; a context manager.

    A stream that ends gets its result printed at once; `close` waits until all of it is shown.

    Args:
        statuses: One per stream, in order.
        console: Where to write.
        quiet: Show nothing.
        interval_s: Between two updates of the bars.
        line_interval_s: Between two plain lines of a stream.
    """

    def __init__(
        self,
        statuses: Sequence[StreamStatus],
        console: Console,
        *,
        quiet: bool = False,
        interval_s: float = 0.25,
        line_interval_s: float = 5.0,
    ) -> None:
        self._resources = ExitStack()
        self._loop: BackgroundLoop | None = None
        if quiet:
            return
        show, period_s = (
            (self._bars(statuses, console), interval_s)
            if console.is_terminal
            else (self._lines(statuses, console), line_interval_s)
        )
        self._loop = BackgroundLoop(
            show,
            name="progress",
            period_s=period_s,
            once_more=True,
            at_end=self._resources.close,
            failed=failure_logger("the display"),
        )

    def _lines(self, statuses: Sequence[StreamStatus], console: Console) -> Callable[[], None]:
        finished: set[str] = set()

        def show() -> None:
            for status in statuses:
                report = status.snapshot()
                if report.state == "running":
                    print_plainly(console, progress_line(report))
                _print_if_finished(console, report, finished)

        return show

    def _bars(self, statuses: Sequence[StreamStatus], console: Console) -> Callable[[], None]:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=False,
        )
        tasks: dict[str, TaskID] = {}
        finished: set[str] = set()
        several = len(statuses) > 1
        overall = progress.add_task("videos", total=len(statuses), rate="", visible=several)
        self._resources.enter_context(progress)

        def show() -> None:
            for status in statuses:
                report = status.snapshot()
                if report.state == "running":
                    _show_bar(progress, tasks, report)
                if report.state in FINAL_STATES and report.name in tasks:
                    progress.remove_task(tasks.pop(report.name))  # its line stays
                _print_if_finished(progress.console, report, finished)
            progress.update(overall, completed=len(finished))

        return show

    def close(self) -> None:
        """Shows the last state and ends; safe to call twice."""
        if self._loop is not None:
            self._loop.close()


def duration(seconds: float, precision: str = ".1f") -> str:
    """A length of time for people.

    >>> duration(9.04), duration(90, ".0f"), duration(7384)
    ('9.0 s', '1 min 30 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:{precision}} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def progress_line(report: StreamReport) -> str:
    """One line that says how far a running stream is.

    >>> progress_line(StreamReport("a", "a.mp4", "b.mp4", "running", 100, 50, 50, 5.0))
    'a: 50/100 frames, 10.0 fps, 5 s left'
    """
    if report.phase:
        return f"{printable(report.name)}: looking for the people of the video"
    total = f"/{report.frames_expected}" if report.frames_expected else ""
    parts = [f"{printable(report.name)}: {report.frames_out}{total} frames"]
    if report.fps:
        parts.append(f"{report.fps:.1f} fps")
    left = report.frames_expected - report.frames_out
    if report.fps and left > 0:
        parts.append(f"{duration(left / report.fps, '.0f')} left")
    return ", ".join(parts)


def result_lines(report: StreamReport) -> list[str]:
    """The result of a finished stream: one line, and one for each note.

    >>> result_lines(StreamReport("a", "a.mp4", "b.mp4", "failed", error="a.mp4: is empty"))
    ['a: failed: a.mp4: is empty']
    """
    name = printable(report.name)
    if report.state == "failed":
        first = f"{name}: failed: {report.error}"
    elif report.state == "stopped" and not report.frames_out:
        first = f"{name}: stopped before its first frame"
    elif report.resumed:
        first = f"{name}: {report.state} by an earlier run, {report.frames_out} frames, verified"
    else:
        who = ", ".join(f"person {identity} {side}" for identity, side in report.sides.items())
        first = (
            f"{name}: {report.state}, {report.frames_out} frames in "
            f"{duration(report.elapsed_s)} ({report.fps:.1f} fps), "
            f"ReID on {report.reid_ratio:.1%} of frames, {who or 'nobody seen'}"
        )
    notes = [f"  note: {warning}" for warning in report.warnings]
    if report.state == "incomplete":
        notes.insert(0, f"  {report.error}")
    if report.partial_output:
        notes.append(f"  the part so far: {printable(report.partial_output)}")
    elif report.state in ("done", "incomplete") and report.output:
        notes.append(f"  -> {printable(report.output)}")
    return [first, *notes]


def print_plainly(console: Console, text: str) -> None:
    """Writes text as it is, except that control characters are escaped."""
    safe = "\n".join(printable(line) for line in text.split("\n"))
    console.print(safe, markup=False, highlight=False, soft_wrap=True)


def _print_if_finished(console: Console, report: StreamReport, finished: set[str]) -> None:
    if report.state in FINAL_STATES and report.name not in finished:
        finished.add(report.name)
        for line in result_lines(report):
            print_plainly(console, line)


def _show_bar(progress: Progress, tasks: dict[str, TaskID], report: StreamReport) -> None:
    total = report.frames_expected or None
    if report.name not in tasks:
        tasks[report.name] = progress.add_task(printable(report.name), total=total, rate="")
    rate = report.phase or f"{report.fps:5.1f} fps"
    progress.update(tasks[report.name], completed=report.frames_out, total=total, rate=rate)
