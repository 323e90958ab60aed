"""docs/python.md holds: its examples run as one program, and print what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import dualface_client
from tests.media import Clip, make

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
#: A block of Python, and the output where one follows it.
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def test_the_examples_run_and_print_what_the_page_says(tmp_path: Path) -> None:
    examples = EXAMPLE.findall(PAGE)
    assert len(examples) == PAGE.count("```python")
    program = "".join(f"{code}print('=====', flush=True)\n" for code, _ in examples)
    for name in ("talk", "interview"):
        make(tmp_path / f"{name}.mp4", Clip(frames=5, size_wh_px=(160, 120)))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("=====\n")
    for (code, expected), found in zip(examples, printed, strict=False):
        assert not expected or found == expected, code


def test_every_public_name_is_on_the_page() -> None:
    missing = [name for name in dualface_client.__all__ if f"`{name}`" not in PAGE]
    assert missing == []
