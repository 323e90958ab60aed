"""The one table of settings, made of the fields of `settings`.

A field gives a setting its key in YAML files; its environment variable and its command line option
follow from the key. Files, environment, command line and `docs/configuration.md` are made from it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dualface_client.settings.field import about
from dualface_client.settings.kinds import Kind
from dualface_client.settings.program import ProgramSettings

ENV_PREFIX = "DUALFACE_"
#: The sections of a stream's settings have no section of their own around them.
_UNNAMED = "stream"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: Dotted name in YAML files.
        path: Its place in `ProgramSettings`.
        kind: What it may hold.
        default: Its value without any layer.
        flag: Command line option.
        common: Whether `--help` lists it.
        per_stream: Whether one stream may have its own value.
        description: What it does.
    """

    key: str
    path: tuple[str, ...]
    kind: Kind
    default: Any
    flag: str
    common: bool
    per_stream: bool
    description: str

    @property
    def env(self) -> str:
        """Environment variable."""
        return ENV_PREFIX + self.key.upper().replace(".", "_")


@cache
def settings_table() -> Mapping[str, Setting]:
    """Every setting by its key, in the order of files and pages."""
    return {setting.key: setting for setting in _settings(ProgramSettings(), ())}


def _settings(section: Any, path: tuple[str, ...]) -> Iterator[Setting]:
    for field in dataclasses.fields(section):
        below, value = (*path, field.name), getattr(section, field.name)
        said = about(field)
        if said is None:
            yield from _settings(value, below)
            continue
        key = said.key or ".".join(part for part in below if part != _UNNAMED)
        flag = said.flag or "--" + re.sub(r"[._]", "-", key)
        yield Setting(key, below, said.kind, value, flag, said.common, said.per_stream, said.text)
