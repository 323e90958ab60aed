"""Packages of this interpreter, and the configuration."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from dualface_client.config.stack import effective, find_files
from dualface_client.errors import ConfigError, PlatformError
from dualface_client.extras import INSTALL
from dualface_client.machine.doctor.finding import FAIL, NOTE, OK, Finding
from dualface_client.machine.probe import machine_of, name_of
from dualface_client.observe.gpus import read_gpus
from dualface_client.observe.host import read_machine
from dualface_client.video.capabilities import ffmpeg_version

_VIDEO = ("av", "opencv-python-headless", "lapx")
#: Distributions that `run` needs.
_NEEDED = ("numpy", "tritonclient", *_VIDEO, "msgspec", "psutil", "pyyaml", "jinja2")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


def packages(installed: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether every package is installed, and none twice.

    Args:
        installed: Version by distribution; None looks.
    """
    names = (*_NEEDED, *_RUNTIMES, *_OPENCV)
    found = _installed(names) if installed is None else installed
    missing = [name for name in _NEEDED if name not in found and not _stands_in(name, found)]
    if missing:
        yield Finding(FAIL, "packages", f"missing: {', '.join(missing)}", INSTALL)
        return
    text = f"Python {platform.python_version()}, {_video_library()}, NumPy {found['numpy']}"
    yield Finding(OK, "packages", text)
    yield from _runtimes(found)


def _runtimes(found: Mapping[str, str]) -> Iterator[Finding]:
    both = [f"{name} {found[name]}" for name in _RUNTIMES if name in found]
    if len(both) > 1:
        yield Finding(
            FAIL,
            "ONNX Runtime",
            f"{' and '.join(both)} share one module: which one loads is a matter of chance",
            "pip uninstall onnxruntime onnxruntime-gpu, then install the one you want",
        )
    elif not both:
        text = "not installed: the embedded server cannot run models"
        yield Finding(NOTE, "ONNX Runtime", text, f"{INSTALL}, or use --server HOST:PORT")
    else:
        yield Finding(OK, "ONNX Runtime", both[0])


def configuration(config: Path | None, environ: Mapping[str, str]) -> Finding:
    """Whether every layer of the settings is valid."""
    try:
        files = find_files(config, environ)
        found = effective(files, environ, {})
    except ConfigError as error:
        return Finding(
            FAIL, "configuration", " ".join(str(error).split()), "see docs/configuration.md"
        )
    given = sum(value.origin.layer != "default" for value in found.values.values())
    names = ", ".join(map(str, files.files.values())) or files.found_by
    return Finding(OK, "configuration", f"{names}; {given} settings given")


def probed(config: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the auto-detected layer was written on this machine."""
    try:
        path = find_files(config, environ).files.get("auto_detected")
    except ConfigError:
        return  # reported by `configuration`
    now = name_of(read_machine(), read_gpus() or ())
    if path is None:
        text = "no auto_detected.yaml: the defaults are cautious"
        yield Finding(NOTE, "probe", text, "run `dualface-client probe` once on this machine")
    elif machine_of(path) != now:
        then = machine_of(path) or "an unknown machine"
        text = f"{path} was written on {then}; this is {now}"
        yield Finding(NOTE, "probe", text, "run `dualface-client probe` again")
    else:
        yield Finding(OK, "probe", f"{path} is this machine's")


def _stands_in(name: str, found: Mapping[str, str]) -> bool:
    return name.startswith("opencv") and any(other in found for other in _OPENCV)


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # what is missing has no version
            continue
    return versions


def _video_library() -> str:
    try:
        return ffmpeg_version()
    except ImportError as error:
        raise PlatformError(f"PyAV cannot be loaded ({error}); {INSTALL}") from error
