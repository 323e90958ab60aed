"""The operator's pages: each command is read by the parser that would read it.

Those that need Docker run in `tests/docker`; make's are run as far as their command lines.
"""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from collections.abc import Iterator

import click
import pytest
import yaml

from dualface_client.cli.commands import cli
from scripts.compose_env import known_variables
from scripts.pins import ROOT

PAGES = ("deploy", "gpu-host", "gpu-sharing", "memory", "models", "operations", "upgrade")
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
#: Commands of the system, read by the shell alone.
SYSTEM = {"chown", "mkdir", "cp", "cd", "export", "rm", "git", "pip", "python3", "docker"}
#: Options of `docker compose` before its command, and of the commands that the pages use.
COMPOSE_OPTIONS = {"--env-file", "-f", "-p"}
COMPOSE_COMMANDS = {"up": {"-d"}, "logs": {"-f", "--no-log-prefix"}, "ps": set(), "run": {"--rm"}}


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
            for line in re.findall(r"^ *\$ (.*)$", block, flags=re.MULTILINE):
                yield page, line


LINES = sorted(set(commands()))


def simple(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, without comments, sudo and variables before them."""
    parts = shlex.split(line, comments=True)
    command: list[str] = []
    for part in [*parts, ";"]:
        if part in {"&&", "|", ";"}:
            if command:
                yield command
            command = []
        elif command or not (part == "sudo" or re.fullmatch(r"[A-Z_]+=\S*", part)):
            command.append(part)


def test_there_are_commands_to_read() -> None:
    assert len(LINES) > 30
    assert {page for page, _ in LINES} >= {"deploy", "gpu-host", "models", "upgrade"}


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda text: text[:60])
def test_a_command_of_a_page_is_read_by_its_parser(page: str, line: str) -> None:
    done = subprocess.run(["/bin/bash", "-n", "-c", line], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in re.findall(r"\b((?:DUALFACE|PROMETHEUS|GRAFANA|TRITON)_[A-Z_]+)=", line):
        assert name in known_variables(), name
    for command in simple(line):
        program = command[0].rpartition("/")[2]
        if program == "dualface-client":
            parse_client(command[1:])
        elif program == "make":
            dry_run(command[1:])
        elif command[:2] == ["docker", "compose"]:
            parse_compose(command[2:])
        else:
            assert program in SYSTEM, f"{page}: {program}"


def parse_client(arguments: list[str]) -> None:
    """As the command line would; files of the pages need not be there."""
    command: click.Command = cli
    context = click.Context(cli, info_name="dualface-client")
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, arguments
        command, arguments = found, arguments[1:]
    try:
        command.make_context("command", list(arguments))
    except click.BadParameter as error:
        if "does not exist" not in error.message:
            raise


def dry_run(arguments: list[str]) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--silent", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"^([A-Z]+) \?=", (ROOT / "make/bundle.mk").read_text(), re.MULTILINE))
    assert {part.partition("=")[0] for part in arguments if "=" in part} <= known | {"ARGS"}


def parse_compose(arguments: list[str]) -> None:
    while arguments[0] in COMPOSE_OPTIONS:
        arguments = arguments[2:]
    name, *rest = arguments
    while rest and rest[0] in COMPOSE_COMMANDS[name]:
        rest = rest[1:]
    if not rest:
        return
    service, *inner = rest
    assert service in SERVICES
    if inner:
        assert name == "run"
        parse_client(inner)


def test_the_unit_of_systemd_starts_what_exists() -> None:
    (text,) = re.findall(r"```ini\n(.*?)```", (ROOT / "docs/gpu-host.md").read_text(), re.DOTALL)
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
    unit.read_string(text)
    parse_client(shlex.split(unit["Service"]["ExecStart"])[1:])
    assert unit["Service"]["Restart"] == "on-failure"
