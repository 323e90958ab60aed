"""Draws the comparison. Runs in the environment of `requirements.txt`.

python benchmarks/tracking/plot.py RESULTS.json PICTURE.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend has to be chosen first

COLORS = {"bytetrack": "#b33", "always": "#357", "conditional": "#181"}


def draw(result: dict[str, Any], target: Path) -> None:
    """Tile accuracy against the share of frames with ReID, on all clips and on crossings."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, group, title in zip(
        axes, ("all", "crossing"), ("all clips", "crossing clips"), strict=True
    ):
        points = result["sweep"][group]
        axis.plot(
            [100 * point["reid_share"] for point in points],
            [100 * point["tile_accuracy"] for point in points],
            "o-",
            ms=4,
            color=COLORS["conditional"],
            label="conditional, by threshold of the swap risk",
        )
        usual = f"{points[0]['threshold']:g} to {points[-2]['threshold']:g}"
        for point, text, side in (
            (points[0], usual, "left"),
            (points[-1], "no risk asks", "right"),  # the two points are near each other
        ):
            place = (100 * point["reid_share"], 100 * point["tile_accuracy"])
            axis.annotate(text, place, (0, -12), textcoords="offset points", fontsize=7, ha=side)
        for tracker, label in (("bytetrack", "ByteTrack alone"), ("always", "ReID on every frame")):
            found = result["trackers"][tracker][group]
            place = (max(100 * found["reid_share"], 0.1), 100 * found["tile_accuracy"])
            axis.plot(*place, "s", color=COLORS[tracker], label=label)
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlabel("frames with ReID, %")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("tile accuracy, %")
    axes[1].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=90)


def main() -> int:
    """Runs the command line; returns the exit code."""
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text()), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
