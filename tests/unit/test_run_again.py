"""The containers' client is run again where that can help, and its exit code is passed on."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from scripts.pins import ROOT
from tests.processes import wait_until

SCRIPT = ROOT / "scripts" / "run_again.sh"


def start(directory: Path, body: str, *arguments: str) -> subprocess.Popen[str]:
    """Runs the script with a client that is a few lines of shell."""
    client = directory / "dualface-client"
    head = "trap 'exit 3' TERM"  # before it says that it is there
    client.write_text(f'#!/bin/sh\n{head}\necho "$*" >> {directory}/calls\n{body}\n')
    client.chmod(0o700)
    return subprocess.Popen(
        ["/bin/sh", str(SCRIPT), *arguments],
        env={"PATH": f"{directory}:/usr/bin:/bin", "DUALFACE_TRY_PAUSE_S": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )


def calls(directory: Path) -> list[str]:
    path = directory / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("code", [0, 1, 2, 130, 143])
def test_what_another_try_cannot_help_is_not_tried_again(tmp_path: Path, code: int) -> None:
    with start(tmp_path, f"exit {code}", "run", "in", "--resume") as script:
        assert script.wait(30.0) == code
    assert calls(tmp_path) == ["run in --resume"]


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$"], ids=["server lost", "killed"])
def test_a_run_that_lost_its_server_or_was_killed_is_tried_again(tmp_path: Path, end: str) -> None:
    third = f"[ $(wc -l < {tmp_path}/calls) -lt 3 ] || exit 1\n"
    with start(tmp_path, third + end, "run", "in") as script:
        assert script.wait(30.0) == 1
        assert script.stderr is not None
        assert "try 2 of 5" in script.stderr.read()
    assert len(calls(tmp_path)) == 3


def test_the_tries_are_bounded_and_the_last_exit_code_counts(tmp_path: Path) -> None:
    with start(tmp_path, "exit 3", "run", "in") as script:
        assert script.wait(30.0) == 3
    assert len(calls(tmp_path)) == 5


def test_other_commands_run_once(tmp_path: Path) -> None:
    with start(tmp_path, "exit 3", "models", "list") as script:
        assert script.wait(30.0) == 3
    assert calls(tmp_path) == ["models list"]


def test_a_stop_reaches_the_client_and_ends_the_tries(tmp_path: Path) -> None:
    with start(tmp_path, "while :; do sleep 0.05; done", "run", "in") as script:
        try:
            wait_until(lambda: calls(tmp_path))
            script.send_signal(signal.SIGTERM)
            assert script.wait(30.0) == 3
        finally:
            script.kill()
    assert len(calls(tmp_path)) == 1
