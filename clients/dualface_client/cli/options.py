"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dualface_client.config.values import quoted
from dualface_client.settings.kinds import Address

Command = TypeVar("Command", bound=Callable[..., Any])

FILE_TO_WRITE = click.Path(path_type=Path, dir_okay=False)


def server_option(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """`--server ADDRESS`, checked before anything starts.

    Args:
        text: Its help.
        required: Whether it must be given.
    """
    return click.option(
        "--server", metavar="ADDRESS", callback=_parse_address, help=text, required=required
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
            name = (
                parameter.opts[-1]
                if parameter.opts[-1][0] == "-"
                else parameter.human_readable_name
            )
            raise click.UsageError(f"{name} has no effect with {option}; leave one of them out.")


def _parse_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    del context
    if value is None:
        return None
    try:
        return Address().read(value)
    except ValueError as error:
        raise click.BadParameter(f"{quoted(value)}: {error}", param=parameter) from None
