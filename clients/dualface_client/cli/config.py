"""`dualface-client config`: what is set, where it comes from, and whether a file is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dualface_client.cli.setting_options import config_options, read_settings, setting_options
from dualface_client.config.reference import template
from dualface_client.config.stack import ConfigFiles, Effective, find_files, merged, problems_of
from dualface_client.config.streams_file import is_streams_file, parse_streams
from dualface_client.config.table import settings_table
from dualface_client.config.values import Given, Problem

_HEADING = """Settings of dualface-client, all at their defaults. Keep only what you change.
Written by `dualface-client config template`."""


@click.group(
    epilog="""
\b
Examples:
  dualface-client config show output
  dualface-client config check configs/manual.yaml
  dualface-client config template > configs/manual.yaml
"""
)
def config() -> None:
    """Show the settings and where they come from, or check a file."""


@config.command(
    epilog="""
\b
Examples:
  dualface-client config show
  dualface-client config show output
  dualface-client config show --config my.yaml --crf 18 --json
"""
)
@click.argument("prefixes", nargs=-1, metavar="[SECTION...]")
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@setting_options("")
def show(
    prefixes: tuple[str, ...],
    config_path: Path | None,
    config_fallback: bool,
    as_json: bool,
    given: dict[str, str],
) -> int:
    """Print every effective value and where it comes from.

    Takes the options of `run`, to show what they would change. SECTION, such as `output` or
    `tracking.risk`, prints only that part.
    """
    found = read_settings(config_path, given, fallback=config_fallback)
    values = _selected(found.values, prefixes)
    if as_json:
        click.echo(json.dumps(_as_json(found, values), indent=2))
        return 0
    click.echo(f"files ({found.files.found_by}): {_files(found.files)}", err=True)
    width = max(len(f"{key}: {_shown(key, value)}") for key, value in values.items())
    for key, value in values.items():
        click.echo(f"{f'{key}: {_shown(key, value)}':<{width}}  # {_origin(value)}")
    return 0


@config.command(
    epilog="""
\b
Examples:
  dualface-client config check configs/manual.yaml
  dualface-client config check configs
  dualface-client config check configs/streams.example.yaml
"""
)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
def check(files: tuple[Path, ...]) -> int:
    """Check configuration files or files of streams, each on its own.

    Of a directory, the files that `--config` would read there are checked together.

    Exit codes: 0 all are correct, 2 one is wrong.
    """
    failed = False
    for path in files:
        streams = is_streams_file(path)
        problems = _stream_problems(path) if streams else problems_of(path)
        for problem in problems:
            click.echo(str(problem), err=True)
        failed |= bool(problems)
        if not problems:
            click.echo(f"{path}: right{_missing_inputs(path) if streams else _names(path)}")
    return 2 if failed else 0


@config.command("template")
def template_() -> int:
    """Print a file with every setting at its default, to start your own from."""
    click.echo(template(_HEADING), nl=False)
    return 0


def _stream_problems(path: Path) -> list[Problem]:
    return parse_streams(path, merged([]))[1]


def _names(path: Path) -> str:
    """Of the files that were checked in a directory, empty for a file."""
    names = [file.name for file in find_files(path).files.values()] if path.is_dir() else []
    return f" ({', '.join(names)})" if names else ""


def _missing_inputs(path: Path) -> str:
    entries = parse_streams(path, merged([]))[0]
    files = [entry for entry in entries if not entry.address]
    missing = [entry for entry in files if not entry.input.exists()]
    notes = [f"\nnote: {entry.origin}: {entry.input} is not there now" for entry in missing]
    return f", {len(entries)} streams{''.join(notes)}"


def _selected(values: dict[str, Given], prefixes: tuple[str, ...]) -> dict[str, Given]:
    if not prefixes:
        return values
    chosen = {
        key: value
        for key, value in values.items()
        if any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
    }
    if not chosen:
        sections = sorted({key.rpartition(".")[0] for key in values})
        raise click.UsageError(f"{' '.join(prefixes)}: expected one of {', '.join(sections)}")
    return chosen


def _as_json(found: Effective, values: dict[str, Given]) -> dict[str, Any]:
    return {
        "files": {layer: str(path) for layer, path in found.files.files.items()},
        "notes": list(found.notes),
        "settings": {
            key: {
                "value": _shown(key, given),
                "layer": given.origin.layer,
                "place": given.origin.place,
                "line": given.origin.line,
            }
            for key, given in values.items()
        },
    }


def _files(files: ConfigFiles) -> str:
    return ", ".join(str(path) for path in reversed(files.files.values())) or "none"


def _shown(key: str, given: Given) -> str:
    return settings_table()[key].kind.show(given.value)


def _origin(given: Given) -> str:
    origin = given.origin
    return f"{origin.layer}, {origin}" if origin.place else origin.layer
