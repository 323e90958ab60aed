"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dualface_client.settings.kinds import Address

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE_TO_READ = click.Path(path_type=Path, dir_okay=False, exists=True)
FILE_TO_WRITE = click.Path(path_type=Path, dir_okay=False)


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
            "--reid-onnx", type=_FILE_TO_READ, help="Own face ReID model for the embedded server."
        ),
        click.option(
            "--detector-onnx", type=_FILE_TO_READ, help="Own face detector for the embedded server."
        ),
    ):
        command = option(command)
    return command


def server_option(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """`--server HOST:PORT`, looked at before anything starts.

    Args:
        text: Its help.
        required: Whether it must be given.
    """
    return click.option(
        "--server", metavar="HOST:PORT", callback=_parse_address, help=text, required=required
    )


def refuse_beside(context: click.Context, option: str, *names: str) -> None:
    """Refuses options that another one makes pointless, where the user gave them.

    Args:
        context: Of the command.
        option: The one that counts, as the user wrote it.
        names: Parameters that it leaves without effect.

    Raises:
        click.UsageError: One of them was given.
    """
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in names:
            raise click.UsageError(
                f"{parameter.opts[-1]} has no effect with {option}; leave one of them out."
            )


def parse_size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Reads `WIDTHxHEIGHT`; a callback of click."""
    del context
    width, cross, height = value.lower().partition("x")
    if not (cross and _is_number(width) and _is_number(height)):
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


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _parse_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    del context
    if value is None:
        return None
    try:
        return Address().read(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}", param=parameter) from None
