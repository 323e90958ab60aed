"""The bar of a download: seen on a terminal, absent elsewhere, gone when it has ended."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from dualface_client.cli.downloads import download_bar


def shown(size_bytes: int, *, terminal: bool, quiet: bool = False) -> str:
    """What a console shows of a download that waits until its bar has asked twice."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, quiet=quiet)
    asked = threading.Semaphore(0)

    def so_far_bytes() -> int:
        asked.release()
        return 40_000_000

    with download_bar(console, "triton 1", size_bytes, so_far_bytes):
        if terminal and not quiet and size_bytes:
            assert asked.acquire(timeout=20)
            assert asked.acquire(timeout=20)
    return text.getvalue()


def test_a_terminal_shows_how_much_has_come() -> None:
    text = shown(55_000_000, terminal=True)
    assert "triton 1" in text
    assert "40.0/55.0 MB" in text


def test_where_nothing_can_be_seen_the_name_and_the_time_are_shown() -> None:
    text = shown(0, terminal=True)
    assert "triton 1" in text
    assert "MB" not in text


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_elsewhere_there_is_no_bar(terminal: bool, quiet: bool) -> None:
    assert shown(55_000_000, terminal=terminal, quiet=quiet) == ""
