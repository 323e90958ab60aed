"""The table of settings as a page of the documentation and as a file to start from."""

from __future__ import annotations

from itertools import groupby

from dualface_client.config.table import Setting, settings_table

#: Around the generated part of docs/configuration.md.
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
_WIDTH = 100


def markdown() -> str:
    """Every setting, in one Markdown table per section."""
    parts = []
    for section, rows in groupby(settings_table().values(), key=_section):
        parts.append(f"### `{section}`\n\n| key | option | variable | default | accepted | |")
        parts.append("|---|---|---|---|---|---|")
        parts += [_line(setting) for setting in rows]
        parts.append("")
    return "\n".join(parts)


def with_reference(page: str) -> str:
    """A page with its generated part renewed.

    Raises:
        ValueError: It lacks a marker.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n\n{markdown()}\n{END}{tail}"


def template(heading: str) -> str:
    """Every setting at its default as YAML, with what it means and accepts.

    Args:
        heading: Comment at the top, without `#`.
    """
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    open_sections: list[str] = []
    for setting in settings_table().values():
        *sections, name = setting.key.split(".")
        lines += _section_lines(open_sections, sections)
        open_sections = sections
        indent = "  " * len(sections)
        lines += _wrapped(f"{setting.description} Expected: {setting.kind.expected}.", indent)
        lines.append(f"{indent}{name}: {setting.kind.show(setting.default)}")
    return "\n".join(lines) + "\n"


def _section_lines(before: list[str], now: list[str]) -> list[str]:
    lines = []
    for depth, name in enumerate(now):
        if before[: depth + 1] != now[: depth + 1]:
            lines += [*([""] if depth == 0 else []), f"{'  ' * depth}{name}:"]
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    from textwrap import wrap

    return [f"{indent}# {line}" for line in wrap(text, _WIDTH - len(indent) - 2)]


def _section(setting: Setting) -> str:
    return setting.key.rpartition(".")[0]


def _line(setting: Setting) -> str:
    cells = (
        f"`{setting.key.rpartition('.')[2]}`",
        f"`{setting.flag}`",
        f"`{setting.env}`",
        f"`{setting.kind.show(setting.default)}`",
        setting.kind.expected,
        setting.description + ("" if setting.per_stream else " (whole run)"),
    )
    return f"| {' | '.join(cells)} |"
