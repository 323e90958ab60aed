"""Every option that the README and the pages of docs/ name exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dualface_client.cli.commands import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Options of other programs that the pages name: Triton, Docker, Nsight, pytest, our benchmarks.
OTHERS = re.compile(
    r"tritonserver|docker|compose|compute-sanitizer|ray start|pytest|python |perf_analyzer|gcc"
)
OTHER_OPTIONS = {
    *("--allow-client-shm", "--cuda-memory-pool-byte-size", "--pinned-memory-pool-byte-size"),
    *("--grpc-restricted-protocol", "--backend-config", "--model-control-mode", "--gpus"),
    *("--profile", "--fp16", "--pid", "--ipc", "--shm-size", "--tiny", "--seeds", "--cheap"),
    *("--strict-readiness", "--log-verbose", "--in-flight", "--eval-python"),
}


def existing(command: click.Command) -> Iterator[str]:
    """Options of a command and of those below it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from existing(below)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_the_pages_exist(page: Path) -> None:
    known = {*existing(cli), "--help", "--version", *OTHER_OPTIONS}
    quoted = re.findall(r"`([^`\n]*--[^`\n]*)`", page.read_text())
    ours = [text for text in quoted if not OTHERS.search(text)]
    named = {option for text in ours for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert named <= known, f"{page.name} names {sorted(named - known)}"
