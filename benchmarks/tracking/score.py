"""TrackEval's figures for tracks in a JSON file. Runs in an environment of its own.

    python benchmarks/tracking/score.py TRACKS.json SCORES.json

TrackEval needs packages that contradict the program's (another OpenCV), so this file imports
nothing of the project; `requirements.txt` beside it pins what it needs. It calls TrackEval's
metric classes on plain arrays, as its own `Evaluator` does.

Input: a list of `{"clip", "group", "tracker", "truth", "found"}`; `truth` and `found` hold for each
frame a list of `[id, x1, y1, x2, y2]`. Output: for each tracker and each group (and `all`) HOTA,
DetA, AssA, IDF1, MOTA and IDSW.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from trackeval.metrics import CLEAR, HOTA, Identity

Rows = list[list[float]]
Floats = npt.NDArray[np.float64]


def overlaps(truth: Floats, found: Floats) -> Floats:
    """IoU of every pair of `xyxy` rows, shape `(n, m)`."""
    low = np.maximum(truth[:, None, :2], found[None, :, :2])
    high = np.minimum(truth[:, None, 2:], found[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (truth, found)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared))


def numbered(frames: list[Rows]) -> tuple[list[npt.NDArray[np.int64]], list[Floats], int]:
    """Ids counted from 0 without holes, boxes, and how many ids there are."""
    numbers = {row: n for n, row in enumerate(sorted({row[0] for rows in frames for row in rows}))}
    ids = [np.array([numbers[row[0]] for row in rows], np.int64) for rows in frames]
    boxes = [np.array([row[1:] for row in rows], np.float64).reshape(-1, 4) for rows in frames]
    return ids, boxes, len(numbers)


def sequence(entry: dict[str, Any]) -> dict[str, Any]:
    """One clip as TrackEval's metrics want it."""
    truth_ids, truth_boxes, truth_count = numbered(entry["truth"])
    found_ids, found_boxes, found_count = numbered(entry["found"])
    return {
        "num_timesteps": len(truth_ids),
        "num_gt_ids": truth_count,
        "num_tracker_ids": found_count,
        "num_gt_dets": sum(map(len, truth_ids)),
        "num_tracker_dets": sum(map(len, found_ids)),
        "gt_ids": truth_ids,
        "tracker_ids": found_ids,
        "similarity_scores": [
            overlaps(truth, found) for truth, found in zip(truth_boxes, found_boxes, strict=True)
        ],
    }


def combined(entries: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of some clips together."""
    metrics = (HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False}))
    result: dict[str, Any] = {}
    for metric in metrics:
        each = {str(n): metric.eval_sequence(entry["data"]) for n, entry in enumerate(entries)}
        result |= metric.combine_sequences(each)
    means = {name: float(np.mean(result[name])) for name in ("HOTA", "DetA", "AssA")}
    return means | {name: float(result[name]) for name in ("IDF1", "MOTA", "IDSW")}


def scores(entries: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """By tracker and group."""
    for entry in entries:
        entry["data"] = sequence(entry)
    result: dict[str, dict[str, dict[str, float]]] = {}
    for tracker in dict.fromkeys(entry["tracker"] for entry in entries):
        mine = [entry for entry in entries if entry["tracker"] == tracker]
        groups = {"all": mine}
        for entry in mine:
            groups.setdefault(entry["group"], []).append(entry)
        result[tracker] = {name: combined(part) for name, part in groups.items()}
    return result


def main() -> int:
    """Runs the command line; returns the exit code."""
    source, target = map(Path, sys.argv[1:])
    # The metrics print the time of every call.
    with contextlib.redirect_stdout(io.StringIO()):
        result = scores(json.loads(source.read_text()))
    target.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
