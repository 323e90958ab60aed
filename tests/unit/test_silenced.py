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
    if isinstance(node, ast.ExceptHandler) and not _passes_on(node):
        yield node.lineno - 1, (node.end_lineno or node.lineno) - 1
    if isinstance(node, ast.With) and any(
        "suppress(" in ast.unparse(item.context_expr) for item in node.items
    ):
        yield node.lineno - 1, node.lineno - 1
    if isinstance(node, ast.Call) and any(word.arg == "ignore_errors" for word in node.keywords):
        yield node.lineno - 1, (node.end_lineno or node.lineno) - 1


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether it raises, or does something with the error."""
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    return any(
        isinstance(node, ast.Raise) or (isinstance(node, ast.Name) and node.id == handler.name)
        for node in inside
    )


#: What keeps a command of the shell or a promise of a page from saying that it failed.
_SILENT = re.compile(r"\|\| true|2> ?/dev/null|/dev/null 2>&1|set \+e|\.catch\(|catch \{")
_WORDS = re.compile(r"(^|\s)(#|//) ")
_MUTED = re.compile(r"(filterwarnings|simplefilter)\(\s*[\"']ignore")


def silent(text: str) -> list[str]:
    """Lines of a script that hide a failure, without a word on them, above or just below."""
    return _wordless(_SILENT, text, above=3, below=1)


def muted(text: str) -> list[str]:
    """Warnings that are ignored without a word on the line or above."""
    return _wordless(_MUTED, text, above=1, below=0)


def _wordless(what: re.Pattern[str], text: str, *, above: int, below: int) -> list[str]:
    lines = text.splitlines()
    return [
        line.strip()
        for number, line in enumerate(lines)
        if what.search(line)
        and not any(map(_WORDS.search, lines[max(0, number - above) : number + below + 1]))
    ]


def everywhere() -> Iterator[tuple[Path, str]]:
    for folder in _FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()


def test_what_silences_a_checker_has_its_reason_beside_it() -> None:
    assert [f"{path}: {mark}" for path, text in everywhere() for mark in unexplained(text)] == []


def test_what_swallows_an_error_has_its_reason_beside_it() -> None:
    assert [f"{path}: {line}" for path, text in everywhere() for line in swallowed(text)] == []


def test_what_ignores_a_warning_has_its_reason_beside_it() -> None:
    assert [f"{path}: {line}" for path, text in everywhere() for line in muted(text)] == []
    mark = "pytestmark = pytest.mark.filterwarnings(" + '"ignore::ResourceWarning")'
    assert muted(mark) == [mark]
    assert muted(f"# The library's own.\n{mark}") == []


def test_scripts_and_pages_hide_no_failure_without_a_reason() -> None:
    found = [
        path
        for pattern in (
            "**/*.sh",
            "make/*.mk",
            "Makefile",
            ".ci/run",
            "**/*.html",
        )
        for path in sorted(ROOT.glob(pattern))
        if not {".venv", "out"} & set(path.relative_to(ROOT).parts)
    ]
    assert len(found) > 3
    assert [f"{path.name}: {line}" for path in found for line in silent(path.read_text())] == []


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
    assert swallowed(handler.format("", "g()")) == ["except OSError:"]
    assert swallowed(handler.format("", "raise E from None")) == []
    told = "try:\n    f()\nexcept OSError as error:\n    {}\n"
    assert swallowed(told.format("say(error)")) == []
    assert swallowed(told.format("x = 1")) == ["except OSError as error:"]
    assert swallowed("x = 1\nwith suppress(OSError):\n    f()\n")
    assert swallowed("# gone\nwith suppress(OSError):\n    f()\n") == []
    assert swallowed("x = 1\nrmtree(x, ignore_errors=True)\n")
    assert swallowed("x = 1\nrmtree(x, ignore_errors=True)  # gone\n") == []
