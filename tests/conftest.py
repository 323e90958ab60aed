"""Puts the repository's root on the path, so that tests can say `from tests.media import ...`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter and write, which `tmp_path` is not."""
    path = Path(tempfile.mkdtemp(prefix="dualface-test-"))
    path.chmod(0o777)
    yield path
    for directory in path.rglob("*"):
        if directory.is_dir():
            directory.chmod(0o700)
    shutil.rmtree(path)
