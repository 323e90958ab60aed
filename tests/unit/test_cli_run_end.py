"""What a run says at its end."""

from __future__ import annotations

from typing import Any

import pytest

from dualface_client.cli.run_end import exit_code, failed_lines, say_end
from dualface_client.observe.report import RunSummary, StreamReport


def summary(*states: str) -> RunSummary:
    reports = tuple(StreamReport(f"v{k}", "", "", state) for k, state in enumerate(states))
    return RunSummary("0.1.0", "embedded", reports, 1.0, {})


@pytest.mark.parametrize(
    ("states", "line"),
    [
        (("done", "stopped"), ""),
        (("failed", "done", "failed"), "failed: v0, v2"),
        (("incomplete", "failed", "done"), "failed: v1\nincomplete: v0"),
        (("failed",) * 12, "failed: v0, v1, v2, v3, v4, v5, v6, v7, v8, v9 and 2 more"),
    ],
)
def test_the_last_lines_name_the_videos_that_failed(states: tuple[str, ...], line: str) -> None:
    assert failed_lines(summary(*states)) == line


@pytest.mark.parametrize(
    ("states", "code"),
    [(("done",), 0), (("done", "incomplete"), 1), (("failed", "done"), 1), (("stopped",), 0)],
)
def test_the_exit_code_follows_from_the_states(states: tuple[str, ...], code: int) -> None:
    assert exit_code(summary(*states).streams) == code


class Said:
    """Keeps the last line."""

    def say_end(self, text: str, **figures: Any) -> None:
        self.text = text


def test_the_last_line_says_what_an_earlier_run_had_done() -> None:
    reports = (
        StreamReport("a", "", "", "done"),
        StreamReport("b", "", "", "done", resumed=True),
        StreamReport("c", "", "", "incomplete", resumed=True),
    )
    said: Any = Said()
    say_end(RunSummary("0.1.0", "embedded", reports, 1.0, {}), said, quiet=False)
    line = "3 videos: 2 done, 1 incomplete (2 of them by an earlier run), 1.0 s"
    assert said.text == f"{line}\nincomplete: c"


@pytest.mark.parametrize(("codes", "code"), [((2,), 2), ((2, 0), 1), ((2, 1), 1), ((2, 3), 3)])
def test_a_run_that_did_nothing_ends_as_one_that_was_refused(
    codes: tuple[int, ...], code: int
) -> None:
    """As when another process began to write its only output after the checks."""
    reports = [
        StreamReport("v", "", "", "failed" if each else "done", exit_code=each) for each in codes
    ]
    assert exit_code(reports) == code
