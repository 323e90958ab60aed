"""What a camera may know of the near future while frames wait to be composed.

A critically damped camera lags behind a walking person by `2 / pan_rate` seconds. Aiming it at
where the person is going to be removes the lag, so it starts and stops with the person.
"""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.types import Person, SeatAssignment, Side


def lead_assignment(window: Sequence[SeatAssignment]) -> SeatAssignment:
    """The assignment that the cameras should aim at for the window's first frame.

    Each side looks at its own person's last known place in the window. Nothing beyond a scene cut
    or a change of person counts: the camera must not leave a shot, or a person, early.

    Args:
        window: The frame's assignment and those of the frames after it, in order; at least one.
    """
    now = window[0]
    shot = [now]
    for later in window[1:]:
        if later.scene_cut:
            break
        shot.append(later)
    left, right = (_lead([entry.of(side) for entry in shot]) for side in (Side.LEFT, Side.RIGHT))
    return SeatAssignment(left, right, now.scene_cut, now.reid_ran, now.risk)


def _lead(people: list[Person]) -> Person:
    lead = people[0]
    for person in people[1:]:
        if lead.identity and person.identity != lead.identity:
            break
        if person.box_xyxy_px is not None:
            lead = person
    return lead
