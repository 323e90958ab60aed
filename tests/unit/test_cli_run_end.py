"""What a run says at its end."""

from __future__ import annotations

import pytest

from dualface_client.cli.run_end import failed_line
from dualface_client.observe.report import RunSummary, StreamReport


def summary(*states: str) -> RunSummary:
    reports = tuple(StreamReport(f"v{k}", "", "", state) for k, state in enumerate(states))
    return RunSummary("0.1.0", "embedded", reports, 1.0, {})


@pytest.mark.parametrize(
    ("states", "line"),
    [
        (("done", "stopped"), ""),
        (("failed", "done", "failed"), "failed: v0, v2"),
        (("failed",) * 12, "failed: v0, v1, v2, v3, v4, v5, v6, v7, v8, v9 and 2 more"),
    ],
)
def test_the_last_line_names_the_videos_that_failed(states: tuple[str, ...], line: str) -> None:
    assert failed_line(summary(*states)) == line
