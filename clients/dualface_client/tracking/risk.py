"""Swap risk: could the tracker have mixed up two faces, judging without ReID?

Each part is 0 to 1; a pair's value is `1 - product(1 - weight * part)`, so that several weak signs
add up and one strong sign is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import hypot, log

from dualface_client.settings.tracking import RiskSettings
from dualface_client.tracking.boxes import cover, gap_heights, iou
from dualface_client.tracking.kalman import REFERENCE_FPS
from dualface_client.tracking.track import PairRisk, RiskParts, Track
from dualface_client.types import Box

_FULL_COVER = 0.3  # cover of the smaller face that counts as full overlap
_JUMP_HEIGHTS = (0.35, 1.0)  # distance from the prediction: no sign below, full sign above
_RESIZE = (log(1.35), log(2.0))
_SCORE_DROP = (0.2, 0.5)
_SCORE_MEMORY = 0.1  # weight of a new score in its running mean


class RiskMeter:
    """Rates every pair of nearby tracks; state of one stream.

    Args:
        settings: Distances and times.
    """

    def __init__(self, settings: RiskSettings | None = None) -> None:
        self._settings = settings or RiskSettings()
        self._usual_score: dict[int, float] = {}

    def update(self, tracks: Sequence[Track], cut: bool = False) -> list[PairRisk]:
        """Rates the frame.

        Args:
            tracks: Confirmed tracks, seen or lost, by id.
            cut: True on the first frame of a new shot.

        Returns:
            Pairs that could be mixed up: near each other, or all of them at a cut.
        """
        drops = {track.id: self._score_drop(track) for track in tracks}
        if len(drops) != len(self._usual_score):
            self._usual_score = {key: self._usual_score[key] for key in drops}
        risks: list[PairRisk] = []
        for one, other in combinations(tracks, 2):
            near = 1.0 - gap_heights(one.box, other.box) / self._settings.near_heights
            if cut or near > 0:
                parts = self._parts(one, other, near, max(drops[one.id], drops[other.id]), cut)
                risks.append(PairRisk((one.id, other.id), parts, parts.value))
        return risks

    def _parts(self, one: Track, other: Track, near: float, drop: float, cut: bool) -> RiskParts:
        near = max(near, 0.0)
        if near == 0.0:
            return RiskParts(cut=float(cut))
        ahead = self._settings.lookahead_s * REFERENCE_FPS
        return RiskParts(
            overlap=min(cover(one.box, other.box) / _FULL_COVER, 1.0),
            approach=min(cover(one.filter.ahead(ahead), other.filter.ahead(ahead)) / 0.3, 1.0),
            ambiguity=_ambiguity(one, other),
            reacquired=near * max(self._reacquired(one), self._reacquired(other)),
            jump=near * max(_jump(one), _jump(other)),
            score_drop=near * drop,
            cut=float(cut),
        )

    def _reacquired(self, track: Track) -> float:
        if track.face_row < 0:
            return 1.0
        return min(track.gap_s / self._settings.reacquired_s, 1.0)

    def _score_drop(self, track: Track) -> float:
        usual = self._usual_score.setdefault(track.id, track.score)
        if track.face_row < 0:
            return 0.0
        self._usual_score[track.id] = usual + _SCORE_MEMORY * (track.score - usual)
        return _ramp(usual - track.score, _SCORE_DROP)


def _ambiguity(one: Track, other: Track) -> float:
    """Overlap of the exchanged assignment relative to the chosen one; 0.25 and less is none."""
    if one.face_row < 0 or other.face_row < 0:
        return 0.0
    crossed = iou(one.predicted, other.box) + iou(other.predicted, one.box)
    if crossed == 0.0:
        return 0.0
    chosen = iou(one.predicted, one.box) + iou(other.predicted, other.box)
    return _ramp(crossed / max(chosen, 1e-6), (0.25, 0.75))


def _jump(track: Track) -> float:
    """How far the detection is from the prediction, in place or in size."""
    if track.face_row < 0:
        return 0.0
    seen, guess = track.box, track.predicted
    height, guess_height = _height(seen), _height(guess)
    distance = hypot(
        seen[0] + seen[2] - guess[0] - guess[2], seen[1] + seen[3] - guess[1] - guess[3]
    )
    moved = _ramp(distance / (height + guess_height), _JUMP_HEIGHTS)
    return max(moved, _ramp(abs(log(height / guess_height)), _RESIZE))


def _height(box: Box) -> float:
    return max(box[3] - box[1], 1.0)


def _ramp(value: float, limits: tuple[float, float]) -> float:
    """0 at and below the first limit, 1 at and above the second, linear between."""
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)
