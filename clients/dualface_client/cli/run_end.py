"""What a run says of its end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dualface_client.cli.unattended import RunWatch
from dualface_client.memory.figures import PoolReport
from dualface_client.observe.report import RunSummary, StreamReport

_SERVER_FAILED = 3


def plain_regions(regions: dict[str, PoolReport]) -> dict[str, Any]:
    """One region as it is, several by worker."""
    plain = {name: asdict(region) for name, region in regions.items()}
    return plain.get("client", plain)


def warn_of_leaks(region: PoolReport, watch: RunWatch) -> None:
    """A line for each slot that is still held."""
    for leak in region.leaks:
        why = "no answer came to its request" if leak.quarantined else "never released: a bug"
        where = f"; taken at {leak.place}" if leak.place else ""
        watch.say(
            "slot_leaked",
            f"warning: a {leak.size_class} slot is still held by {leak.label} after "
            f"{leak.age_s:.0f} s ({why}{where})",
            logging.WARNING,
        )


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
