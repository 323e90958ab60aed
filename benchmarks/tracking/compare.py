"""Plays the clips with every tracker and gathers what is to be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.tracking.cache import Seen
from benchmarks.tracking.clipset import Clip
from benchmarks.tracking.measures import TileCounts, count_tiles, tile_motion_px, total
from benchmarks.tracking.replay import Played, play
from dualface_client.settings.tracking import TrackingSettings
from scripts.clips.truth import Truth

#: A face that is seen less than this is nothing that a tracker has to find.
TRACKED_VISIBLE = 0.25
#: Thresholds of the swap risk that the plot shows; above 1 no risk ever asks for ReID.
THRESHOLDS = (0.05, 0.2, 0.5, 0.8, 0.95, 0.999, 1.01)


@dataclass(frozen=True, slots=True)
class Result:
    """One clip played with one tracker.

    Attributes:
        clip: Which.
        tracker: One of `replay.TRACKERS`.
        counts: What the viewer notices.
        motion_px: From `measures.tile_motion_px`.
        jitter_px: The same.
    """

    clip: Clip
    tracker: str
    counts: TileCounts
    motion_px: list[float]
    jitter_px: list[float]


def run(
    clips: Sequence[tuple[Clip, Seen]], trackers: Iterable[str]
) -> tuple[list[Result], list[dict[str, Any]]]:
    """Plays everything.

    Returns:
        The results, and the tracks as `score.py` reads them.
    """
    results, tracks = [], []
    for tracker in trackers:
        for clip, seen in clips:
            played = play(seen, tracker)
            motion, jitter = tile_motion_px(played)
            results.append(Result(clip, tracker, count_tiles(played, seen.truth), motion, jitter))
            tracks.append(_tracks(clip, tracker, played, seen.truth))
    return results, tracks


def _tracks(clip: Clip, tracker: str, played: Played, truth: Truth) -> dict[str, Any]:
    wanted = [
        [[p.id, *p.box] for p in frame.people if p.visible >= TRACKED_VISIBLE]
        for frame in truth.frames
    ]
    found = [
        [[int(key), *box] for key, box in zip(ids, boxes.tolist(), strict=True)]
        for ids, boxes in zip(played.ids, played.boxes, strict=True)
    ]
    return {
        "clip": clip.name,
        "group": clip.kind.group,
        "tracker": tracker,
        "truth": wanted,
        "found": found,
    }


def sweep(clips: Sequence[tuple[Clip, Seen]]) -> dict[str, list[dict[str, float]]]:
    """Tile accuracy and ReID share over the threshold of the swap risk, by group."""
    points: dict[str, list[dict[str, float]]] = {"all": [], "crossing": []}
    for threshold in THRESHOLDS:
        usual = TrackingSettings()
        release = min(usual.risk.release, threshold / 2)
        risk = replace(usual.risk, threshold=threshold, release=release)
        settings = replace(usual, risk=risk)
        found = [
            (clip.kind.group, count_tiles(play(seen, "conditional", settings), seen.truth))
            for clip, seen in clips
        ]
        for group, line in points.items():
            summed = total(each for name, each in found if group in ("all", name))
            line.append({"threshold": threshold, **figures(summed)})
    return points


def figures(summed: TileCounts) -> dict[str, float]:
    """What the table says of some clips together."""
    return {
        "tile_accuracy": summed.accuracy,
        "assigned_right": summed.sides_right / max(summed.counted, 1),
        "swaps": summed.swaps,
        "swaps_per_hour": summed.swaps_per_hour,
        "recover_s": summed.recover_s,
        "reid_share": summed.reid_share,
        "reid_per_minute": summed.reid_per_minute,
        "centred": summed.centred_share,
        "centred_off_edge": summed.centred_share_off_edge,
        "centred_alone": summed.centred_share_alone,
        "frames": summed.frames,
        "counted": summed.counted,
    }


def camera(results: Iterable[Result]) -> dict[str, float]:
    """How still the tiles of static talkers are, output pixels per frame."""
    static = [r for r in results if r.clip.kind.scenario == "side_by_side"]
    motion = [value for result in static for value in result.motion_px]
    jitter = [value for result in static for value in result.jitter_px]
    return {
        "motion_p95_px": float(np.percentile(motion, 95)),
        "jitter_p95_px": float(np.percentile(jitter, 95)),
        "centred": total(result.counts for result in static).centred_share,
    }
