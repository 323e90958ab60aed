"""What tracking and framing cost per frame on this CPU, for two faces.

    python benchmarks/tracking_cost.py [--frames 3000]

Prints medians and 95th percentiles. `association and risk` is the budgeted part: below 0.3 ms.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import deque
from collections.abc import Callable
from math import cos, sin
from time import perf_counter

import numpy as np

from dualface_client.framing.moment import Moment
from dualface_client.framing.studio import Studio
from dualface_client.tracking.bytetrack import ByteTracker
from dualface_client.tracking.director import Director
from dualface_client.tracking.risk import RiskMeter
from dualface_client.types import ByteArray, Faces, FloatArray, PictureFacts, TileLayout

SOURCE = (1920, 1080)
#: Frames that wait: half a second.
_AHEAD = 15
#: Levels by which the samples of a still picture vary from frame to frame, after compression.
_NOISE_LEVELS = 3


def scene(frames: int, crossing: bool) -> list[Faces]:
    """Two people who talk, seated or crossing again and again."""
    rng = np.random.default_rng(0)
    made = []
    for frame in range(frames):
        sway = 450 * cos(frame / 30) if crossing else 450 + 5 * sin(frame / 30)
        boxes, marks = [], []
        for x, y in ((960 - sway, 400.0), (960 + sway, 430.0)):
            boxes.append(np.array([x - 80, y - 100, x + 80, y + 100]) + rng.normal(0, 1, 4))
            low = 60 + 6 * sin(frame / 9)  # a mouth that opens and closes
            face = [[-40, -20], [40, -20], [0, 20], [-30, low], [30, low]]
            marks.append(np.array(face) + np.array([x, y]) + rng.normal(0, 0.5, (5, 2)))
        scores = np.array([0.9, 0.85], np.float32)
        made.append(Faces(np.array(boxes, np.float32), scores, np.array(marks, np.float32)))
    return made


def thumbnails(count: int) -> list[ByteArray]:
    """One picture, each time with other noise."""
    rng = np.random.default_rng(0)
    picture = rng.integers(_NOISE_LEVELS, 255 - _NOISE_LEVELS, (36, 64, 3))
    noise = (rng.integers(-_NOISE_LEVELS, _NOISE_LEVELS + 1, picture.shape) for _ in range(count))
    return [(picture + levels).astype(np.uint8) for levels in noise]


def timed(step: Callable[[int], object], frames: int) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds, the first 50 calls left out."""
    times = np.empty(frames)
    for index in range(frames):
        start = perf_counter()
        step(index)
        times[index] = perf_counter() - start
    return float(np.median(times[50:]) * 1e3), float(np.percentile(times[50:], 95) * 1e3)


def association(faces: list[Faces]) -> Callable[[int], object]:
    """ByteTrack and swap risk."""
    tracker, meter = ByteTracker(), RiskMeter()

    def step(index: int) -> object:
        tracker.update(faces[index], index / 30)
        return meter.update(tracker.confirmed)

    return step


def whole(faces: list[Faces]) -> Callable[[int], object]:
    """The director with scene cuts, and framing with half a second ahead; ReID costs nothing."""
    director, studio = Director(None, SOURCE), Studio(TileLayout(), SOURCE)
    picture = PictureFacts((0.0, 0.0, float(SOURCE[0]), float(SOURCE[1])))
    window: deque[Moment] = deque(maxlen=_AHEAD)
    pictures = thumbnails(50)
    looks: FloatArray = np.eye(2, 128, dtype=np.float32)

    def step(index: int) -> object:
        request = director.observe(faces[index], pictures[index % len(pictures)], index / 30)
        # Rows come as people, so the row number is the person.
        embeddings = looks[request.face_rows] if len(request.face_rows) else None
        window.append(Moment(index / 30, director.decide(embeddings, "1"), picture))
        return studio.update(list(window))

    return step


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=3000)
    frames = parser.parse_args().frames
    result: dict[str, object] = {
        "cpu": platform.processor() or platform.machine(),
        "frames": frames,
    }
    for name, crossing in (("seated", False), ("crossing", True)):
        faces = scene(frames, crossing)
        for part, make in (("association and risk", association), ("all", whole)):
            median_ms, p95_ms = timed(make(faces), frames)
            result[f"{name}: {part}"] = {
                "median_ms": round(median_ms, 4),
                "p95_ms": round(p95_ms, 4),
            }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
