"""What is lost if the detector sees only one frame of several: the tracking clips, replayed.

    python -m benchmarks.tracking.build --seeds 2
    python -m benchmarks.detect_every [--seeds 2] [--every 1 2 3 4] [--out FILE]

Faces between two looks are filled in as the program does it (`stream.gaps`); their embeddings are
those of the nearest face that was really there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from benchmarks.tracking.build import cache_dir
from benchmarks.tracking.cache import Seen, Sight, Watcher
from benchmarks.tracking.clipset import clips
from benchmarks.tracking.compare import figures
from benchmarks.tracking.measures import TileCounts, count_tiles, total
from benchmarks.tracking.replay import play
from dualface_client.settings.tracking import SceneSettings
from dualface_client.stream.gaps import Gaps, longest_s
from dualface_client.types import Faces

#: Of most clips.
RATE = Fraction(25)


def thinned(sights: Sequence[Sight], every: int) -> tuple[list[Sight], int]:
    """Sights of which only some frames were looked at, and how many frames those were."""
    gaps, found, looked_at, first = (
        Gaps(SceneSettings(), longest_s(every, RATE)),
        [sights[0]],
        1,
        1,
    )
    gaps.fill([sights[0].time_s], [sights[0].thumbnail], sights[0].faces)
    while first < len(sights):
        stride = sights[first : first + every]
        filled = gaps.fill(
            [sight.time_s for sight in stride],
            [sight.thumbnail for sight in stride],
            stride[-1].faces,
        )
        looked_at += len(stride) if filled is None else 1
        if filled is not None:
            pairs = zip(stride[:-1], filled, strict=True)
            stride = [*(_guessed(*pair) for pair in pairs), stride[-1]]
        found += stride
        first += every
    return found, looked_at


def _guessed(sight: Sight, faces: Faces) -> Sight:
    """The same frame with faces that nobody detected."""
    seen = sight.faces.boxes_xyxy_px
    if not len(seen):
        blank = np.zeros((len(faces), sight.embeddings.shape[1]), np.float32)
        return replace(
            sight, faces=faces, embeddings=blank, sharpness=np.zeros(len(faces), np.float32)
        )
    rows = [int(np.abs(seen - box).sum(axis=1).argmin()) for box in faces.boxes_xyxy_px]
    return replace(
        sight, faces=faces, embeddings=sight.embeddings[rows], sharpness=sight.sharpness[rows]
    )


def measured(seen: Sequence[Seen], every: int) -> dict[str, Any]:
    """One row."""
    counts: list[TileCounts] = []
    looked_at = frames = reid_frames = 0
    for clip in seen:
        sights, looked = (
            (list(clip.sights), len(clip.sights)) if every == 1 else thinned(clip.sights, every)
        )
        played = play(cast(Seen, SimpleNamespace(truth=clip.truth, sights=sights)), "conditional")
        counts.append(count_tiles(played, clip.truth))
        looked_at, frames = looked_at + looked, frames + len(sights)
        reid_frames += sum(map(bool, played.reid_faces))
    return {
        "every": every,
        "frames": frames,
        "looked_at_share": round(looked_at / frames, 3),
        "reid_frames": reid_frames,
        **figures(total(counts)),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    watcher = Watcher(cache_dir())
    seen = [Seen(watcher.watch(clip)) for clip in clips(range(options.seeds))]
    rows = [measured(seen, every) for every in options.every]
    text = json.dumps(rows, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
