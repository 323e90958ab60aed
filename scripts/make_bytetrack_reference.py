"""Makes the reference data for our ByteTrack: what the PyPI package `trackers` does.

Needs `pip install trackers==2.6.1` (628 MB with what it brings), best in a virtual environment of
its own; the project does not depend on it. Writes the inputs, the outputs and the versions:

    python scripts/make_bytetrack_reference.py tests/fixtures/bytetrack_reference.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np

FRAME_RATE = 30.0
SETTINGS = {
    "track_activation_threshold": 0.7,
    "minimum_consecutive_frames": 2,
    "minimum_iou_threshold": 0.1,
    "high_conf_det_threshold": 0.6,
    "lost_track_buffer": 30,
}
#: Centre x, centre y, height and score of a face at a frame; None while it is not detected.
Path2D = Callable[[int], tuple[float, float, float, float] | None]


def crossing(frame: int, direction: int) -> tuple[float, float, float, float]:
    """Two people pass each other at different heights in the picture."""
    return 640 + direction * (frame - 60) * 6.0, 300 + direction * 50, 140.0, 0.9


def scenarios() -> Iterator[tuple[str, list[Path2D]]]:
    """Names and paths."""
    yield "seated", [lambda _f: (400, 300, 150, 0.9), lambda _f: (900, 320, 160, 0.85)]
    yield "crossing", [lambda f: crossing(f, 1), lambda f: crossing(f, -1)]
    yield (
        "dropout",
        [
            lambda f: None if 30 <= f < 42 else (400 + 10 * sin(f / 9), 300, 150, 0.9),
            lambda f: None if f % 11 == 5 else (900, 320 + 8 * cos(f / 7), 160, 0.85),
        ],
    )
    yield (
        "low_scores",
        [
            lambda f: (400 + f, 300, 150, 0.9 if f % 20 < 12 else 0.35),
            lambda f: (900 - f, 330, 160, 0.65 if f % 14 < 9 else 0.3),
        ],
    )
    yield (
        "three",
        [
            lambda f: (300 + 15 * sin(f / 12), 300, 150, 0.9),
            lambda f: (950, 310 + 12 * cos(f / 10), 150, 0.9),
            lambda f: (100 + 8.0 * f, 560, 120, 0.8) if 15 <= f < 105 else None,
        ],
    )
    yield (
        "gone_for_long",
        [
            lambda f: None if 40 <= f < 85 else (400, 300, 150, 0.9),
            lambda _f: (900, 320, 160, 0.85),
        ],
    )
    yield (
        "overlap",
        [
            lambda f: (560 + 60 * sin(f / 15), 300, 150, 0.9),
            lambda f: (690 - 40 * sin(f / 15), 320, 160, 0.85),
        ],
    )


def detections(paths: list[Path2D], frame: int, rng: np.random.Generator) -> list[list[float]]:
    """Noisy boxes and scores of a frame, in random order, and now and then a false alarm."""
    rows = []
    for path in paths:
        if (place := path(frame)) is not None:
            x, y, height, score = place
            box = np.array([x - 0.4 * height, y - height / 2, x + 0.4 * height, y + height / 2])
            rows.append([*(box + rng.normal(0, 2, 4)), min(score + rng.normal(0, 0.01), 1.0)])
    if rng.random() < 0.05:
        x, y = rng.uniform(0, 1200), rng.uniform(600, 640)
        rows.append([x, y, x + 60, y + 70, 0.75])
    order = rng.permutation(len(rows))
    return [[round(float(value), 2) for value in rows[row]] for row in order]


def tracked(frames: list[list[list[float]]]) -> list[list[int]]:
    """Track id of every detection as `trackers` gives it, -1 for none."""
    import supervision as sv
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=FRAME_RATE, **SETTINGS)
    ids: list[list[int]] = []
    for index, rows in enumerate(frames):
        table: Any = np.array(rows, np.float64).reshape(-1, 5)
        given = sv.Detections(
            xyxy=table[:, :4], confidence=table[:, 4], data={"row": np.arange(len(table))}
        )
        found = tracker.update(given, timestamp=index / FRAME_RATE)
        result = [-1] * len(table)
        for row, track in zip(found.data.get("row", []), found.tracker_id, strict=True):
            result[int(row)] = int(track)
        ids.append(result)
    return ids


def main(target: Path) -> None:
    """Writes the reference file."""
    sequences = {}
    for seed, (name, paths) in enumerate(scenarios()):
        rng = np.random.default_rng(seed)
        frames = [detections(paths, frame, rng) for frame in range(120)]
        sequences[name] = {"detections": frames, "ids": tracked(frames)}
    reference = {
        "made_by": "scripts/make_bytetrack_reference.py",
        "versions": {name: version(name) for name in ("trackers", "supervision", "numpy", "scipy")},
        "frame_rate": FRAME_RATE,
        "settings": SETTINGS,
        "columns": ["x1_px", "y1_px", "x2_px", "y2_px", "score"],
        "sequences": sequences,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(reference, separators=(",", ":")) + "\n")
    print(f"{target}: {len(sequences)} sequences, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
