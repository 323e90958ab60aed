"""Writes what follows from the table of settings: the reference page and the fallback layer.

    python scripts/render_configuration.py [--check]

Run it after a change of the table or of a setting's default or description; a test compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.config.reference import template, with_reference

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
FALLBACK = ROOT / "configs" / "fallback.yaml"
_HEADING = """The lowest layer: every setting at a value that is safe on any machine. They are the
program's own defaults: delete what you like, or change it for everybody who uses this directory.
Written by scripts/render_configuration.py from the settings' fields; a test compares."""


def rendered() -> dict[Path, str]:
    """The files and what they should say."""
    return {PAGE: with_reference(PAGE.read_text()), FALLBACK: template(_HEADING)}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the files, or with `--check` says which are stale; exit status 1 if any is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(argv).check
    stale = {
        path: text
        for path, text in rendered().items()
        if not path.is_file() or path.read_text() != text
    }
    for path, text in stale.items():
        if check:
            print(f"{path.relative_to(ROOT)} is stale: python scripts/render_configuration.py")
        else:
            path.write_text(text)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
