"""Every setting of the table as a command line option."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dualface_client.config.stack import Effective, effective, find_files
from dualface_client.config.table import Setting, settings_table
from dualface_client.config.values import quoted
from dualface_client.settings.kinds import Choice, Or, Switch

Command = TypeVar("Command", bound=Callable[..., Any])

_PREFIX = "setting_"
_DAEMON = "daemon."
_OPTIONS_SHOWN = 6


class SettingType(click.ParamType[str]):
    """The text of one setting, checked as in files and variables.

    Args:
        setting: Which.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.name = metavar_of(setting)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the text as it came.

        Raises:
            click.BadParameter: It is not accepted.
        """
        text = str(value)
        try:
            self._setting.kind.read(text)
        except ValueError as error:
            end = "" if str(error).endswith("?") else "."
            self.fail(f"{quoted(text)}: {error}{end}", param, ctx)
        return text


def config_options(command: Command) -> Command:
    """`--config` and `--config-fallback`."""
    for option in (
        click.option(
            "--config-fallback",
            is_flag=True,
            help="Leave out a broken configuration file with a note, and go on.",
        ),
        click.option(
            "--config",
            "config_path",
            type=click.Path(path_type=Path),
            help="Directory of manual.yaml, auto_detected.yaml and fallback.yaml, or one file.",
        ),
    ):
        command = option(command)
    return command


def setting_options(*prefixes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds an option for each setting; the command gets the given ones as `given`, by key.

    Uncommon ones are only in `--help-all`.

    Args:
        prefixes: Only settings whose keys begin like this; none for all but the daemon's own.
    """
    settings = [
        s
        for s in settings_table().values()
        if (s.key.startswith(prefixes) if prefixes else not s.key.startswith(_DAEMON))
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_given(*args: Any, **kwargs: Any) -> Any:
            taken = {setting.key: kwargs.pop(parameter_of(setting.key)) for setting in settings}
            given = {key: _text(value) for key, value in taken.items() if value is not None}
            return command(*args, given=given, **kwargs)

        decorated: Callable[..., Any] = with_given
        for setting in reversed(settings):
            decorated = _option(setting)(decorated)
        return _help_all(decorated)

    return decorate


def _help_all(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--help-all",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_all,
        help="Show this message with every setting and exit.",
    )(command)


def gpus_option(text: str) -> Callable[[Command], Command]:
    """`--gpus` of a command that reads no settings: a tuple of names, None if it is not given.

    Args:
        text: Its help.
    """
    gpus = settings_table()["run.gpus"]

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        return None if value is None else gpus.kind.read(value)

    kind, metavar = SettingType(gpus), metavar_of(gpus)
    return click.option(gpus.flag, type=kind, metavar=metavar, callback=read, help=text)


def read_settings(config: Path | None, given: dict[str, str], *, fallback: bool) -> Effective:
    """The effective settings of a command; prints their notes.

    Raises:
        ConfigError: A layer is wrong.
    """
    found = effective(find_files(config), os.environ, given, config_fallback=fallback)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    return found


def _option(setting: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = setting.kind.show(setting.default)
    name = parameter_of(setting.key)
    text = f"{setting.description} [default: {shown}]"
    if isinstance(setting.kind, Switch):
        negative = setting.flag.replace("--", "--no-", 1)
        return click.option(
            f"{setting.flag}/{negative}", name, default=None, help=text, hidden=not setting.common
        )
    return click.option(
        setting.flag,
        name,
        type=SettingType(setting),
        metavar=metavar_of(setting),
        help=text,
        hidden=not setting.common,
    )


def parameter_of(key: str) -> str:
    """Name of the click parameter of a setting."""
    return _PREFIX + key.replace(".", "__")


def metavar_of(setting: Setting) -> str:
    """What stands for the value in help texts."""
    kind = setting.kind.kind if isinstance(setting.kind, Or) else setting.kind
    if isinstance(kind, Choice):
        return "|".join(kind.options) if len(kind.options) < _OPTIONS_SHOWN else "NAME"
    words = {
        **{"Integer": "N", "Real": "X", "Size": "WxH", "Color": "RRGGBB"},
        **{"Address": "HOST:PORT", "Host": "HOST", "ExistingDirectory": "DIR"},
        **{"Words": "A,B", "VariableName": "NAME", "Gpus": "all|0,2"},
    }
    return words.get(type(kind).__name__, "FILE")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show_all(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if not value or context.resilient_parsing:
        return
    for option in context.command.params:
        if isinstance(option, click.Option):
            option.hidden = False
    click.echo(context.get_help())
    context.exit()
