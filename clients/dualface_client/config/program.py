"""Settings for Python programs: read from files and variables, or checked as those are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from dualface_client.config.layers import program_layer
from dualface_client.config.stack import build, checked, effective, find_files
from dualface_client.config.table import settings_table
from dualface_client.config.values import Layer
from dualface_client.errors import ConfigError
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings

#: What a caller may say: a mapping by the names of docs/configuration.md, or the typed values.
AnySettings = ProgramSettings | StreamSettings | Mapping[str, object]


def load_settings(
    settings: Mapping[str, object] | None = None,
    *,
    config: str | PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    config_fallback: bool = False,
) -> ProgramSettings:
    """Settings as `dualface-client run` finds them: `settings` over variables over files.

    Args:
        settings: What this program says, as in a file: `{"output.crf": 18}` or
            `{"output": {"crf": 18}}`. It wins over everything else.
        config: A directory of layers, or one file, as `--config`; None looks where the command
            does: `$DUALFACE_CONFIG`, `./configs`, the user's directory.
        environ: Variables; None for this process's, `{}` for none.
        config_fallback: Leave a broken file out instead of refusing it.

    Raises:
        ConfigError: Something is wrong; the message lists all of it.
    """
    env = os.environ if environ is None else environ
    files = find_files(None if config is None else Path(config), env)
    given = _layer_of({} if settings is None else settings)
    return effective(files, env, {}, config_fallback=config_fallback, program=given).program()


def check_settings(
    settings: AnySettings | None, arguments: Mapping[str, tuple[str, object]] | None = None
) -> ProgramSettings:
    """Settings that a program made, with the values checked as in files; reads no file.

    Args:
        settings: None for the defaults.
        arguments: Single values that win over them: key and value by the argument's name. None
            leaves the key as it is.

    Raises:
        ConfigError: Something is wrong; the message lists all of it.
    """
    given = (arguments or {}).items()
    layers = [
        _layer_of({} if settings is None else settings),
        *(program_layer({key: v}, f"argument {name}") for name, (key, v) in given if v is not None),
    ]
    return build(checked(layers))


def _layer_of(settings: object) -> Layer:
    if isinstance(settings, StreamSettings):
        settings = ProgramSettings(stream=settings)
    if isinstance(settings, ProgramSettings):
        settings = {key: _at(settings, setting.path) for key, setting in settings_table().items()}
    if not isinstance(settings, Mapping):
        raise ConfigError(
            f"settings: {type(settings).__name__} {settings!r:.80}: expected StreamSettings, "
            "ProgramSettings or a mapping such as {'output.crf': 20}"
        )
    return program_layer(settings, "settings")


def _at(program: ProgramSettings, path: tuple[str, ...]) -> object:
    """The value of a field, if everything above it is of the right type."""
    value: Any = program
    usual: Any = ProgramSettings()
    for count, name in enumerate(path, 1):
        value, usual = getattr(value, name), getattr(usual, name)
        if is_dataclass(usual) and not isinstance(value, type(usual)):
            raise ConfigError(
                f"settings: {'.'.join(path[:count])}: {type(value).__name__} {value!r:.80}: "
                f"expected {type(usual).__name__}; a mapping goes in place of all settings"
            )
    return value
