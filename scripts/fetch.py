"""Fetches the pinned weights, clips and server into the cache directory.

    python scripts/fetch.py [models|clips|server|all ...]

The cache directory is `$DUALFACE_HOME`, or else `$XDG_CACHE_HOME/dualface`, or else
`~/.cache/dualface`. What is there already with the right checksum is not fetched again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.errors import DualfaceError
from dualface_client.settings.paths import home_dir
from scripts.assets import GROUPS, fetch, read_catalogue
from scripts.package_clients import mb


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, or 2 where something is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", choices=[*GROUPS, "all"], default="all")
    what = parser.parse_args(argv).what
    groups = GROUPS if "all" in what else tuple(what)
    try:
        _fetch(groups)
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _fetch(groups: Sequence[str]) -> None:
    home, start_s = home_dir(), time.monotonic()
    count, size_bytes = fetch(read_catalogue(groups), home, _tell)
    if count:
        took_s = time.monotonic() - start_s
        _tell(f"fetched {count} packages, {mb(size_bytes)} in {took_s:.0f} s, into {home}")
    else:
        _tell(f"{', '.join(groups)}: up to date in {home}")


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
