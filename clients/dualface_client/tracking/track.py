"""One face over time, and a pair of faces: what the tracker passes on for judgement."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dualface_client.tracking.kalman import BoxFilter
from dualface_client.types import Box

_WEIGHTS = (
    ("overlap", 1.0),
    ("approach", 0.4),
    ("ambiguity", 1.0),
    ("reacquired", 0.5),
    ("jump", 0.8),
    ("score_drop", 0.3),
    ("cut", 1.0),
)


@dataclass(slots=True)
class Track:
    """One face over time.

    Attributes:
        filter: Its motion.
        started_s: When it was first seen.
        seen_s: When it was last seen.
        id: Positive once confirmed, 0 before.
        hits: Sightings in a row.
        face_row: Row of this frame's detection, -1 if there is none.
        box: This frame's detection, or the prediction.
        predicted: The prediction for this frame, made before its detections were seen.
        score: Score of this frame's detection, 0 if there is none.
        gap_s: How long it had been lost when it was seen this frame; 0 otherwise.
    """

    filter: BoxFilter
    started_s: float
    seen_s: float
    id: int = 0
    hits: int = 1
    face_row: int = -1
    box: Box = (0.0, 0.0, 0.0, 0.0)
    predicted: Box = (0.0, 0.0, 0.0, 0.0)
    score: float = 0.0
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RiskParts:
    """What makes a pair risky, each 0 to 1.

    Attributes:
        overlap: Boxes of this frame cover each other.
        approach: They will soon, at their present speed.
        ambiguity: Exchanging the two detections would have been nearly as cheap.
        reacquired: One was found again or is lost, near the other.
        jump: One moved or grew far from its prediction, near the other.
        score_drop: One's detection score fell well below its mean, near the other.
        cut: A new shot began.
    """

    overlap: float = 0.0
    approach: float = 0.0
    ambiguity: float = 0.0
    reacquired: float = 0.0
    jump: float = 0.0
    score_drop: float = 0.0
    cut: float = 0.0

    @property
    def value(self) -> float:
        """All parts in one number, 0 to 1."""
        calm = 1.0
        for name, weight in _WEIGHTS:
            calm *= 1.0 - weight * getattr(self, name)
        return 1.0 - calm

    @property
    def named(self) -> tuple[tuple[str, float], ...]:
        """The parts that are not 0, by name."""
        found = ((name, float(getattr(self, name))) for name, _ in _WEIGHTS)
        return tuple((name, value) for name, value in found if value > 0)


assert {name for name, _ in _WEIGHTS} == {part.name for part in fields(RiskParts)}  # noqa: S101 - at import


@dataclass(frozen=True, slots=True)
class PairRisk:
    """Risk of one pair of tracks.

    Attributes:
        ids: Track ids, ascending.
        parts: Named parts.
        value: `parts.value`.
    """

    ids: tuple[int, int]
    parts: RiskParts
    value: float
