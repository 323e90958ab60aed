"""Where the bundle lies, and what it pins."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def read_pins(path: Path = ROOT / "VERSIONS") -> dict[str, str]:
    """The `KEY=VALUE` lines of VERSIONS."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}
