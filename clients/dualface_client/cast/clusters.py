"""Which faces of a look are one person's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dualface_client.cast.sightings import Sighting
from dualface_client.settings.tracking import IdentitySettings

Matrix = npt.NDArray[np.float64]

#: Faces that are clustered, the best ones; the cost grows with the cube.
_MOST_FACES = 600


def people_of(found: Sequence[Sighting], settings: IdentitySettings) -> list[list[Sighting]]:
    """Gathers the sightings of each person, those of the best faces first.

    Average linkage over cosines: two groups become one while their faces are alike on average, half
    way between the cosine that makes a match and the one that is no longer one. Two faces of one
    moment are never one person. Groups that have a face in common, as the tracker would judge it,
    become one too, the closest first: a person from the front, half turned and from the side. Faces
    of low quality found no group; they join the group of the face they match best.

    Args:
        found: Embedded faces.
        settings: Thresholds.

    Returns:
        One list per person, best face first; those with the most sightings first.
    """
    ranked = sorted(found, key=lambda sighting: -sighting.quality)
    seeds = [each for each in ranked if each.quality >= settings.min_quality][:_MOST_FACES]
    threshold = (settings.match_cosine + settings.reject_cosine) / 2
    groups = _unite(
        [[seeds[row] for row in rows] for rows in _linked(seeds, threshold)], settings.match_cosine
    )
    chosen = {id(each) for each in seeds}
    for sighting in ranked:
        if id(sighting) not in chosen:
            _join(sighting, groups, settings.match_cosine)
    return sorted(groups, key=len, reverse=True)


def likeness(one: Sequence[Sighting], other: Sequence[Sighting]) -> float:
    """Mean cosine of the faces of two groups, or of a group with itself; -1 without a pair."""
    left = np.array([each.embedding for each in one])
    right = np.array([each.embedding for each in other])
    if one is other:
        count = len(left) * (len(left) - 1)
        return float(((left @ left.T).sum() - len(left)) / count) if count else 1.0
    return float((left @ right.T).mean()) if len(left) and len(right) else -1.0


def _linked(seeds: Sequence[Sighting], threshold: float) -> list[list[int]]:
    """Rows of each group."""
    embeddings = np.array([each.embedding for each in seeds], np.float64)
    moments = np.array([each.moment for each in seeds])
    cosines = embeddings @ embeddings.T if seeds else np.empty((0, 0))
    cosines[moments[:, None] == moments[None, :]] = -np.inf
    return _gathered(cosines, threshold, _average)


def _unite(groups: Sequence[list[Sighting]], match_cosine: float) -> list[list[Sighting]]:
    """Makes groups one that match somewhere and are never seen together, the closest first."""
    moments = [{each.moment for each in group} for group in groups]
    cosines = np.full((len(groups), len(groups)), -np.inf)
    for one, other in combinations(range(len(groups)), 2):
        if moments[one].isdisjoint(moments[other]):
            cosines[one, other] = cosines[other, one] = _closest(groups[one], groups[other])
    united = [
        [each for row in rows for each in groups[row]]
        for rows in _gathered(cosines, match_cosine, _nearest)
    ]
    return [sorted(group, key=lambda sighting: -sighting.quality) for group in united]


def _closest(one: Sequence[Sighting], other: Sequence[Sighting]) -> float:
    """Cosine of the two faces that are most alike."""
    left = np.array([each.embedding for each in one])
    right = np.array([each.embedding for each in other])
    return float((left @ right.T).max())


#: Cosines of a union with everybody, from those of its two parts and the share of the first.
_Linkage = Callable[[Matrix, Matrix, float], Matrix]


def _average(one: Matrix, other: Matrix, share: float) -> Matrix:
    """Over all faces."""
    return share * one + (1 - share) * other


def _nearest(one: Matrix, other: Matrix, _share: float) -> Matrix:
    """Of the faces that are most alike; whom one part is seen with, the union is seen with."""
    return np.where(np.isinf(one + other), -np.inf, np.maximum(one, other))


def _gathered(cosines: Matrix, threshold: float, linkage: _Linkage) -> list[list[int]]:
    """Makes rows one, the closest first, as long as any are as close as the threshold.

    Args:
        cosines: Shape `(n, n)`, symmetric; -inf for what must never be one. Overwritten.
        threshold: Least cosine of a union.
        linkage: Gives the cosines of a union.

    Returns:
        The row numbers of each group.
    """
    rows = [[row] for row in range(len(cosines))]
    while rows:
        one, other = divmod(int(np.argmax(cosines)), len(rows))
        if cosines[one, other] < threshold:
            break
        share = len(rows[one]) / (len(rows[one]) + len(rows[other]))
        joint = linkage(cosines[one], cosines[other], share)
        cosines[one], cosines[:, one] = joint, joint
        cosines[one, one] = -np.inf
        cosines[other], cosines[:, other] = -np.inf, -np.inf
        rows[one] += rows[other]
        rows[other] = []
    return [group for group in rows if group]


def _join(sighting: Sighting, groups: list[list[Sighting]], match_cosine: float) -> None:
    best, closest = None, match_cosine
    for group in groups:
        if any(each.moment == sighting.moment for each in group):
            continue
        cosine = max(float(each.embedding @ sighting.embedding) for each in group)
        if cosine >= closest:
            best, closest = group, cosine
    if best is not None:
        best.append(sighting)
