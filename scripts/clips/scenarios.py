"""Where the two people are at each moment: pure functions of time, drawn from a seed.

Positions are fractions of the picture, so that every size works; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np

#: Face height as a share of the picture height where a scenario does not vary it.
USUAL_HEIGHT = 0.30
#: Where the desk's edge usually is, see `Scene`.
DESK_EDGE = 0.86


@dataclass(frozen=True, slots=True)
class Pose:
    """One person at one moment.

    Attributes:
        x: Centre of the head's usual place, share of the width; outside 0..1 is off the picture.
        height: Face height, share of the picture height.
        depth: Smaller is nearer to the camera and hides what is behind.
        light: Brightness factor of this person.
        turn: How far the head is turned away, 0 to 1: the picture of it becomes narrower.
    """

    x: float
    height: float = USUAL_HEIGHT
    depth: float = 1.0
    light: float = 1.0
    turn: float = 0.0

    @property
    def is_unclear(self) -> bool:
        """Whether nobody could say from the face alone who it is."""
        return self.light < 0.4 and self.turn > 0.3


#: Out of the picture.
AWAY = Pose(-2.0)


@dataclass(frozen=True, slots=True)
class Extra:
    """Somebody who has no tile: a photo, cut out or on the wall.

    Attributes:
        photo: File name in the clips directory.
        pose: Where.
        poster_y: Centre of the face of a whole photo on the wall, share of the picture's height;
            None for a person, cut out and sitting like the others.
    """

    photo: str
    pose: Pose
    poster_y: float | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment.

    Attributes:
        poses: Of person 1 and person 2.
        shot: Counts scene cuts; each shot has its own background.
        occluder_x: Centre of the object in front, share of the width; None where there is none.
        passer_by: A third person's; None where there is none.
        extras: Everybody else who has no tile; not together with a passer-by.
        desk_edge: Everybody sits behind a desk whose edge is at this share of the picture height:
            it hides where the source clips end.
    """

    poses: tuple[Pose, Pose]
    shot: int = 0
    occluder_x: float | None = None
    passer_by: Pose | None = None
    extras: tuple[Extra, ...] = ()
    desk_edge: float = DESK_EDGE


Motion = Callable[[float], Scene]


