"""Plays a cached clip through the program's tracking and framing, with one of three policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.tracking.cache import Seen, Sight
from dualface_client.decisions.window import Decided, windows
from dualface_client.framing.studio import Studio
from dualface_client.settings.framing import FramingSettings
from dualface_client.settings.tracking import TrackingSettings
from dualface_client.tracking.bytetrack import ByteTracker
from dualface_client.tracking.director import Director
from dualface_client.types import (
    Crop,
    FloatArray,
    IntArray,
    Nv12Image,
    PictureFacts,
    SeatAssignment,
    TileLayout,
)

#: Stands for the pixels of a frame, which nothing here looks at.
NO_PIXELS = Nv12Image(np.zeros((2, 2), np.uint8), np.zeros((1, 1, 2), np.uint8))

#: What is compared, by its name in the table.
TRACKERS = ("bytetrack", "always", "conditional")


@dataclass(slots=True)
class Played:
    """What came of a clip.

    Attributes:
        ids: Of each frame's visible faces, shape `(n,)`: tracks for ByteTrack, else identities.
        boxes: Of the same faces, shape `(n, 4)`, xyxy.
        shown: Who sits where, as composed.
        crops: What each tile shows.
        reid_faces: Embeddings asked for, per frame.
    """

    ids: list[IntArray] = field(default_factory=list)
    boxes: list[FloatArray] = field(default_factory=list)
    shown: list[SeatAssignment] = field(default_factory=list)
    crops: list[tuple[Crop, Crop]] = field(default_factory=list)
    reid_faces: list[int] = field(default_factory=list)


def play(
    seen: Seen,
    tracker: str,
    tracking: TrackingSettings | None = None,
    framing: FramingSettings | None = None,
) -> Played:
    """Replays one clip.

    Args:
        seen: The clip's cache.
        tracker: One of `TRACKERS`.
        tracking: Settings to try; the default ones otherwise.
        framing: The same for the cameras; both tiles are always shown.
    """
    policy = {"bytetrack": "never"}.get(tracker, tracker)
    tracking = replace(tracking or TrackingSettings(), reid=policy)
    framing = replace(framing or FramingSettings(), alone="tile")
    played = Played()
    director = Director(tracking, seen.truth.size)
    studio = Studio(TileLayout(), seen.truth.size, framing)
    width, height = seen.truth.size
    picture = PictureFacts((0.0, 0.0, float(width), float(height)))
    decided: list[Decided] = []
    for sight in seen.sights:
        assignment = _decide(director, sight, played)
        decided.append(Decided(sight.time_s, assignment, picture, director.relinks))
    for window in windows(decided, framing.lookahead_s):
        played.shown.append(window[0].assignment)
        named = [view for view in window[0].assignment.tracks if view.score > 0 and view.identity]
        played.ids.append(np.array([view.identity for view in named], np.int64))
        boxes = [view.box_xyxy_px for view in named]
        played.boxes.append(np.array(boxes, np.float32).reshape(-1, 4))
        left, right = studio.update([entry.moment for entry in window]).views
        played.crops.append((left.crop, right.crop))
    if tracker == "bytetrack":
        played.ids, played.boxes = _tracks(seen.sights, tracking)
    return played


def _decide(director: Director, sight: Sight, played: Played) -> SeatAssignment:
    rows = director.observe(sight.faces, sight.thumbnail, sight.time_s).face_rows
    played.reid_faces.append(len(rows))
    return director.decide(
        sight.embeddings[rows] if len(rows) else None, "cache", sight.sharpness[rows]
    )


def _tracks(
    sights: Sequence[Sight], tracking: TrackingSettings
) -> tuple[list[IntArray], list[FloatArray]]:
    """ByteTrack by itself: what it calls the same face."""
    tracker = ByteTracker(tracking.association)
    found = [tracker.update(sight.faces, sight.time_s) for sight in sights]
    seen = [tracks.face_rows >= 0 for tracks in found]
    ids = [tracks.ids[mask] for tracks, mask in zip(found, seen, strict=True)]
    boxes = [tracks.boxes_xyxy_px[mask] for tracks, mask in zip(found, seen, strict=True)]
    return ids, boxes
