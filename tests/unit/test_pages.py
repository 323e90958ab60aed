"""Pages hold: the commands, options, targets and files that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from dualface_client.cli.commands import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_and_options() -> set[str]:
    context = click.Context(cli)
    names = {f"dualface-client {name}" for name in cli.list_commands(context)}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                names.update(parameter.opts)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_pages_name_exist(page: Path) -> None:
    known = commands_and_options()
    for name in re.findall(r"`(dualface-client [a-z]+)", page.read_text()):
        assert name in known, f"{page.name} names {name}"
    for line in re.findall(r"dualface-client (?:run|serve|reap)[^\n`|]*", page.read_text()):
        for option in re.findall(r"(--[a-z-]+)", line):
            assert option in known, f"{page.name} names {option} in {line!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_begins_with_a_picture_that_loads_fast() -> None:
    head, _, _ = README.partition("\n## ")
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", head)
    assert (ROOT / picture).stat().st_size < 300_000


def test_the_index_of_pages_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\]\(([^)/]+)\)", index)) == set()


def test_make_targets_that_pages_name_exist() -> None:
    makefiles = "\n".join(
        path.read_text() for path in [ROOT / "Makefile", *sorted((ROOT / "make").glob("*.mk"))]
    )
    targets = set(re.findall(r"^([a-z-]+):", makefiles, flags=re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
            assert target in targets, f"{page.name} names make {target}"


def test_every_error_class_is_in_the_tree_of_its_module() -> None:
    from dualface_client import errors

    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    drawn = set(re.findall(r"(\w+Error)\b", errors.__doc__ or ""))
    assert classes <= drawn
