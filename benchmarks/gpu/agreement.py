"""How far `--device cuda` agrees with `--device cpu` on the same clip: tracks and pictures.

dualface-client run CLIP -o cpu.mp4 --crf 10 --tracks cpu.txt --device cpu
dualface-client run CLIP -o cuda.mp4 --crf 10 --tracks cuda.txt --device cuda --encoder x264
python benchmarks/gpu/agreement.py cpu cuda --out agreement.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import av
import numpy as np


def rows_of(path: Path) -> dict[tuple[int, int], tuple[float, ...]]:
    """Boxes by frame and identity of a MOTChallenge file."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return {(int(row[0]), int(row[1])): tuple(map(float, row[2:6])) for row in rows}


def iou(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    """Overlap of two boxes given as x, y, width, height."""
    width = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    height = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    both = max(0.0, width) * max(0.0, height)
    return both / (one[2] * one[3] + two[2] * two[3] - both)


def tracks(one: Path, two: Path) -> dict[str, float]:
    """Share of boxes that agree."""
    first, second = rows_of(one), rows_of(two)
    overlaps = [iou(box, second[key]) for key, box in first.items() if key in second]
    total = len(first | second)
    return {
        "boxes_of_either": total,
        "in_both": len(overlaps),
        "share_iou_0.9": round(sum(value >= 0.9 for value in overlaps) / total, 5),
        "lowest_iou": round(min(overlaps), 4),
    }


def pictures(one: Path, two: Path) -> dict[str, float]:
    """PSNR of luma, frame by frame."""
    values = []
    with av.open(str(one)) as first, av.open(str(two)) as second:
        for left, right in zip(first.decode(video=0), second.decode(video=0), strict=True):
            planes: list[Any] = [frame.to_ndarray(format="gray") for frame in (left, right)]
            error = float(np.mean((planes[0].astype(np.float32) - planes[1]) ** 2))
            values.append(99.0 if error == 0 else 10 * np.log10(255**2 / error))
    return {
        "frames": len(values),
        "psnr_lowest_db": round(float(np.min(values)), 2),
        "psnr_1_percent_db": round(float(np.percentile(values, 1)), 2),
        "psnr_median_db": round(float(np.median(values)), 2),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("one", type=Path, help="path without suffix of .mp4 and .txt")
    parser.add_argument("two", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    one, two = options.one, options.two
    found = {
        "tracks": tracks(one.with_suffix(".txt"), two.with_suffix(".txt")),
        "pictures": pictures(one.with_suffix(".mp4"), two.with_suffix(".mp4")),
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
