"""The Python that pages show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.media import Clip, make

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(block.strip().splitlines()) <= 5
    make(tmp_path / "talk.mp4", Clip(frames=5, size_wh_px=(160, 120)))
    done = subprocess.run(
        [sys.executable, "-c", block],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "talk done 5 {}\n"
    assert (tmp_path / "talk_tiles.mp4").exists()


def test_the_python_example_with_configuration_files_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "manual.yaml").write_text("output: {preset: ultrafast}\n")
    (tmp_path / "recordings").mkdir()
    make(tmp_path / "recordings" / "talk.mp4", Clip(frames=5, size_wh_px=(160, 120)))
    done = subprocess.run(
        [sys.executable, "-c", block],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=90,
    )
    assert (done.returncode, done.stdout) == (0, "talk done \n"), done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["talk_dualface.mp4"]
