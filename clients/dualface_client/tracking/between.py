"""Faces of frames that nobody looked at, from the frames before and after them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import inf

import numpy as np

from dualface_client.tracking.assignment import best_pairs
from dualface_client.tracking.boxes import gap_heights, iou_rows
from dualface_client.types import Box, Faces

#: A face that moved on has at least this much of its place left (IoU), more of it where another
#: one is within so many face heights, or after a long time.
_LEAST_IOU, _LEAST_IOU_STRICT, _NEAR_HEIGHTS = 0.35, 0.6, 0.5
#: After more than this nothing is said of faces that are within so many face heights of each other:
#: there is time to change places.
_LONG_S, _CLEAR_HEIGHTS = 0.13, 1.0
#: Weaker detections come and go: those that stay weak are taken as they are found.
_SURE = 0.5


def between(
    before: Faces, after: Faces, shares: Sequence[float], span_s: float
) -> list[Faces] | None:
    """Moves every face evenly from one frame to a later one of the same shot.

    Args:
        before: Detections of the earlier frame.
        after: Detections of the later frame.
        shares: When the frames between are, as shares of the time from the one to the other.
        span_s: That time.

    Returns:
        Faces of each of these frames, best score first; None where something happens in between
        that has to be looked at: somebody comes or goes, moves far, or is near somebody else.
    """
    gap = min(_least_gap(before), _least_gap(after))
    if gap == 0:
        return None
    overlaps = iou_rows(_boxes(before), _boxes(after))
    if span_s > _LONG_S and gap < _CLEAR_HEIGHTS:
        return None
    is_strict = span_s > _LONG_S or gap < _NEAR_HEIGHTS
    least = _LEAST_IOU_STRICT if is_strict else _LEAST_IOU
    pairs = [(i, j) for i, j in best_pairs(overlaps) if overlaps[i][j] >= least]
    paired = {i for i, _ in pairs}, {j for _, j in pairs}
    alone = [
        [row for row in range(len(faces)) if row not in rows]
        for faces, rows in zip((before, after), paired, strict=True)
    ]
    if _somebody_changes(before, after, pairs, alone):
        return None
    rows = np.array([i for i, _ in pairs], np.int64), np.array([j for _, j in pairs], np.int64)
    return [_mixed(before, after, rows, alone, share) for share in shares]


def has_lost(before: Faces, after: Faces) -> bool:
    """Whether a sure face of the earlier frame is nowhere near its place in the later one."""
    overlaps = iou_rows(_boxes(before), _boxes(after))
    return any(
        score >= _SURE and max(row, default=0.0) < _LEAST_IOU
        for score, row in zip(before.scores, overlaps, strict=True)
    )


def _somebody_changes(
    before: Faces,
    after: Faces,
    pairs: Sequence[tuple[int, int]],
    alone: Sequence[Sequence[int]],
) -> bool:
    """Whether a sure face is alone or paired with an unsure one: somebody comes, goes or is hidden.

    Whoever appears is embedded at once, so one frame more or less of a hand before a face counts.
    """
    if any((before.scores[i] >= _SURE) != (after.scores[j] >= _SURE) for i, j in pairs):
        return True
    ends = zip((before, after), alone, strict=True)
    return any(faces.scores[row] >= _SURE for faces, rows in ends for row in rows)


def _mixed(
    before: Faces,
    after: Faces,
    rows: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...],
    alone: Sequence[Sequence[int]],
    share: float,
) -> Faces:
    """Faces of one frame: pairs moved evenly, and those without one as in the nearer frame."""
    nearer, index = (before, 0) if share < 0.5 else (after, 1)
    one, other = rows
    parts = []
    for name in ("boxes_xyxy_px", "scores", "landmarks_px"):
        start, end = getattr(before, name)[one], getattr(after, name)[other]
        parts.append(
            np.concatenate([start + share * (end - start), getattr(nearer, name)[alone[index]]])
        )
    boxes, scores, landmarks = parts
    order = np.argsort(-scores, kind="stable")
    return Faces(
        boxes[order].astype(np.float32),
        scores[order].astype(np.float32),
        landmarks[order].astype(np.float32),
    )


def _least_gap(faces: Faces) -> float:
    """Between two faces that are surely there, in their heights; 0 if two touch."""
    sure = [box for box, score in zip(_boxes(faces), faces.scores, strict=True) if score >= _SURE]
    return min((gap_heights(*pair) for pair in combinations(sure, 2)), default=inf)


def _boxes(faces: Faces) -> list[Box]:
    return [tuple(box) for box in faces.boxes_xyxy_px.tolist()]
