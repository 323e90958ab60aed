"""Which clips the comparison runs on: kinds of scene, seeds, and who tunes and who reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from scripts.make_clips import ClipPlan

FULL_HD = (1920, 1080)
HD = (1280, 720)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of scene.

    Attributes:
        name: Unique; scenario and what is special.
        group: `crossing` (faces overlap), `calm` (nothing that motion could get wrong), `touching`
            (face boxes overlap for the whole clip) or `other`.
        scenario: Key of `scripts.clips.scenarios.SCENARIOS`.
        seconds: Length.
        plan: Further arguments of `ClipPlan`.
    """

    name: str
    group: str
    scenario: str
    seconds: float = 8.0
    plan: dict[str, Any] = field(default_factory=dict)

    def clip(self, seed: int) -> ClipPlan:
        """The plan of one clip."""
        return ClipPlan(self.scenario, self.seconds, seed, **{"size_wh": HD, **self.plan})


KINDS: tuple[Kind, ...] = (
    Kind("side_by_side", "calm", "side_by_side", plan={"size_wh": FULL_HD}),
    Kind("cross_once", "crossing", "cross_once"),
    Kind("cross_often", "crossing", "cross_often"),
    Kind("meet_and_part", "crossing", "meet_and_part"),
    Kind("leave_and_return_other_side", "other", "leave_and_return_other_side"),
    Kind("scene_cut", "other", "scene_cut"),
    Kind("huddle", "touching", "huddle"),
    Kind("occlusion", "other", "occlusion"),
    Kind("near_miss", "other", "near_miss"),
    Kind("leave_and_return", "other", "leave_and_return"),
    Kind("sizes", "calm", "sizes"),
    Kind("cross_often, blur", "crossing", "cross_often", plan={"blur_px": 2.0}),
    Kind("cross_often, low light", "crossing", "cross_often", plan={"gain": 0.25}),
    Kind("cross_often, low bit rate", "crossing", "cross_often", plan={"crf": 40}),
    Kind("cross_once, 10 fps", "crossing", "cross_once", plan={"fps": Fraction(10)}),
    Kind("meet_and_part, 10 fps", "crossing", "meet_and_part", plan={"fps": Fraction(10)}),
    Kind("cross_once, 60 fps", "crossing", "cross_once", 5.0, {"fps": Fraction(60)}),
    Kind("side_by_side, low light", "calm", "side_by_side", plan={"gain": 0.25}),
    Kind("side_by_side, 60 fps", "calm", "side_by_side", 5.0, {"fps": Fraction(60)}),
    Kind("hide_behind", "crossing", "hide_behind"),
    Kind("passer_by", "other", "passer_by"),
    Kind("passer_by_while_away", "other", "passer_by_while_away"),
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of the set.

    Attributes:
        kind: What it shows.
        seed: Even seeds tune, odd seeds report.
    """

    kind: Kind
    seed: int

    @property
    def name(self) -> str:
        """Unique within the set, fit for a file name."""
        return f"{self.kind.name.replace(', ', '-').replace(' ', '_')}-{self.seed}"

    @property
    def reports(self) -> bool:
        """Whether its figures are reported; the others were looked at while tuning."""
        return self.seed % 2 == 1


def clips(seeds: Iterable[int], kinds: Iterable[Kind] = KINDS) -> Iterator[Clip]:
    """Every kind for every seed, seed by seed."""
    kinds = tuple(kinds)
    for seed in seeds:
        for kind in kinds:
            yield Clip(kind, seed)
