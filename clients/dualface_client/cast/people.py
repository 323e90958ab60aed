"""Who matters in a video: on screen most, large, moving, speaking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations, pairwise

import numpy as np

from dualface_client.cast.clusters import likeness, people_of
from dualface_client.cast.plan import stretches_s
from dualface_client.cast.sightings import Sighting, Sightings
from dualface_client.settings.cast import CastSettings
from dualface_client.settings.tracking import SideSettings, TrackingSettings
from dualface_client.tracking.stillness import change_heights

#: A face as high as this share of the picture counts fully; a larger one counts no more.
_FULL_HEIGHT = 0.35
#: Change of the mouth, in eye distances, of somebody who certainly speaks.
_SPEAKS = 0.15
#: Detection scores from which a face counts, and from which it counts fully. Somebody in the dark
#: behind the light of a stage had 0.54 to 0.66, and those whom videos are about 0.79 and more.
_LEAST_SCORE, _FULL_SCORE = 0.5, 0.8
#: Whoever is on screen for this share of a file matters after all, and in any case after this time.
_LATE_SHARE = 0.25
_MOST_PATIENCE_S = 30.0
#: Sightings that are compared for movement; more cost time and say no more.
_COMPARED = 12


class Why(Enum):
    """Why somebody can get no side."""

    NONE = ""
    STILL = "never moves: a picture"
    BRIEF = "on screen too briefly, or too far back"


@dataclass(frozen=True, slots=True)
class CastPerson:
    """Somebody a look found.

    Attributes:
        number: From 1, those who matter most first.
        sightings: Best face first.
        share: Share of the video with this person on screen, 0 to 1.
        height: Median height of the face, share of the picture's height.
        place_xy: Median centre of the face, shares of the picture's width and height.
        speaking: How much the mouth changes, 0 to 1.
        likeness: Mean cosine of the faces with one another.
        nearest: Largest mean cosine with another person's faces.
        weight: How much this person matters: time on screen, size of the face in the picture and
            beside the largest other one, how well and how surely it is seen, change of the mouth.
        why_not: Why there is no side for this person.
    """

    number: int
    sightings: tuple[Sighting, ...]
    share: float
    height: float
    place_xy: tuple[float, float]
    speaking: float
    likeness: float
    nearest: float
    weight: float
    why_not: Why = Why.NONE

    @property
    def is_sure(self) -> bool:
        """Whether this is clearly one person, and no other one of the video."""
        return len(self.sightings) > 1 and self.likeness > self.nearest


@dataclass(frozen=True, slots=True)
class Found:
    """The people of a video.

    Attributes:
        people: Those who matter most first; pictures and passers-by last.
        seen: What was looked at.
    """

    people: tuple[CastPerson, ...]
    seen: Sightings

    @property
    def patience_s(self) -> float:
        """How long somebody must be on screen to matter although the look did not find them."""
        end_s = max(self.seen.duration_s, *self.seen.times_s, 0.0)
        gaps_s = [later - time_s for time_s, later in pairwise([0.0, *self.seen.times_s, end_s])]
        return min(max(2 * max(gaps_s), _LATE_SHARE * end_s), _MOST_PATIENCE_S)


def find_people(seen: Sightings, cast: CastSettings, tracking: TrackingSettings) -> Found:
    """Gathers and ranks the people of a look.

    Args:
        seen: What was looked at.
        cast: What makes somebody matter.
        tracking: Thresholds of faces and of movement.
    """
    groups = people_of(seen.found, tracking.identity)
    stretches = stretches_s(seen.times_s, seen.duration_s)
    people = [_person(group, groups, seen, stretches, tracking.sides) for group in groups]
    most = max((person.weight for person in people if person.why_not is Why.NONE), default=0.0)
    judged = [_judged(person, most, cast) for person in people]
    ranked = sorted(judged, key=lambda person: (person.why_not is not Why.NONE, -person.weight))
    return Found(tuple(replace(p, number=n) for n, p in enumerate(ranked, 1)), seen)


def _judged(person: CastPerson, most: float, settings: CastSettings) -> CastPerson:
    is_brief = person.share < settings.least_share or person.weight < settings.least_weight * most
    if person.why_not is Why.NONE and is_brief:
        return replace(person, why_not=Why.BRIEF)
    return person


def _person(
    group: Sequence[Sighting],
    groups: Sequence[Sequence[Sighting]],
    seen: Sightings,
    stretches: Sequence[float],
    sides: SideSettings,
) -> CastPerson:
    width, height = seen.size_wh_px
    total_s = sum(stretches)
    speaking = _speaking(group)
    counted = [each for each in group if _counts(each, seen, sides)]
    weight = sum(
        stretches[each.moment]
        * min(each.height_px / height / _FULL_HEIGHT, 1.0)
        * min(each.height_px / max(seen.heights_px[each.moment]), 1.0)
        * each.quality
        * _certainty(each.score)
        for each in counted
    )
    centres = np.array([(b[0] + b[2], b[1] + b[3]) for b in (each.box for each in group)]) / 2
    x_px, y_px = np.median(centres, axis=0).tolist()
    return CastPerson(
        0,
        tuple(group),
        sum(stretches[each.moment] for each in group) / total_s,
        float(np.median([each.height_px for each in group])) / height,
        (x_px / width, y_px / height),
        speaking,
        likeness(group, group),
        max((likeness(group, other) for other in groups if other is not group), default=-1.0),
        weight / total_s * (1 + speaking),
        _why_not(group, counted, sides),
    )


def _certainty(score: float) -> float:
    return min(max((score - _LEAST_SCORE) / (_FULL_SCORE - _LEAST_SCORE), 0.0), 1.0)


def _why_not(group: Sequence[Sighting], counted: Sequence[Sighting], sides: SideSettings) -> Why:
    if _is_still(group, sides):
        return Why.STILL
    return Why.NONE if len(counted) > 1 else Why.BRIEF


def _counts(sighting: Sighting, seen: Sightings, sides: SideSettings) -> bool:
    """Whether somebody is more than one of a crowd at a moment."""
    heights = sorted(seen.heights_px[sighting.moment], reverse=True)
    return len(heights) < sides.crowd or sighting.height_px >= sides.crowd_ratio * heights[2]


def _is_still(group: Sequence[Sighting], sides: SideSettings) -> bool:
    if len(group) < 2:
        return False
    pairs = combinations(group[:_COMPARED], 2)
    return all(change_heights(one.shape, other.shape) < sides.still_share for one, other in pairs)


def _speaking(group: Sequence[Sighting]) -> float:
    if len(group) < 2:
        return 0.0
    mouths = np.array([each.mouth for each in group])
    return min(float(np.std(mouths, axis=0).sum()) / _SPEAKS, 1.0)
