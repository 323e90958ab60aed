"""Progress of a run: live bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.control import Control
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import ControlType

from dualface_client.background import BackgroundLoop
from dualface_client.closing import ClosesAtExit
from dualface_client.errors import printable
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import failure_logger

#: People of one side that the last line names.
_CHANGES = 3
_PHASES = {
    "looking": "looking for the people of the video",
    "preparing": "tries its models before the camera is connected",
    "connecting": "has no connection, is trying to connect",
}


class ProgressDisplay(ClosesAtExit):
    """Shows the streams' reports on a thread until it is closed; a context manager.

    A stream that ends gets its result printed at once; `close` waits until all of it is shown.

    Args:
        statuses: One per stream, in order.
        console: Where to write.
        quiet: Show nothing.
        verbose: Show figures of the tracking too.
        interval_s: Between two updates of the bars.
        line_interval_s: Between two plain lines of a stream.
    """

    def __init__(
        self,
        statuses: Sequence[StreamStatus],
        console: Console,
        *,
        quiet: bool = False,
        verbose: bool = False,
        interval_s: float = 0.25,
        line_interval_s: float = 5.0,
    ) -> None:
        self._resources = ExitStack()
        self._loop: BackgroundLoop | None = None
        self._verbose = verbose
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
                self._print_if_finished(console, report, finished)

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
            auto_refresh=False,  # `show` does, after a look at the terminal's width
        )
        width = _Width(console, progress)
        tasks: dict[str, TaskID] = {}
        finished: set[str] = set()
        several = len(statuses) > 1
        overall = progress.add_task("videos", total=len(statuses), rate="", visible=several)
        self._resources.enter_context(progress)

        def show() -> None:
            width.clear_if_narrower()
            stopped = 0
            for status in statuses:
                report = status.snapshot()
                stopped += report.state == "stopped"
                if report.state == "running":
                    _show_bar(progress, tasks, report)
                if report.state in FINAL_STATES and report.name in tasks:
                    progress.remove_task(tasks.pop(report.name))  # its line stays
                self._print_if_finished(progress.console, report, finished)
            progress.update(overall, completed=len(finished) - stopped)
            progress.refresh()

        return show

    def _print_if_finished(
        self, console: Console, report: StreamReport, finished: set[str]
    ) -> None:
        if report.state in FINAL_STATES and report.name not in finished:
            finished.add(report.name)
            for line in result_lines(report, verbose=self._verbose):
                print_plainly(console, line)

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
        return f"{printable(report.name)}: {_PHASES[report.phase]}"
    total = f"/{report.frames_expected}" if report.frames_expected else ""
    parts = [f"{printable(report.name)}: {report.frames_out}{total} frames"]
    if report.fps:
        parts.append(f"{report.fps:.1f} fps")
    if report.live:
        parts.append(f"{1000 * report.latency_p50_s:.0f} ms from decoded to encoded")
        parts += [f"{count} {_words(cause)}" for cause, count in report.dropped.items() if count]
        parts += [f"{report.reconnects} reconnects"] * bool(report.reconnects)
    left = report.frames_expected - report.frames_out
    if report.fps and left > 0:
        parts.append(f"{duration(left / report.fps, '.0f')} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """A moment of a video.

    >>> clock(0.4), clock(83), clock(3725)
    ('0:00', '1:23', '1:02:05')
    """
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def seats_line(report: StreamReport) -> str:
    """Who sits where and from when on; empty if that is not known.

    >>> from dualface_client.observe.timeline import SeatingChange, Timeline
    >>> seatings = (SeatingChange(0.0, 2, 0), SeatingChange(5.0, 2, 1), SeatingChange(83.0, 3, 1))
    >>> seats_line(StreamReport("a", "a.mp4", "b.mp4", timeline=Timeline(seatings)))
    'left: person 2, from 0:00; person 3, from 1:23. right: person 1, from 0:05'
    """
    timeline = report.timeline
    parts = []
    for side in ("left", "right"):
        changes: list[tuple[int, float]] = []
        for seating in timeline.seatings:
            identity = getattr(seating, side)
            if identity and (not changes or changes[-1][0] != identity):
                changes.append((identity, seating.start_s - timeline.start_s))
        who = [f"person {number}, from {clock(since_s)}" for number, since_s in changes]
        if len(who) > _CHANGES:
            who[_CHANGES:] = [f"{len(who) - _CHANGES} more changes"]
        if who:
            parts.append(f"{side}: {'; '.join(who)}")
    return ". ".join(parts)


def result_lines(report: StreamReport, *, verbose: bool = False) -> list[str]:
    """The result of a finished stream: one line, and one for each note.

    Args:
        report: Of the stream.
        verbose: Whether figures of the tracking are told too.

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
        first = (
            f"{name}: {report.state}, {report.frames_out} frames in "
            f"{duration(report.elapsed_s)} ({report.fps:.1f} fps)"
        )
        if verbose:
            first += f", ReID on {report.reid_ratio:.1%} of frames"
    notes = [f"  note: {warning}" for warning in report.warnings]
    if report.frames_out and not report.resumed and report.state != "failed":
        notes.insert(0, f"  {seats_line(report) or 'nobody was seen'}")
    if report.live and (dropped := sum(report.dropped.values())):
        causes = (f"{count} {_words(cause)}" for cause, count in report.dropped.items() if count)
        notes.insert(
            0, f"  {dropped} of {report.frames_in} frames not written: {', '.join(causes)}"
        )
    if report.state == "incomplete":
        notes.insert(0, f"  {report.error}")
    if report.partial_output:
        notes.append(f"  the part so far: {printable(report.partial_output)}")
    elif _has_output(report):
        notes.append(f"  -> {printable(report.output)}")
    return [first, *notes]


def _has_output(report: StreamReport) -> bool:
    """Whether there is something where the output goes; those of a live stream are always whole."""
    is_there = report.frames_out > 0 if report.live else report.state in ("done", "incomplete")
    return is_there and bool(report.output)


def _words(cause: str) -> str:
    """What happened to the frames of a cause.

    >>> _words("lost_in_network")
    'lost in network'
    """
    return {"behind": "dropped"}.get(cause, cause.replace("_", " "))


def print_plainly(console: Console, text: str) -> None:
    """Writes text as it is, except that control characters are escaped."""
    safe = "\n".join(printable(line) for line in text.split("\n"))
    console.print(safe, markup=False, highlight=False, soft_wrap=True)


class _Width:
    """Takes the bars away before they are drawn anew on a terminal that was made narrower.

    Such a terminal wraps lines that it shows already. Rich moves up by the lines that it has
    written, so half of the bars would stay above the new ones.
    """

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._columns = console.width

    def clear_if_narrower(self) -> None:
        before, self._columns = self._columns, self._console.width
        if self._columns >= before:
            return
        bars = self._progress.get_renderable()
        options = self._console.options.update(width=before)
        lines = self._console.render_lines(bars, options, pad=False)
        lengths = [sum(segment.cell_length for segment in line) for line in lines]
        rows = sum(max(1, -(-length // self._columns)) for length in lengths)
        up = (ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)
        # Rich clears as many rows as there are bars; these are the others, from below.
        self._console.control(Control(*(up * (rows - len(lines)))))


def _show_bar(progress: Progress, tasks: dict[str, TaskID], report: StreamReport) -> None:
    total = report.frames_expected or None
    if report.name not in tasks:
        tasks[report.name] = progress.add_task(printable(report.name), total=total, rate="")
    rate = report.phase or f"{report.fps:5.1f} fps"
    progress.update(tasks[report.name], completed=report.frames_out, total=total, rate=rate)
