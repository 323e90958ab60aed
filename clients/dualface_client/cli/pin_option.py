"""`--pin SIDE=PERSON`, which sets `tracking.sides.pin_left` and `pin_right`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from dualface_client.settings.kinds import PhotoOrNumber

_KEY = "tracking.sides.pin_{}"


def pin_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option; its values go into the command's `given`, above the settings' own."""

    @functools.wraps(command)
    def with_pins(*args: Any, given: dict[str, str], pins: tuple[str, ...], **kwargs: Any) -> Any:
        return command(*args, given={**given, **_as_settings(pins)}, **kwargs)

    return click.option(
        "--pin",
        "pins",
        multiple=True,
        metavar="SIDE=PERSON",
        help="Give this side to the person in a photo (JPEG or PNG with one face), as in "
        "left=ann.jpg, or to one that `dualface-client cast` shows, as in left=cast:2; may be "
        "given for both sides.",
    )(with_pins)


def _as_settings(pins: tuple[str, ...]) -> dict[str, str]:
    """Texts of settings by key.

    Raises:
        click.BadParameter: A side does not exist or is named twice, or a photo is missing.
    """
    from dualface_client.types import Side  # NumPy behind it: `--help` needs none

    found: dict[str, str] = {}
    names = [side.value for side in Side]
    for text in pins:
        side, equals, photo = text.partition("=")
        key = _KEY.format(side)
        if side not in names or not equals or not photo:
            raise _refusal(f"{text}: expected left=PHOTO or right=PHOTO, or left=cast:2.")
        if key in found:
            raise _refusal(f"{text}: the {side} side is pinned already, to {found[key]}.")
        try:
            PhotoOrNumber().read(photo)
        except ValueError as error:
            raise _refusal(f"{text}: {error}.") from error
        found[key] = photo
    return found


def _refusal(text: str) -> click.BadParameter:
    return click.BadParameter(text, param_hint="'--pin'")
