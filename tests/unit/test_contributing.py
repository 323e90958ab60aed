"""CONTRIBUTING.md points at what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "dualface_client"
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def found(name: str) -> Path | None:
    """A path below the repository or the package, or a file's name anywhere in either's code."""
    for place in (ROOT, PACKAGE):
        if (place / name).exists():
            return place / name
    folders = (PACKAGE, ROOT / "scripts", ROOT / "benchmarks")
    anywhere = (path for folder in folders for path in folder.rglob(name))
    return next(anywhere, None) if "/" not in name else None


def test_files_that_the_page_names_exist() -> None:
    named = re.findall(r"`([\w./-]+(?:/|\.(?:py|cu|md|yaml|toml)))`", PAGE)
    missing = [name for name in named if "test_X" not in name and found(name) is None]
    assert len(named) > 25
    assert missing == []


def test_what_the_page_finds_in_a_file_is_in_it() -> None:
    pairs = re.findall(r"`(\w+)` in\s+`([\w./]+)`", PAGE)
    assert len(pairs) > 5
    for name, file in pairs:
        path = found(file)
        assert path is not None, file
        assert re.search(rf"\b{name}\b", path.read_text()), f"{name} in {file}"


def test_arguments_of_a_setting_are_those_of_the_code() -> None:
    from dualface_client.settings.field import About

    arguments = re.findall(r"`(\w+)=(?:False)?`", PAGE)
    assert set(arguments) <= set(About.__annotations__)
    assert len(arguments) == 3
