"""Which two people of a look get the sides, and which side each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dualface_client.cast.people import CastPerson, Found, Why
from dualface_client.settings.tracking import IdentitySettings, SideSettings, TrackingSettings
from dualface_client.tracking.gallery import Member
from dualface_client.tracking.pins import Pin
from dualface_client.tracking.places import lead_px
from dualface_client.types import Side

#: How far apart people must be who go by their halves, share of the picture's width.
_APART = 0.15


def seat(
    found: Found, settings: TrackingSettings, pins: Sequence[Pin] = ()
) -> dict[Side, CastPerson]:
    """Chooses one or two people and seats them.

    Whoever a pin means gets the pinned side, whatever the rank. The others are the first of the
    ranking, ordered by place in the moments that show both; people who are never seen together go
    by the halves in which they are, or, unless these are clearly different, by who comes first.

    Args:
        found: The people of the video.
        settings: Thresholds and rules of the sides.
        pins: Faces that belong to a side.

    Returns:
        Nobody where the look found nobody; never more sides than `Side` has.
    """
    seats = _pinned(found.people, settings.identity, pins)
    if len(seats) < 2 and all(person.why_not is not Why.NONE for person in found.people):
        return {}  # too little was seen to keep anybody else from a side
    taken = {person.number for person in seats.values()}
    free = [person for person in found.people if person.why_not is Why.NONE]
    free = [person for person in free if person.number not in taken]
    open_sides = [side for side in Side if side not in seats]
    # A pin that means nobody here keeps its side for whoever it means.
    open_sides = [side for side in open_sides if side not in {pin.side for pin in pins}]
    if len(open_sides) == 2 and len(free) > 1:
        return _by_place(free[0], free[1], found, settings.sides)
    if len(open_sides) == 2 and free:
        return {_half(free[0], settings.sides): free[0]}
    if open_sides and free:
        seats[open_sides[0]] = free[0]
    return seats


def members(
    seats: Mapping[Side, CastPerson], found: Found, settings: IdentitySettings
) -> list[Member]:
    """The seated people as the tracker knows them, the one who matters most first."""
    return [
        _member(side, person, found.seen.model_version, settings)
        for side, person in sorted(seats.items(), key=lambda pair: pair[1].number)
    ]


def pins_of_numbers(
    found: Found, numbers: Mapping[Side, int]
) -> tuple[tuple[Pin, ...], tuple[str, ...]]:
    """Pins that name people by their number.

    Args:
        found: The people of the video.
        numbers: Number of a person for each pinned side.

    Returns:
        The pins, and a note on each number that nobody has.
    """
    people = {person.number: person for person in found.people}
    pins = tuple(
        Pin(side, f"cast:{n}", people[n].sightings[0].embedding, found.seen.model_version)
        for side, n in numbers.items()
        if n in people
    )
    notes = tuple(
        f"--pin {side.value}=cast:{n} was ignored: {_only(len(people))} found (list them with "
        "`dualface-client cast`), so positions decide the sides"
        for side, n in numbers.items()
        if n not in people
    )
    return pins, notes


def _only(count: int) -> str:
    if count == 0:
        return "nobody was"
    return "only 1 person was" if count == 1 else f"only {count} people were"


def _pinned(
    people: Sequence[CastPerson], settings: IdentitySettings, pins: Sequence[Pin]
) -> dict[Side, CastPerson]:
    seats: dict[Side, CastPerson] = {}
    for pin in pins:
        cosines = [
            (max(float(each.embedding @ pin.vector) for each in person.sightings), -index)
            for index, person in enumerate(people)
            if person not in seats.values()
        ]
        cosine, index = max(cosines, default=(-1.0, 0))
        if cosine >= settings.match_cosine:
            seats[pin.side] = people[-index]
    return seats


def _by_place(
    one: CastPerson, other: CastPerson, found: Found, sides: SideSettings
) -> dict[Side, CastPerson]:
    comes_first = _comes_first(one, other, found, sides)
    first, second = (Side.RIGHT, Side.LEFT) if sides.swap else (Side.LEFT, Side.RIGHT)
    return {first: one, second: other} if comes_first else {first: other, second: one}


def _comes_first(one: CastPerson, other: CastPerson, found: Found, sides: SideSettings) -> bool:
    places = {each.moment: each.box for each in other.sightings}
    leads = []
    for each in one.sightings:
        box = places.get(each.moment)
        if box is not None:
            dx_px = (box[0] + box[2] - each.box[0] - each.box[2]) / 2
            dy_px = (box[1] + box[3] - each.box[1] - each.box[3]) / 2
            leads.append(lead_px(dx_px, dy_px, sides.above_ratio))
    if leads:
        return float(np.sum(np.sign(leads))) >= 0
    x, other_x = one.place_xy[0], other.place_xy[0]
    if (x < 0.5) != (other_x < 0.5) and abs(x - other_x) >= _APART:
        return x < 0.5
    return min(e.moment for e in one.sightings) <= min(e.moment for e in other.sightings)


def _half(person: CastPerson, sides: SideSettings) -> Side:
    side = Side.LEFT if person.place_xy[0] < 0.5 else Side.RIGHT
    return side.other if sides.swap else side


def _member(
    side: Side, person: CastPerson, model_version: str, settings: IdentitySettings
) -> Member:
    """The best face, then those that differ most from the ones before, as far as they are good."""
    good = [each for each in person.sightings if each.quality >= settings.min_quality]
    chosen = good[:1]
    while len(chosen) < settings.gallery_size:
        cosines = [max(float(e.embedding @ c.embedding) for c in chosen) for e in good]
        cosine, index = min(zip(cosines, range(len(good)), strict=True))
        if cosine >= settings.duplicate_cosine:
            break
        chosen.append(good[index])
    vectors = np.array([each.embedding for each in chosen], np.float32)
    return Member(side, vectors, tuple(each.quality for each in chosen), model_version)
