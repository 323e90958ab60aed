"""Every benchmark starts by the command that its first lines give."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^    python (?:-m (?P<module>[\w.]+)|(?P<path>[\w/.]+\.py))", re.MULTILINE)


def documented() -> list[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for match in COMMAND.finditer(path.read_text()):
            module, script = match["module"], match["path"]
            found.add(("-m", module) if module else (script,))
    # It runs in an environment of its own, with TrackEval.
    return sorted(found - {("benchmarks/tracking/score.py",)})


def test_there_are_commands_to_try() -> None:
    assert ("benchmarks/quality.py",) in documented()
    assert len(documented()) > 15


@pytest.mark.parametrize("command", documented(), ids=" ".join)
def test_a_documented_command_starts(command: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
