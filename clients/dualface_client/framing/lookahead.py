"""What a camera may know of the near future while frames wait to be composed.

A critically damped camera lags behind a walking person by `2 / pan_rate` seconds. Aiming it at
where the person is going to be removes the lag, so it starts and stops with the person.
"""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.types import Person, SeatAssignment, Side


def lead_assignment(window: Sequence[SeatAssignment], near: int | None = None) -> SeatAssignment:
    """The assignment that the cameras should aim at for the window's first frame.

    Each side looks at its own person's last known place in the near part of the window; somebody
    who is not seen there at the first one after it. Nothing beyond a scene cut or a change of
    person counts: the camera must not leave a shot, or a person, early.

    Args:
        window: The frame's assignment and those of the frames after it, in order; at least one.
        near: How many of them are near; all if not given.
    """
    now = window[0]
    shot = [now]
    for later in window[1:]:
        if later.scene_cut:
            break
        shot.append(later)
    near = len(shot) if near is None else min(near, len(shot))
    left, right = (_lead([each.of(side) for each in shot], near) for side in Side)
    return SeatAssignment(left, right, now.scene_cut, now.reid_ran, now.risk)


def _lead(people: Sequence[Person], near: int) -> Person:
    lead = people[0]
    for index, person in enumerate(people):
        if lead.identity and person.identity != lead.identity:
            break
        if index >= near and lead.box_xyxy_px is not None:
            break
        if person.box_xyxy_px is not None:
            lead = person
    return lead