def _glide(t: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, without a jerk between."""
    u = min(max((t - start) / max(end - start, 1e-6), 0.0), 1.0)
    return u * u * (3 - 2 * u)


@dataclass(frozen=True, slots=True)
class Stage:
    """What every scenario starts from.

    Attributes:
        duration_s: Length of the clip.
        first: Who starts on the left: 0 is person 1, 1 is person 2.
        left_x: Place of the person on the left.
        right_x: Place of the person on the right.
        sway_phase: Phase of the small natural sway, radians.
    """

    duration_s: float
    first: int
    left_x: float
    right_x: float
    sway_phase: float

    @classmethod
    def draw(cls, seed: int, duration_s: float) -> Stage:
        """The stage of a seed: who is left and where exactly they are."""
        rng = np.random.default_rng(seed)
        first = int(rng.integers(2))
        left, right = 0.27 + rng.uniform(-0.02, 0.02), 0.73 + rng.uniform(-0.02, 0.02)
        return cls(duration_s, first, left, right, float(rng.uniform(0, 2 * pi)))

    def scene(
        self, left: Pose, right: Pose, t: float, shot: int = 0, occluder_x: float | None = None
    ) -> Scene:
        """Orders who started left and who started right into person 1 and 2, with sway."""
        swayed = tuple(
            Pose(
                pose.x + 0.006 * sin(1.1 * t + self.sway_phase + 2 * side), pose.height, pose.depth
            )
            for side, pose in enumerate((left, right))
        )
        poses = (swayed[self.first], swayed[1 - self.first])
        return Scene(poses, shot, occluder_x)


def side_by_side(stage: Stage) -> Motion:
    """Both stay where they are."""
    return lambda t: stage.scene(Pose(stage.left_x), Pose(stage.right_x, depth=2), t)


def cross_once(stage: Stage) -> Motion:
    """They change places in the middle of the clip; one passes in front of the other."""
    span, length = stage.right_x - stage.left_x, stage.duration_s

    def at(t: float) -> Scene:
        way = span * _glide(t, 0.3 * length, 0.7 * length)
        return stage.scene(Pose(stage.left_x + way), Pose(stage.right_x - way, depth=2), t)

    return at


def cross_often(stage: Stage, period_s: float = 5.0) -> Motion:
    """They circle around each other: a crossing every half period, in front by turns."""
    middle, radius = (stage.left_x + stage.right_x) / 2, (stage.right_x - stage.left_x) / 2

    def at(t: float) -> Scene:
        # Half a second at rest, so that the start is unambiguous.
        angle = 2 * pi * max(t - 0.5, 0.0) / period_s
        near = sin(angle)
        left = Pose(middle - radius * cos(angle), USUAL_HEIGHT * (1 + 0.1 * near), 1 - near)
        right = Pose(middle + radius * cos(angle), USUAL_HEIGHT * (1 - 0.1 * near), 1 + near)
        return stage.scene(left, right, t)

    return at


def near_miss(stage: Stage) -> Motion:
    """They come close enough to touch and go back to their own sides, twice."""
    return _meet_twice(stage, closest=0.09)


def meet_and_part(stage: Stage) -> Motion:
    """They put their heads together, one nearly behind the other, and part again, twice.

    What constant velocity expects is a crossing, so motion alone tends to swap them.
    """
    return _meet_twice(stage, closest=0.012)


def _meet_twice(stage: Stage, closest: float) -> Motion:
    middle, radius = (stage.left_x + stage.right_x) / 2, (stage.right_x - stage.left_x) / 2

    def at(t: float) -> Scene:
        share = 0.5 - 0.5 * cos(4 * pi * t / stage.duration_s)
        apart = radius - (radius - closest) * share
        return stage.scene(Pose(middle - apart), Pose(middle + apart, depth=2), t)

    return at


def hide_behind(stage: Stage) -> Motion:
    """The one on the right stays behind the other for a second and comes out on either side.

    Longer than a tracker waits for a face, and nothing in the motion tells which side it will be.
    """
    span, length = stage.right_x - stage.left_x, stage.duration_s
    middle = (stage.left_x + stage.right_x) / 2
    returns = stage.sway_phase < pi
    end = 0.3 * span if returns else -0.3 * span

    def at(t: float) -> Scene:
        came, left = _glide(t, 0.1 * length, 0.35 * length), _glide(t, 0.6 * length, 0.85 * length)
        front = stage.left_x + (middle - stage.left_x) * came - 0.7 * end * left
        back = stage.right_x + (middle - stage.right_x) * came + end * left
        return stage.scene(Pose(front), Pose(back, 0.9 * USUAL_HEIGHT, depth=2), t)

    return at


def huddle(stage: Stage) -> Motion:
    """They sit cheek by cheek for the whole clip: face boxes overlap a little all the time."""
    middle, apart = (stage.left_x + stage.right_x) / 2, 0.049
    return lambda t: stage.scene(Pose(middle - apart), Pose(middle + apart, depth=2), t)


def leave_and_return(stage: Stage) -> Motion:
    """The one on the right walks out of the picture and comes back on the same side."""
    length = stage.duration_s

    def at(t: float) -> Scene:
        away = _glide(t, 0.2 * length, 0.4 * length) - _glide(t, 0.6 * length, 0.8 * length)
        right = Pose(stage.right_x + 0.55 * away, depth=2)
        return stage.scene(Pose(stage.left_x), right, t)

    return at


def leave_and_return_other_side(stage: Stage) -> Motion:
    """The one on the right leaves; the other moves over; the first comes back on the left."""
    length, span = stage.duration_s, stage.right_x - stage.left_x

    def at(t: float) -> Scene:
        moved = _glide(t, 0.4 * length, 0.6 * length)
        left = Pose(stage.left_x + span * moved)
        if t < 0.5 * length:
            x = stage.right_x + 0.55 * _glide(t, 0.2 * length, 0.4 * length)
        else:
            x = stage.left_x - 0.55 * (1 - _glide(t, 0.6 * length, 0.8 * length))
        return stage.scene(left, Pose(x, depth=2), t)

    return at


def occlusion(stage: Stage) -> Motion:
    """A tall object passes in front of both, from left to right."""

    def at(t: float) -> Scene:
        way = (t / stage.duration_s - 0.1) / 0.8
        occluder_x = -0.15 + 1.3 * way
        return stage.scene(
            Pose(stage.left_x), Pose(stage.right_x, depth=2), t, occluder_x=occluder_x
        )

    return at


def scene_cut(stage: Stage) -> Motion:
    """Three shots: the start, places swapped before another background, the start's places."""

    def at(t: float) -> Scene:
        shot = min(int(3 * t / stage.duration_s), 2)
        left_x, right_x = stage.left_x, stage.right_x
        if shot == 1:
            left_x, right_x = right_x, left_x
        height = USUAL_HEIGHT * (1.0, 0.85, 1.15)[shot]
        return stage.scene(Pose(left_x, height), Pose(right_x, height, depth=2), t, shot)

    return at


def sizes(stage: Stage) -> Motion:
    """One large and near, one small and far; then the camera favours the other."""
    length = stage.duration_s

    def at(t: float) -> Scene:
        share = _glide(t, 0.3 * length, 0.8 * length)
        left = Pose(stage.left_x, 0.40 - 0.24 * share)
        right = Pose(stage.right_x, 0.16 + 0.24 * share, depth=2)
        return stage.scene(left, right, t)

    return at


def walk_past(t: float, start: float, end: float) -> Pose:
    """Through the picture from right to left, behind everybody."""
    return Pose(1.12 - 1.24 * (t - start) / (end - start), 0.8 * USUAL_HEIGHT, depth=3)


def passer_by(stage: Stage) -> Motion:
    """A third person walks past behind the two who sit."""
    length = stage.duration_s

    def at(t: float) -> Scene:
        scene = stage.scene(Pose(stage.left_x), Pose(stage.right_x, depth=2), t)
        return replace(scene, passer_by=walk_past(t, 0.2 * length, 0.8 * length))

    return at


def passer_by_while_away(stage: Stage) -> Motion:
    """The one on the right is out of the picture while a third person walks past."""
    length = stage.duration_s
    leaves_and_returns = leave_and_return(stage)

    def at(t: float) -> Scene:
        walk = walk_past(t, 0.3 * length, 0.75 * length)
        return replace(leaves_and_returns(t), passer_by=walk)

    return at


#: Every scenario by its name on the command line.
SCENARIOS: dict[str, Callable[[Stage], Motion]] = {
    build.__name__: build
    for build in (
        side_by_side,
        cross_once,
        cross_often,
        near_miss,
        meet_and_part,
        hide_behind,
        huddle,
        leave_and_return,
        leave_and_return_other_side,
        occlusion,
        scene_cut,
        sizes,
        passer_by,
        passer_by_while_away,
    )
}
