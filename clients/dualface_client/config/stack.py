"""The stack of layers: where their files are, which one wins, what is refused.

From the lowest to the highest: defaults, `fallback.yaml`, `auto_detected.yaml`, `manual.yaml`,
environment, command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualface_client.config.layers import command_layer, environment_layer, file_layer
from dualface_client.config.rules import broken_rules
from dualface_client.config.table import settings_table
from dualface_client.config.values import Given, Layer, Origin, Problem
from dualface_client.errors import ConfigError
from dualface_client.settings.program import ProgramSettings

#: Layers that are files, the lowest first.
FILE_LAYERS = ("fallback", "auto_detected", "manual")
_NO_LAYERS = (
    f"has none of {', '.join(f'{layer}.yaml' for layer in FILE_LAYERS)}; name a file or another "
    "directory"
)


@dataclass(frozen=True, slots=True)
class ConfigFiles:
    """Where the file layers are.

    Attributes:
        files: Path by layer, the lowest first; only files that exist.
        found_by: Which rule found them, for people.
    """

    files: dict[str, Path]
    found_by: str


@dataclass(frozen=True, slots=True)
class Effective:
    """Every setting with its value and where that comes from.

    Attributes:
        values: By key, all of them.
        notes: What was left out, one line each.
        files: The file layers.
    """

    values: dict[str, Given]
    notes: tuple[str, ...]
    files: ConfigFiles

    def __getitem__(self, key: str) -> Any:
        return self.values[key].value

    def program(self) -> ProgramSettings:
        """The values as the program's own types."""
        return build(self.values)


def find_files(
    chosen: Path | None, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> ConfigFiles:
    """Finds the layers: `--config`, `$DUALFACE_CONFIG`, `./configs`, the user's directory.

    Args:
        chosen: From `--config`: a directory of layers, or one file that stands for `manual.yaml`.
        environ: Environment variables; None reads this process's.
        cwd: Where `configs` is looked for; None for the current directory.

    Raises:
        ConfigError: What was named does not exist.
    """
    env = os.environ if environ is None else environ
    named = env.get("DUALFACE_CONFIG")
    if chosen is not None:
        return _named_files(chosen, "--config")
    if named:
        return _named_files(Path(named).expanduser(), "DUALFACE_CONFIG")
    here = Path("configs") if cwd is None else cwd / "configs"
    for place, rule in ((here, "./configs"), (user_directory(env), "user directory")):
        if files := _layers_in(place):
            return ConfigFiles(files, rule)
    return ConfigFiles({}, "no file found")


def user_directory(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/dualface`, else `~/.config/dualface`."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "dualface"
    home = environ.get("HOME")
    return (Path(home) if home else Path.home()) / ".config" / "dualface"


def effective(
    files: ConfigFiles,
    environ: Mapping[str, str],
    command: Mapping[str, str],
    *,
    config_fallback: bool = False,
    program: Layer | None = None,
) -> Effective:
    """Reads every layer and stacks them.

    Args:
        files: From `find_files`.
        environ: Environment variables.
        command: Text of the options that were given, by key.
        config_fallback: Go on without a broken file, with a note; broken options and variables
            are refused anyway.
        program: What a Python program says, over everything else.

    Raises:
        ConfigError: Something is wrong; the message lists all of it.
    """
    layers = [file_layer(path, layer) for layer, path in files.files.items()]
    layers += [environment_layer(environ), command_layer(command)]
    layers += [program] if program else []
    notes: list[str] = []
    while True:
        values, problems = _merged_and_checked(layers)
        if not problems:
            return Effective(values, tuple(notes), files)
        broken = {p.origin.layer for p in problems} & set(FILE_LAYERS)
        if not config_fallback or len(broken) < len({p.origin.layer for p in problems}):
            raise ConfigError(_message(problems, files=bool(broken)))
        notes += [f"{problem} (this file is left out)" for problem in problems]
        layers = [layer for layer in layers if layer.name not in broken]


def checked(layers: Sequence[Layer]) -> dict[str, Given]:
    """Layers over the defaults, each of them right and all of them together.

    Raises:
        ConfigError: Something is wrong; the message lists all of it.
    """
    values, problems = _merged_and_checked(layers)
    if problems:
        raise ConfigError(_message(problems, files=False))
    return values


def _merged_and_checked(layers: Sequence[Layer]) -> tuple[dict[str, Given], list[Problem]]:
    problems = [problem for layer in layers for problem in layer.problems]
    values = merged([layer for layer in layers if not layer.problems])
    return values, problems or broken_rules(values)


def problems_of(path: Path) -> list[Problem]:
    """What is wrong with a file of settings, on top of only the defaults.

    Args:
        path: The file, or a directory of layers as for `--config`, which are stacked.
    """
    files = _layers_in(path) if path.is_dir() else {"manual": path}
    if not files:
        return [Problem(Origin("manual", str(path)), _NO_LAYERS)]
    return _merged_and_checked([file_layer(file, layer) for layer, file in files.items()])[1]


def merged(layers: Sequence[Layer]) -> dict[str, Given]:
    """Layers over the defaults, the last one on top."""
    values = {key: Given(s.default, Origin("default")) for key, s in settings_table().items()}
    for layer in layers:
        values.update(layer.values)
    return values


def build(values: Mapping[str, Given], onto: ProgramSettings | None = None) -> ProgramSettings:
    """Values as the program's own types.

    Args:
        values: By key.
        onto: What applies where no value is given; None for the defaults.
    """
    program: Any = onto or ProgramSettings()
    for key, given in values.items():
        program = _with(program, settings_table()[key].path, given.value)
    assert isinstance(program, ProgramSettings)  # noqa: S101 - for the type checker
    return program


def _with(root: Any, path: tuple[str, ...], value: object) -> Any:
    if not path:
        return value
    return replace(root, **{path[0]: _with(getattr(root, path[0]), path[1:], value)})


def _named_files(path: Path, option: str) -> ConfigFiles:
    if path.is_file():
        return ConfigFiles({"manual": path}, option)
    if not path.is_dir():
        raise ConfigError(f"{option} {path}: no such file or directory; check the path")
    files = _layers_in(path)
    if not files:
        raise ConfigError(f"{option} {path}: {_NO_LAYERS}")
    return ConfigFiles(files, option)


def _layers_in(directory: Path) -> dict[str, Path]:
    paths = {layer: directory / f"{layer}.yaml" for layer in FILE_LAYERS}
    return {layer: path for layer, path in paths.items() if path.is_file()}


def _message(problems: Sequence[Problem], *, files: bool) -> str:
    head = "the settings are wrong:" if len(problems) > 1 else "a setting is wrong:"
    lines = [head, *(f"  {problem}" for problem in problems)]
    if files:
        lines.append("correct the file, or leave it out with --config-fallback")
    return "\n".join(lines)
