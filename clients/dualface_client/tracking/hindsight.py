"""Corrects what was decided about frames that still wait to be composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dualface_client.tracking.links import Relink
from dualface_client.types import Person, SeatAssignment, Side, TrackView


def revised(assignment: SeatAssignment, time_s: float, relinks: Sequence[Relink]) -> SeatAssignment:
    """An earlier frame's assignment as it would have been, had the links been known.

    Holders of the sides stay who they are; only which track shows them changes.

    Args:
        assignment: What was decided about that frame.
        time_s: That frame's presentation time in seconds.
        relinks: What a later frame revealed.
    """
    news = {each.track_id: each.identity for each in relinks if each.since_s <= time_s}
    views = assignment.tracks
    changed = {view.id for view in views if news.get(view.id, view.identity) != view.identity}
    if not changed:
        return assignment
    claimed = {news[key] for key in changed}
    tracks = tuple(_renamed(view, news, changed, claimed) for view in views)
    shown = {view.identity: view for view in tracks if view.identity}
    touched = claimed | {view.identity for view in views if view.id in changed}
    left, right = (
        _person(assignment.of(side), shown)
        if assignment.of(side).identity in touched
        else assignment.of(side)
        for side in (Side.LEFT, Side.RIGHT)
    )
    return replace(assignment, left=left, right=right, tracks=tracks)


def reseated(assignment: SeatAssignment, holders: Mapping[Side, int]) -> SeatAssignment:
    """An earlier frame's assignment with other holders of the sides.

    Args:
        assignment: What was decided of that frame.
        holders: Identity for each side, from a photo that a later frame recognised.
    """
    shown = {view.identity: view for view in assignment.tracks if view.identity}
    known = {person.identity: person for person in (assignment.left, assignment.right)}
    left, right = (
        known.get(holders[side]) or _person(Person(holders[side]), shown) for side in Side
    )
    return replace(assignment, left=left, right=right)


def _renamed(
    view: TrackView, news: dict[int, int], changed: set[int], claimed: set[int]
) -> TrackView:
    """The view under its new name; without a name if somebody else has it now."""
    if view.id in changed:
        return replace(view, identity=news[view.id])
    return replace(view, identity=0) if view.identity in claimed else view


def _person(person: Person, shown: dict[int, TrackView]) -> Person:
    view = shown.get(person.identity)
    if view is None:
        return Person(person.identity)
    return Person(person.identity, view.box_xyxy_px, view.score)
