"""Version, changelog and tag say the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

from dualface_client import __version__

ROOT = Path(__file__).parents[2]
HEADINGS = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def release(heading: str) -> tuple[tuple[int, ...], str]:
    """Version and date of a heading such as `1.2.0 - 2026-01-31`."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - (\d{4}-\d{2}-\d{2})", heading)
    assert match, f"expected X.Y.Z - YYYY-MM-DD, found {heading!r}"
    return tuple(map(int, match.groups()[:3])), match[4]


def test_the_newest_release_of_the_changelog_is_the_version() -> None:
    assert HEADINGS[0] == "Unreleased"
    version, _ = release(HEADINGS[1])
    assert ".".join(map(str, version)) == __version__


def test_releases_of_the_changelog_are_in_order() -> None:
    releases = [release(heading) for heading in HEADINGS[1:]]
    assert all(new[0] > old[0] and new[1] >= old[1] for new, old in pairwise(releases))


def test_the_wheel_takes_its_version_from_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    path = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{__version__}"' in path.read_text()


def test_a_tag_of_this_commit_is_the_version() -> None:
    """Where there is none, or no git, there is nothing to compare."""
    line = ["git", "tag", "--points-at", "HEAD", "--list", "v*"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) <= {f"v{__version__}"}
