from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualface_client.errors import AssetError
from dualface_client.settings import paths


def scratch_with(tmpdir: Path) -> str:
    """`scratch_dir` of a process that starts with this TMPDIR."""
    script = "from dualface_client.settings import paths; print(paths.scratch_dir())"
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "TMPDIR": str(tmpdir)},
    ).stdout.strip()


@pytest.mark.parametrize(("name", "is_taken"), [("t-1.x_y", True), ("a b", False), ("ä", False)])
def test_a_temporary_directory_that_the_server_cannot_take(
    tmp_path: Path, name: str, is_taken: bool
) -> None:
    place = tmp_path / name
    place.mkdir()
    assert scratch_with(place) == (str(place) if is_taken else "/tmp")  # noqa: S108 - the answer


def test_a_home_that_does_not_exist_says_what_to_set() -> None:
    with pytest.raises(AssetError, match="'~nobody-here/x' has no home directory here; set DUAL"):
        paths.home_dir({"DUALFACE_HOME": "~nobody-here/x"})
