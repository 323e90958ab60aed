"""One compose project, as a test drives it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.pins import ROOT

#: The user of the containers; root on this machine must not be root there.
UID = os.getuid() or 1000
GID = os.getgid() or 1000


@dataclass(frozen=True, slots=True)
class Stack:
    """One compose project."""

    command: tuple[str, ...]
    project: str
    videos: Path
    environment: dict[str, str]

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        line = [*self.command, "-p", self.project, "--profile", "cpu", *arguments]
        return run(line, self.environment, check=check)

    def docker(self, *arguments: str, check: bool = True) -> str:
        return run(["docker", *arguments], self.environment, check=check).stdout.strip()

    def name(self, service: str) -> str:
        separator = "-" if "docker" in self.command else "_"
        return separator.join((self.project, service, "1"))

    def state(self, service: str, field: str) -> str:
        return self.docker("inspect", "-f", f"{{{{{field}}}}}", self.name(service))

    def shared_memory(self) -> list[str]:
        return self.docker("exec", self.name("pod"), "ls", "/dev/shm").split()  # noqa: S108 - the pod's

    def wait(self, what: str, condition: Callable[[], bool], limit_s: float = 150.0) -> float:
        start_s = time.monotonic()
        while not condition():
            if time.monotonic() - start_s > limit_s:
                logs = self.compose("logs", "--tail", "15", check=False).stdout
                pytest.fail(f"{what}: not within {limit_s:g} s\n{logs}")
            time.sleep(0.5)
        return time.monotonic() - start_s


def run(
    line: list[str], environment: dict[str, str], *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(line)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done
