"""Where models, clips and the server are kept: one cache directory and its well-known places.

Nothing is created here; `dualface-client setup` fills the directories.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dualface_client.errors import AssetError, PlatformError

#: Where temporary files go if TMPDIR's directory is unsuitable. Triton's Python backend makes a
#: directory here in any case: the name is compiled into it.
TMP = Path("/tmp")  # noqa: S108 - a place to fall back to; its files have names of our own
# Triton's Python backend starts its stub by a shell command without quotes.
_PLAIN_PATH = re.compile("[A-Za-z0-9._/-]+")

#: Version of the `nvidia-pytriton` wheel that carries the embedded server; also pinned in VERSIONS.
PYTRITON_VERSION = "0.7.0"


def home_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The project's cache directory.

    `$DUALFACE_HOME`, else `$XDG_CACHE_HOME/dualface`, else `~/.cache/dualface`. Empty values
    count as unset, and a relative `XDG_CACHE_HOME` is ignored as the XDG base directory
    specification asks.

    Args:
        environ: Environment variables; None reads this process's.

    Returns:
        An absolute path, which may not exist yet.

    Raises:
        AssetError: This user has no home directory, and no variable names another place.
    """
    env = os.environ if environ is None else environ
    if own := env.get("DUALFACE_HOME"):
        return _expanded(own).absolute()
    shared = env.get("XDG_CACHE_HOME", "")
    if shared and Path(shared).is_absolute():
        return Path(shared) / "dualface"
    return _user_dir(env) / ".cache" / "dualface"


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where programs of this user keep what outlives them: `$XDG_STATE_HOME/dualface`.

    Without the variable, `~/.local/state/dualface`.

    Raises:
        AssetError: This user has no home directory, and the variable names no other place.
    """
    env = os.environ if environ is None else environ
    shared = env.get("XDG_STATE_HOME", "")
    if shared and Path(shared).is_absolute():
        return Path(shared) / "dualface"
    return _user_dir(env) / ".local" / "state" / "dualface"


def _user_dir(env: Mapping[str, str]) -> Path:
    home = env.get("HOME")
    return Path(home) if home else _expanded("~")


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no HOME and no entry in the password file, as in a container
        raise AssetError(
            f"the directory for models and the server cannot be found: {text!r} has no home "
            "directory here; set DUALFACE_HOME to a directory"
        ) from error


def scratch_dir() -> Path:
    """Where embedded servers keep their directories.

    The system's place for temporary files (`TMPDIR`), or `/tmp` where that has a blank or another
    character that the server cannot take.

    Raises:
        PlatformError: There is no writable place for temporary files.
    """
    try:
        place = Path(tempfile.gettempdir())
    except OSError as error:
        raise PlatformError(f"{error.strerror}; set TMPDIR to a directory") from error
    return place if _PLAIN_PATH.fullmatch(str(place)) else TMP


def scratch_dirs() -> tuple[Path, ...]:
    """Every place where one of our servers may have kept its directory."""
    return tuple(dict.fromkeys((scratch_dir(), TMP)))


def models_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Exported ONNX files and their manifest `models.json`."""
    return home_dir(environ) / "models"


def sources_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Weights as their packages contain them, the input of the export."""
    return home_dir(environ) / "sources"


def clips_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Real clips and still photos for demo, tests and benchmarks."""
    return home_dir(environ) / "clips"


def tritonserver_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The unpacked `nvidia-pytriton` wheel.

    The server is `pytriton/tritonserver/bin/tritonserver` below it, and finds its libraries in the
    sibling `nvidia_pytriton.libs` by relative path.
    """
    return home_dir(environ) / "tritonserver" / f"nvidia_pytriton-{PYTRITON_VERSION}"
