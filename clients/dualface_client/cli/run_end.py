"""What a run says at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dualface_client.cli.unattended import RunPresenter
from dualface_client.errors import printable
from dualface_client.observe.progress import duration
from dualface_client.observe.report import RunSummary, StreamReport

_REFUSED, _SERVER_FAILED = 2, 3
_FAULTY = ("failed", "incomplete")
_NAMED = 10  # failed videos that the last line names


def say_end(summary: RunSummary, presenter: RunPresenter, *, quiet: bool) -> None:
    """The run in one line; with --quiet only its failures."""
    if quiet:
        for report in summary.streams:
            if report.state in _FAULTY:
                presenter.say_failed(report)
        return
    states = Counter(report.state for report in summary.streams)
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    videos = "1 video" if len(summary.streams) == 1 else f"{len(summary.streams)} videos"
    if earlier := len(summary.streams) - len(summary.own):
        text = f"{text} ({earlier} of them by an earlier run)"
    text = f"{videos}: {text}, {duration(summary.elapsed_s)}"
    if failed := failed_lines(summary):
        text = f"{text}\n{failed}"
    presenter.say_end(text, **states, elapsed_s=round(summary.elapsed_s, 3))


def failed_lines(summary: RunSummary) -> str:
    """Names of the videos that failed or are incomplete; their own lines may have scrolled away."""
    lines = []
    for state in _FAULTY:
        names = [printable(report.name) for report in summary.streams if report.state == state]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        if names:
            lines.append(f"{state}: {', '.join(names[:_NAMED])}{more}")
    return "\n".join(lines)


def exit_code(reports: Sequence[StreamReport]) -> int:
    """The run's exit code, which follows from how its streams ended."""
    codes = {report.exit_code for report in reports}
    if _SERVER_FAILED in codes:
        return _SERVER_FAILED
    if codes == {_REFUSED}:  # nothing was done, as if it had been refused before the start
        return _REFUSED
    return int(any(report.state in _FAULTY for report in reports))
