"""Where models, clips and the server live: one cache directory and the well-known places in it.

Nothing is created here; `scripts/fetch.py` and `scripts/export_models.py` fill the directories.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: Version of the `nvidia-pytriton` wheel that carries the embedded server; also pinned in VERSIONS.
PYTRITON_VERSION = "0.7.0"


def home_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The project's cache directory.

    `$DUALFACE_HOME`, or else `$XDG_CACHE_HOME/dualface`, or else `~/.cache/dualface`. Empty values
    count as unset, and a relative `XDG_CACHE_HOME` is ignored as the XDG base directory
    specification asks.

    Args:
        environ: Environment variables; None reads this process's.

    Returns:
        An absolute path that need not exist.
    """
    env = os.environ if environ is None else environ
    if own := env.get("DUALFACE_HOME"):
        return Path(own).expanduser().absolute()
    shared = env.get("XDG_CACHE_HOME", "")
    if shared and Path(shared).is_absolute():
        return Path(shared) / "dualface"
    return _user_dir(env) / ".cache" / "dualface"


def _user_dir(env: Mapping[str, str]) -> Path:
    home = env.get("HOME")
    return Path(home) if home else Path.home()


def models_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Exported ONNX files and their manifest `models.json`."""
    return home_dir(environ) / "models"


def sources_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Weights as their packages carry them, the input of the export."""
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
