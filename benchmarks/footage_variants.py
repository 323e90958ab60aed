"""Makes clips of the same kinds: each one mirrored, backwards, cropped, small, fast, dark, boxed.

    python benchmarks/footage_variants.py DIR --out DIR
    for each in OUT/*; do python benchmarks/footage.py $each --out results/$(basename $each); done

A rule that fits ten clips may fit nothing else. What these show is what the clips show, so whatever
comes out worse in one of them is a rule that was too narrow. Their sound is made up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.types import ByteArray
from scripts.clips.timing import bgr_of, video_frames
from scripts.clips.writing import write_clip

#: Level of the surface around a boxed picture.
_SURFACE = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to change a clip.

    Attributes:
        picture: Changes a BGR picture.
        is_backwards: Plays it from its end.
        speed: How many times as fast it is.
        keeps: Of how many frames one is kept.
        crf: x264's quality.
    """

    picture: Callable[[ByteArray], ByteArray] = lambda bgr: bgr
    is_backwards: bool = False
    speed: int = 1
    keeps: int = 1
    crf: int = 18


def _even(bgr: ByteArray) -> ByteArray:
    height, width = bgr.shape[:2]
    return np.ascontiguousarray(bgr[: height - height % 2, : width - width % 2])


def _cropped(bgr: ByteArray) -> ByteArray:
    """Without a rim at the left and the right and below."""
    height, width = bgr.shape[:2]
    return bgr[: int(0.9 * height), int(0.06 * width) : int(0.94 * width)]


def _small(bgr: ByteArray) -> ByteArray:
    return np.asarray(cv2.resize(bgr, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), np.uint8)


def _dark(bgr: ByteArray) -> ByteArray:
    """Dark and reddish."""
    gains = np.array([0.6, 0.75, 0.9], np.float32)
    return np.asarray(np.clip(bgr * gains, 0, 255), np.uint8)


def _boxed(bgr: ByteArray) -> ByteArray:
    """On a dark surface, as where a window is shared in a call."""
    height, width = bgr.shape[:2]
    down, across = height // 10, 3 * width // 20
    border = cv2.copyMakeBorder(
        bgr, down, down, across, across, cv2.BORDER_CONSTANT, value=(_SURFACE,) * 3
    )
    return np.asarray(border, np.uint8)


VARIANTS = {
    "mirrored": Variant(lambda bgr: bgr[:, ::-1]),
    "backwards": Variant(is_backwards=True),
    "cropped": Variant(_cropped),
    "small": Variant(_small, crf=36),
    "fast": Variant(speed=2),
    "dark": Variant(_dark, keeps=2),
    "boxed": Variant(_boxed),
}


def make(clip: Path, variant: Variant, path: Path) -> None:
    """Writes one.

    Args:
        clip: Any video of at least two frames; its mean frame rate is kept.
        variant: What to change.
        path: MP4 file to write.
    """
    frames = list(video_frames(clip))
    if len(frames) < 2:
        raise SystemExit(f"{clip}: {len(frames)} frames, expected at least two")
    rate = Fraction(len(frames) - 1) / (frames[-1][0] - frames[0][0])
    kept = frames[:: -variant.keeps if variant.is_backwards else variant.keeps]

    def pictures() -> Iterator[ByteArray]:
        for _, frame in kept:
            yield _even(variant.picture(bgr_of(frame)))

    height, width = next(pictures()).shape[:2]
    fps = (rate * variant.speed / variant.keeps).limit_denominator(1001)
    write_clip(path, pictures(), (width, height), fps, float(len(kept) / fps), variant.crf)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder of MP4 files of some seconds each")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=VARIANTS, nargs="+", default=list(VARIANTS))
    options = parser.parse_args()
    for name in options.only:
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for clip in sorted(options.clips.glob("*.mp4")):
            make(clip, VARIANTS[name], folder / clip.name)
            print(folder / clip.name, flush=True)


if __name__ == "__main__":
    main()
