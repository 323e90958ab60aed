"""Another user than root, whom permissions do not bind; so that their tests run everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534
# The other user may not reach our interpreter's modules: they are imported before.
_BECOME = f"""
import errno, json, os, socket, sys
os.setgroups([])
os.setgid({_NOBODY})
os.setuid({_NOBODY})
"""


@contextmanager
def unprivileged() -> Iterator[None]:
    """Runs its body as a user whom permissions bind. Modules must be imported before."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def give_away(path: Path, mode: int) -> None:
    """Makes a file or directory that user's own, with these permissions."""
    if os.geteuid() == 0:
        os.chown(path, _NOBODY, _NOBODY)
    path.chmod(mode)


def seen_by_another_user(script: str, *arguments: str) -> str:
    """What a Python script prints that runs as another user of the machine, in no group.

    `errno`, `json`, `os`, `socket` and `sys` are imported for it. The test is skipped where it does
    not run as root, who alone can become another user.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    done = subprocess.run(
        [sys.executable, "-c", _BECOME + script, *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
