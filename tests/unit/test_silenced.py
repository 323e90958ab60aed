"""Whatever silences a checker says why, on the same line."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = ("benchmarks", "clients", "scripts", "tests")
_MARK = re.compile(r"# (?:noqa|type: ignore|pragma: no cover)\b(.*)")
#: Codes first, then words: `noqa: S101 - why`, `type: ignore[misc] # why`.
_REASON = re.compile(r"(?:: [A-Z0-9, ]+| ?\[[a-z-, ]+\])? +[-#] *\w.*")


def unexplained(text: str) -> list[str]:
    marks = (_MARK.search(line) for line in text.splitlines())
    return [mark[0] for mark in marks if mark and not _REASON.fullmatch(mark[1])]


def test_what_silences_a_checker_has_its_reason_beside_it() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {mark}"
        for folder in _FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for mark in unexplained(path.read_text())
    ]
    assert found == []


def test_what_counts_as_a_reason() -> None:
    mark = "x = 1  # "  # in two parts, as this file is looked at too
    for bare in ("noqa", "noqa: S101", "noqa: S101, PLR0913", "type: ignore[misc]", "noqa: S101 -"):
        assert unexplained(mark + bare), bare
    for good in ("noqa: S101 - a pipe", "type: ignore[arg-type] # by name", "pragma: no cover - x"):
        assert unexplained(mark + good) == [], good
