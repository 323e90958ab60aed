"""`dualface-client cast`: who a video is about, as a run would find it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualface_client.cli.pin_option import pin_option
from dualface_client.cli.setting_options import config_options, read_settings, setting_options

if TYPE_CHECKING:
    from dualface_client.batch.cast import CastReport
    from dualface_client.cast.people import CastPerson

#: Settings that decide what is found.
_KEYS = (
    *("server.", "run.device", "input.video_track", "tracking.", "output.overwrite"),
    *("cast.frames", "cast.least", "cast.most"),
)


@click.command(
    epilog="""
\b
Examples:
  dualface-client cast talk.mp4
  dualface-client cast talk.mp4 --pictures faces/
  dualface-client cast talk.mp4 --json | jq '.people[0]'
  dualface-client run talk.mp4 -o tiles.mp4 --pin left=cast:2
  dualface-client run talk.mp4 -o tiles.mp4 --pin left=faces/person-2.jpg
"""
)
@click.argument("video", type=click.Path(path_type=Path), metavar="VIDEO")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a picture of each person there: person-1.jpg and so on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_options
@setting_options(*_KEYS)
@pin_option
def cast(
    video: Path,
    pictures: Path | None,
    as_json: bool,
    config_path: Path | None,
    config_fallback: bool,
    given: dict[str, str],
) -> int:
    """Print who a video is about: the people whom `run` finds before the first frame.

    One line per person: number, tile, share of the video on screen, height of the face, place,
    whether the person speaks, and how sure it is that this is one person and no other (mean cosine
    of the faces with one another, and with those of the most similar other person). `run --pin`
    takes the number or the picture.

    Exit codes: 0 done, 1 the video cannot be read or a picture not written, 2 the command or the
    machine's set-up is wrong, 3 the inference server failed, 130 ended by Ctrl-C, 143 by SIGTERM.
    """
    from rich.console import Console

    from dualface_client.batch.cast import find_cast
    from dualface_client.cli.downloads import download_bar
    from dualface_client.cli.signals import stop_on_signal
    from dualface_client.errors import StoppedError
    from dualface_client.triton.reaper import unlink_own_shared_memory

    program = read_settings(config_path, given, fallback=config_fallback).program()
    say = partial(click.echo, err=True)
    with stop_on_signal(lambda _: say("stopping"), unlink_own_shared_memory) as stop:
        try:
            report = find_cast(
                video, program, pictures, stop, say, partial(download_bar, Console(stderr=True))
            )
        except StoppedError:
            if stop.exit_code:
                return stop.exit_code
            raise
    for note in report.notes:
        say(f"note: {note}")
    click.echo(json.dumps(_plain(video, report), indent=2) if as_json else text_of(video, report))
    return 0


def _plain(video: Path, report: CastReport) -> dict[str, Any]:
    seen = report.found.seen
    return {
        "video": str(video),
        "duration_s": round(seen.duration_s, 3),
        "pictures_looked_at": len(seen.times_s),
        "people": [_plain_person(person, report) for person in report.found.people],
    }


def _plain_person(person: CastPerson, report: CastReport) -> dict[str, Any]:
    side, picture = report.sides.get(person.number), report.pictures.get(person.number)
    return {
        "number": person.number,
        "side": side.value if side else None,
        "why_not": person.why_not.value or None,
        "share": round(person.share, 4),
        "height": round(person.height, 4),
        "x": round(person.place_xy[0], 4),
        "y": round(person.place_xy[1], 4),
        "speaking": round(person.speaking, 4),
        "sure": person.is_sure,
        "likeness": round(person.likeness, 4),
        "nearest": round(person.nearest, 4),
        "first_s": round(min(report.found.seen.times_s[e.moment] for e in person.sightings), 3),
        "picture": str(picture) if picture else None,
    }


def text_of(video: Path, report: CastReport) -> str:
    """What is printed without `--json`: how many people, then a line for each."""
    from dualface_client.errors import printable

    found = report.found
    count, looked = len(found.people), len(found.seen.times_s)
    people = "1 person" if count == 1 else f"{count} people"
    pictures = "1 picture" if looked == 1 else f"{looked} pictures"
    lines = [f"{printable(str(video))}: {people} in {pictures}"]
    return "\n".join([*lines, *(_line(person, report) for person in found.people)])


def _line(person: CastPerson, report: CastReport) -> str:
    side, picture = report.sides.get(person.number), report.pictures.get(person.number)
    seat = side.value if side else "-"
    parts = [
        f"  {person.number}  {seat:5}  on screen {person.share:4.0%}",
        f"face {person.height:3.0%} of the height, {_place(person)}",
        *_voice(person),
        f"{'sure' if person.is_sure else 'unsure'} ({_cosines(person)})",
    ]
    if person.why_not.value:
        parts.append(f"no tile: {person.why_not.value}")
    if picture is not None:
        parts.append(str(picture))
    return ", ".join(parts)


#: Change of the mouth from which the text says that somebody speaks.
_SPEAKS = 0.1


def _voice(person: CastPerson) -> list[str]:
    """Whether somebody speaks; nothing of a face seen once, whose mouth cannot be compared."""
    if len(person.sightings) < 2:
        return []
    return ["speaks" if person.speaking > _SPEAKS else "silent"]


def _cosines(person: CastPerson) -> str:
    nearest = "nobody else" if person.nearest <= -1 else f"others {person.nearest:.2f}"
    return f"{person.likeness:.2f}, {nearest}"


def _place(person: CastPerson) -> str:
    columns, rows = ("left", "middle", "right"), ("top", "middle", "bottom")
    x, y = (min(int(3 * share), 2) for share in person.place_xy)
    return columns[x] if rows[y] == "middle" else f"{rows[y]} {columns[x]}"
