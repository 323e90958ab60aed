"""What a run says of its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dualface_client.cli.unattended import RunWatch
from dualface_client.observe.report import RunSummary, StreamReport

_SERVER_FAILED = 3


def say_end(summary: RunSummary, watch: RunWatch, *, quiet: bool) -> None:
    """The run in a line; with --quiet the failures alone."""
    if quiet:
        for report in summary.streams:
            if report.state == "failed":
                watch.say_failed(report)
        return
    states = Counter(report.state for report in summary.streams)
    text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    videos = "1 video" if len(summary.streams) == 1 else f"{len(summary.streams)} videos"
    text = f"{videos}: {text}, {summary.elapsed_s:.1f} s"
    watch.say_end(text, **states, elapsed_s=round(summary.elapsed_s, 3))


def exit_code(reports: Sequence[StreamReport]) -> int:
    """What the streams' ends make of the run."""
    if any(report.error_is_servers for report in reports):
        return _SERVER_FAILED
    return int(any(report.state == "failed" for report in reports))
