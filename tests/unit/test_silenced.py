"""Whatever silences a checker or swallows an error says why, beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = ("benchmarks", "clients", "scripts", "tests")
_MARK = re.compile(r"# (?:noqa|type: ignore|pragma: no cover|fmt: skip|fmt: off)\b(.*)")
#: Codes first, then words: `noqa: S101 - why`, `type: ignore[misc] # why`.
_REASON = re.compile(r"(?:: [A-Z0-9, ]+| ?\[[a-z-, ]+\])? +[-#] *\w.*")


def unexplained(text: str) -> list[str]:
    marks = (_MARK.search(line) for line in text.splitlines())
    return [mark[0] for mark in marks if mark and not _REASON.fullmatch(mark[1])]


def swallowed(text: str) -> list[str]:
    """What drops an error without a word in, above or behind it: handlers and `suppress` too."""
    lines = text.splitlines()
    spans = (span for node in ast.walk(ast.parse(text)) for span in _swallowing(node))
    return [
        lines[first].strip()
        for first, last in spans
        if not any("# " in line for line in (*lines[first : last + 1], _comment(lines, first)))
    ]


def _comment(lines: list[str], first: int) -> str:
    above = lines[first - 1].strip()
    return above if above.startswith("#") else ""


def _swallowing(node: ast.AST) -> Iterator[tuple[int, int]]:
    if isinstance(node, ast.ExceptHandler) and node.name is None and len(node.body) == 1:
        body = node.body[0]
        if isinstance(body, ast.Pass | ast.Continue) or _returns_nothing(body):
            yield node.lineno - 1, (body.end_lineno or body.lineno) - 1
    if isinstance(node, ast.With) and any(
        "suppress(" in ast.unparse(item.context_expr) for item in node.items
    ):
        yield node.lineno - 1, node.lineno - 1
    if isinstance(node, ast.Call) and any(word.arg == "ignore_errors" for word in node.keywords):
        yield node.lineno - 1, (node.end_lineno or node.lineno) - 1


def _returns_nothing(body: ast.stmt) -> bool:
    if not isinstance(body, ast.Return):
        return False
    if isinstance(body.value, ast.Call):  # `frozenset()`, `Found()`
        return not body.value.args and not body.value.keywords
    empty = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.UnaryOp)
    return body.value is None or isinstance(body.value, empty)


def everywhere() -> Iterator[tuple[Path, str]]:
    for folder in _FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()


def test_what_silences_a_checker_has_its_reason_beside_it() -> None:
    assert [f"{path}: {mark}" for path, text in everywhere() for mark in unexplained(text)] == []


def test_what_swallows_an_error_has_its_reason_beside_it() -> None:
    assert [f"{path}: {line}" for path, text in everywhere() for line in swallowed(text)] == []


def test_what_counts_as_a_reason() -> None:
    mark = "x = 1  # "  # in two parts, as this file is looked at too
    for bare in (
        "noqa",
        "noqa: S101",
        "noqa: S101, PLR0913",
        "type: ignore[misc]",
        "noqa: S101 -",
        "fmt: skip",
    ):
        assert unexplained(mark + bare), bare
    for good in (
        "noqa: S101 - a pipe",
        "type: ignore[arg-type] # by name",
        "pragma: no cover - x",
        "fmt: skip # x",
    ):
        assert unexplained(mark + good) == [], good


def test_what_counts_as_swallowed() -> None:
    handler = "try:\n    f()\nexcept OSError:{}\n    {}\n"
    for body in (
        "pass",
        "continue",
        "return",
        "return None",
        "return {}",
        "return ()",
        "return set()",
        "return -1",
    ):
        loop = "for _ in x:\n    " if body == "continue" else ""
        text = handler.format("", body)
        text = loop + text.replace("\n", "\n    ") if loop else text
        assert swallowed(text) == ["except OSError:"], body
    assert swallowed(handler.format("  # gone", "pass")) == []
    assert swallowed(handler.format("", "pass  # gone")) == []
    assert swallowed(handler.format("", "g()")) == []
    assert swallowed("x = 1\nwith suppress(OSError):\n    f()\n")
    assert swallowed("# gone\nwith suppress(OSError):\n    f()\n") == []
    assert swallowed("x = 1\nrmtree(x, ignore_errors=True)\n")
    assert swallowed("x = 1\nrmtree(x, ignore_errors=True)  # gone\n") == []
