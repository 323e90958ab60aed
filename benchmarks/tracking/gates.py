"""What the comparison has to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tracking.compare import Result

#: Scenarios in which the people leave, return or are cut to: sides have to be right in every clip.
SIDE_SCENARIOS = (
    "leave_and_return",
    "leave_and_return_other_side",
    "passer_by_while_away",
    "scene_cut",
)


def gates(found: dict[str, Any], conditional: Sequence[Result]) -> list[dict[str, Any]]:
    """Every gate with its figure.

    Args:
        found: As `__main__.compare` makes it.
        conditional: Results of conditional ReID.
    """
    trackers, camera = found["trackers"], found["camera"]
    alone, always, ours = (trackers[name] for name in ("bytetrack", "always", "conditional"))
    sides = [r.counts for r in conditional if r.clip.kind.scenario in SIDE_SCENARIOS]
    wrong = sum(counts.sides_right < counts.counted for counts in sides)
    rows = [
        (
            alone["all"]["swaps"] > 0,
            f"ByteTrack alone swaps: {alone['all']['swaps']} swaps, "
            f"IDSW {alone['all']['IDSW']:.0f}",
        ),
        (
            ours["all"]["tile_accuracy"] >= 0.995,
            f"conditional tile accuracy {ours['all']['tile_accuracy']:.2%}, at least 99.5 %",
        ),
        (
            ours["all"]["IDSW"] <= always["all"]["IDSW"] + 1,
            f"conditional IDSW {ours['all']['IDSW']:.0f}, at most always-on's "
            f"{always['all']['IDSW']:.0f} and 1",
        ),
        (
            ours["crossing"]["reid_share"] <= 0.10,
            f"ReID on {ours['crossing']['reid_share']:.2%} of the frames of crossing clips, "
            "at most 10 %",
        ),
        (
            ours["calm"]["reid_share"] <= 0.01,
            f"ReID on {ours['calm']['reid_share']:.2%} of the frames of clips without risk, "
            "at most 1 %",
        ),
        (
            not wrong and bool(sides),
            f"sides right in {len(sides) - wrong} of {len(sides)} clips with exits or cuts",
        ),
        (
            camera["motion_p95_px"] < 1 and camera["jitter_p95_px"] < 1,
            f"static talkers: tile motion p95 {camera['motion_p95_px']:.2f} px, jitter p95 "
            f"{camera['jitter_p95_px']:.2f} px a frame, below 1",
        ),
        (
            camera["centred"] >= 0.99,
            f"static talkers: face in the middle 40 % in {camera['centred']:.2%}, at least 99 %",
        ),
        (
            ours["all"]["centred_alone"] >= 0.99,
            f"all clips: face in the middle 40 % in {ours['all']['centred_alone']:.2%} of the "
            "tiles where neither the source's edge nor a neighbour's face is in the way, at least "
            f"99 % ({ours['all']['centred_off_edge']:.2%} where the edge is not, "
            f"{ours['all']['centred']:.2%} of all)",
        ),
    ]
    return [{"met": bool(met), "text": text} for met, text in rows]
