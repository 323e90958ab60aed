"""A setting is a dataclass field that says what it holds, what it is called and what it does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dualface_client.settings.kinds import Kind


@dataclass(frozen=True, slots=True)
class About:
    """What a field says about its setting.

    Attributes:
        kind: What it may hold.
        text: What it does, for help and reference.
        flag: Its command line option, if that does not follow from the key.
        common: Whether `--help` lists it; `--help-all` lists every one.
        per_stream: Whether one stream may have its own value.
        key: Its dotted name in YAML files, if that does not follow from the field.
    """

    kind: Kind
    text: str
    flag: str = ""
    common: bool = False
    per_stream: bool = True
    key: str = ""


def setting(
    default: object,
    kind: Kind,
    text: str,
    *,
    flag: str = "",
    common: bool = False,
    per_stream: bool = True,
    key: str = "",
) -> Any:
    """A field of a settings dataclass; the arguments are those of `About`."""
    about = About(kind, text, flag, common, per_stream, key)
    return dataclasses.field(default=default, metadata={"about": about})


def about(field: dataclasses.Field[Any]) -> About | None:
    """What a field says about its setting; None if it holds a section of settings."""
    return field.metadata.get("about")
