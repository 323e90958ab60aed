"""The figures of a judged video, and the table of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from scripts.judge.canvas import CanvasLook, TileLook

SIDES = ("left", "right")
#: Both faces of a pair should be within this of each other's height.
PAIR_RATIO = 1.3
Figures = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """Every look at one video, in order.

    Attributes:
        indices: Of the frames looked at, 0-based.
        looks: One each.
    """

    indices: list[int] = field(default_factory=list)
    looks: list[CanvasLook] = field(default_factory=list)

    def add(self, index: int, look: CanvasLook) -> None:
        """Takes one frame."""
        self.indices.append(index)
        self.looks.append(look)

    def worst(self, count: int, apart: int) -> list[int]:
        """Frames with most findings, at least `apart` frames between two of them, in order."""
        by_findings = sorted(
            zip(self.indices, self.looks, strict=True), key=lambda seen: -len(seen[1].findings)
        )
        chosen: list[int] = []
        for index, look in by_findings:
            if len(chosen) == count or not look.findings:
                break
            if all(abs(index - other) >= apart for other in chosen):
                chosen.append(index)
        return sorted(chosen)

    def figures(self) -> Figures:
        """Shares are of the frames named; heights and eye lines of the tile's height.

        Returns:
            `looked_at` (frames); `bad` and `one_picture` of all frames looked at; `twice` of the
            frames with two tiles; `layout_changes`, how often the canvas changed between two tiles
            and one picture; for `left` and `right` (upper and lower where tiles are stacked)
            `empty`, `cut`, `crowded` and `bars` of the frames with two tiles, and `h` and `eye`,
            the 5th, 50th and 95th percentile over the tiles with a face; `pair`, the share
            `within` 1.3 and the percentiles of the larger face's height by the smaller one's; for
            information `picture`: `cut` and `h` of the canvases that are one picture.
        """
        two = [look for look in self.looks if look.tiles]
        one = [look.picture for look in self.looks if look.picture is not None]
        changes = sum(bool(a.tiles) != bool(b.tiles) for a, b in pairwise(self.looks))
        ratios = [look.pair_ratio for look in two if look.pair_ratio is not None]
        sides = zip(*(look.tiles for look in two), strict=True) if two else ((), ())
        return {
            "looked_at": len(self.looks),
            "bad": _share(bool(look.findings) for look in self.looks),
            "one_picture": _share(not look.tiles for look in self.looks),
            "twice": _share(look.twice for look in two),
            "layout_changes": changes,
            **{side: _side(tiles) for side, tiles in zip(SIDES, sides, strict=True)},
            "pair": {"within": _share(r <= PAIR_RATIO for r in ratios), "ratio": _spread(ratios)},
            "picture": {
                "cut": _share(look.cut for look in one),
                "h": _spread(look.face_share for look in one),
            },
        }


def _side(tiles: Sequence[TileLook]) -> Figures:
    return {
        "empty": _share(not tile.faces for tile in tiles),
        **{name: _share(getattr(t, name) for t in tiles) for name in ("cut", "crowded", "bars")},
        "h": _spread(tile.face_share for tile in tiles),
        "eye": _spread(tile.eye_share for tile in tiles),
    }


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return round(sum(found) / len(found), 3) if found else None


def _spread(values: Iterable[float | None]) -> list[float] | None:
    """5th, 50th and 95th percentile of the values that are there."""
    found = [value for value in values if value is not None]
    return [round(float(np.percentile(found, q)), 3) for q in (5, 50, 95)] if found else None


COLUMNS = (
    *("clip", "frames", "bad", "one picture", "twice", "cut", "crowded", "bars", "empty"),
    *("h left", "h right", "eye left", "eye right", "pair within 1.3", "cuts", "layouts"),
)


def cells(name: str, figures: Mapping[str, Any]) -> list[str]:
    """One row of the table; two-sided figures as `left / right`."""

    def both(key: str) -> str:
        return f"{_text(figures['left'][key])} / {_text(figures['right'][key])}"

    return [
        name,
        str(figures["looked_at"]),
        *(_text(figures[key]) for key in ("bad", "one_picture", "twice")),
        *(both(key) for key in ("cut", "crowded", "bars", "empty")),
        *(_text(figures[side][key]) for key in ("h", "eye") for side in SIDES),
        _text(figures["pair"]["within"]),
        *(_text(figures[key]) for key in ("scene_cuts", "layout_changes")),
    ]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " ".join(f"{each:.2f}" for each in value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def mean_bad(table: Mapping[str, Mapping[str, Any]]) -> float:
    """Mean of `bad` over the clips, each counted once."""
    return sum(figures["bad"] or 0.0 for figures in table.values()) / max(len(table), 1)


def markdown(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown, with the mean of `bad` below."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(cells(name, row) for name, row in table.items())]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", f"Mean of bad: {mean_bad(table):.3f}", ""])
