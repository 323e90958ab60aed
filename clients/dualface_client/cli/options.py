"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, dir_okay=False)


def embedded_server_options(command: Command) -> Command:
    """Options of the embedded server: own models, threads."""
    for option in (
        click.option(
            "--model-threads",
            type=click.IntRange(min=0),
            default=0,
            help="Threads of one model run in the embedded server; 0: one per core.",
        ),
        click.option(
            "--reid-onnx", type=_FILE, help="Own face ReID model for the embedded server."
        ),
        click.option(
            "--detector-onnx", type=_FILE, help="Own face detector for the embedded server."
        ),
    ):
        command = option(command)
    return command


def parse_size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Reads `WIDTHxHEIGHT`; a callback of click."""
    del context
    width, cross, height = value.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise click.BadParameter(
            f"{value!r}: expected WIDTHxHEIGHT, such as 1920x1080", param=parameter
        )
    size = int(width), int(height)
    if size[0] % 4 or size[1] % 2 or not 16 <= size[0] <= 16384 or not 16 <= size[1] <= 16384:
        raise click.BadParameter(
            f"{value!r}: the width must be a multiple of 4 and the height of 2, from 16 to 16384",
            param=parameter,
        )
    return size
