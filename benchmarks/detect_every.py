"""What is lost if the detector sees only one frame of several: the tracking clips, replayed.

    python -m benchmarks.tracking.build --seeds 2
    python -m benchmarks.detect_every [--seeds 0 1] [--every 1 2 4 8 auto] [--out FILE]

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
from dualface_client.stream.gaps import Gaps, frames_per_look, longest_s, strides
from dualface_client.types import Faces

#: Frames of these clips that may wait in one place, at least (`stream.load`).
MAY_WAIT = 43


def thinned(sights: Sequence[Sight], every: int, rate: Fraction) -> tuple[list[Sight], int]:
    """Sights of which only some frames were looked at, and how many frames those were."""
    gaps, found, looked_at = Gaps(SceneSettings(), longest_s(every, rate)), list(sights), 0
    first = 0
    for stride in strides(sights, every):
        looked = {first + len(stride) - 1}

        def look(rows: Sequence[int], first: int = first, looked: set[int] = looked) -> list[Faces]:
            looked.update(first + row for row in rows)
            return [sights[first + row].faces for row in rows]

        times_s, thumbnails = zip(*((each.time_s, each.thumbnail) for each in stride), strict=True)
        for row, faces in enumerate(gaps.fill(times_s, thumbnails, stride[-1].faces, look), first):
            if row not in looked:
                found[row] = _guessed(sights[row], faces)
        looked_at += len(looked)
        first += len(stride)
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


def measured(seen: Sequence[Seen], every: int | None) -> dict[str, Any]:
    """One row; `every` is None for what the program does by itself."""
    counts: list[TileCounts] = []
    looked_at = frames = reid_frames = 0
    for clip in seen:
        rate = Fraction(clip.truth.fps)
        sights, looked = thinned(clip.sights, every or frames_per_look(rate, MAY_WAIT), rate)
        played = play(cast(Seen, SimpleNamespace(truth=clip.truth, sights=sights)), "conditional")
        counts.append(count_tiles(played, clip.truth))
        looked_at, frames = looked_at + looked, frames + len(sights)
        reid_frames += sum(map(bool, played.reid_faces))
    return {
        "every": every or "auto",
        "frames": frames,
        "looked_at_share": round(looked_at / frames, 3),
        "reid_frames": reid_frames,
        **figures(total(counts)),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--every", nargs="+", default=["1", "2", "4", "8", "auto"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    watcher = Watcher(cache_dir())
    seen = [Seen(watcher.watch(clip)) for clip in clips(options.seeds)]
    rows = [measured(seen, None if n == "auto" else int(n)) for n in options.every]
    text = json.dumps(rows, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
