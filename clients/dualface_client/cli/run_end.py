"""What a run says at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dualface_client.cli.unattended import RunPresenter
from dualface_client.errors import printable
from dualface_client.observe.progress import duration
from dualface_client.observe.report import RunSummary, StreamReport

_SERVER_FAILED = 3
_NAMED = 10  # failed videos that the last line names


def say_end(summary: RunSummary, presenter: RunPresenter, *, quiet: bool) -> None:
    """The run in one line; with --quiet only its failures."""
    if quiet:
        for report in summary.streams:
            if report.state == "failed":
                presenter.say_failed(report)
        return
    states = Counter(report.state for report in summary.streams)
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    videos = "1 video" if len(summary.streams) == 1 else f"{len(summary.streams)} videos"
    text = f"{videos}: {text}, {duration(summary.elapsed_s)}"
    if failed := failed_line(summary):
        text = f"{text}\n{failed}"
    presenter.say_end(text, **states, elapsed_s=round(summary.elapsed_s, 3))


def failed_line(summary: RunSummary) -> str:
    """Names of the videos that failed, as their own lines may have scrolled away; else empty."""
    names = [printable(report.name) for report in summary.streams if report.state == "failed"]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"failed: {', '.join(names[:_NAMED])}{more}" if names else ""


def exit_code(reports: Sequence[StreamReport]) -> int:
    """The run's exit code, which follows from how its streams ended."""
    if any(report.exit_code == _SERVER_FAILED for report in reports):
        return _SERVER_FAILED
    return int(any(report.state == "failed" for report in reports))
