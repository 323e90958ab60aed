"""Where the two people are at each moment: pure functions of time, drawn from a seed.

Positions are fractions of the picture, so that every size works; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

#: Face height as a share of the picture height where a scenario does not vary it.
USUAL_HEIGHT = 0.30


@dataclass(frozen=True, slots=True)
class Pose:
    """One person at one moment.

    Attributes:
        x: Centre of the head's usual place, share of the width; outside 0..1 is off the picture.
        height: Face height, share of the picture height.
        depth: Smaller is nearer to the camera and hides what is behind.
    """

    x: float
    height: float = USUAL_HEIGHT
    depth: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment.

    Attributes:
        poses: Of person 1 and person 2.
        shot: Counts scene cuts; each shot has its own background.
        occluder_x: Centre of the object in front, share of the width; None where there is none.
    """

    poses: tuple[Pose, Pose]
    shot: int = 0
    occluder_x: float | None = None


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
    middle, radius = (stage.left_x + stage.right_x) / 2, (stage.right_x - stage.left_x) / 2
    closest = 0.09

    def at(t: float) -> Scene:
        share = 0.5 - 0.5 * cos(4 * pi * t / stage.duration_s)
        apart = radius - (radius - closest) * share
        return stage.scene(Pose(middle - apart), Pose(middle + apart, depth=2), t)

    return at


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


#: Every scenario by its name on the command line.
SCENARIOS: dict[str, Callable[[Stage], Motion]] = {
    build.__name__: build
    for build in (
        side_by_side,
        cross_once,
        cross_often,
        near_miss,
        leave_and_return,
        leave_and_return_other_side,
        occlusion,
        scene_cut,
        sizes,
    )
}
