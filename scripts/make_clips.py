"""Composes two-face clips with known ground truth from two real people's clips.

    python scripts/make_clips.py cross_once sizes --out clips --seconds 10 --seed 1

writes `clips/cross_once.mp4` and `clips/cross_once.json` and so on. The format of the JSON is
described in `scripts/clips/truth.py`. The same options give the same pictures and the same truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.errors import DualfaceError, UsageError
from dualface_client.settings import paths
from dualface_client.types import ByteArray
from scripts.clips.compositor import Cast, Studio, compose
from scripts.clips.people import Actor, Passer
from scripts.clips.scenarios import SCENARIOS, Stage
from scripts.clips.sources import SOURCES, Detector
from scripts.clips.truth import FrameTruth, Truth
from scripts.clips.writing import TIME_BASE, TONE_LENGTH_S, tone_schedule, write_clip
from scripts.reference_models import ReferenceModels


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What to compose.

    Attributes:
        scenario: Key of `SCENARIOS`.
        seconds: Length.
        seed: Decides who starts left, small differences of place, and the part of the sources.
        fps: Frames per second.
        size_wh: Picture size in pixels, even.
        blur_px: Sigma of a Gaussian blur over the whole picture, 0 for none.
        gain: Brightness factor; below 1 it is darker and noisier.
        crf: x264's quality, 0 to 51; 35 and more is a low bit rate.
    """

    scenario: str
    seconds: float = 10.0
    seed: int = 0
    fps: Fraction = Fraction(25)
    size_wh: tuple[int, int] = (1920, 1080)
    blur_px: float = 0.0
    gain: float = 1.0
    crf: int = 20

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise UsageError(f"no scenario {self.scenario!r}; there are {', '.join(SCENARIOS)}")
        if self.seconds <= 0 or self.fps <= 0:
            raise UsageError(f"seconds {self.seconds} and fps {self.fps} must be positive")
        if min(self.size_wh) < 64 or self.size_wh[0] % 2 or self.size_wh[1] % 2:
            raise UsageError(f"size {self.size_wh}: expected even numbers of at least 64")

    @property
    def frame_count(self) -> int:
        """Frames of the clip."""
        return max(round(self.seconds * self.fps), 1)


class Composer:
    """Yields a plan's pictures and gathers their truth.

    Args:
        plan: What to compose.
        clips_dir: Where the source clips lie.
        detector: Finds the source's faces where the cache lacks them.
    """

    def __init__(self, plan: ClipPlan, clips_dir: Path, detector: Detector) -> None:
        self._plan = plan
        starts = np.random.default_rng([plan.seed, 1]).integers(0, 100000, len(SOURCES))
        first, second = (
            Actor(identity, clips_dir, detector, int(start), plan.seconds)
            for identity, start in zip(SOURCES, starts, strict=True)
        )
        passer = Passer(clips_dir, detector) if plan.scenario.startswith("passer_by") else None
        self._cast = Cast((first, second), passer)
        self._studio = Studio(plan.size_wh, plan.seed)
        self._motion = SCENARIOS[plan.scenario](Stage.draw(plan.seed, plan.seconds))
        self._frames: list[FrameTruth] = []

    def pictures(self) -> Iterator[ByteArray]:
        """BGR `(height, width, 3)` uint8, in order; once only."""
        for index in range(self._plan.frame_count):
            time_s = float(index / self._plan.fps)
            scene = self._motion(time_s)
            picture, people = compose(scene, time_s, self._cast, self._studio)
            pts = round(index / self._plan.fps / TIME_BASE)
            self._frames.append(FrameTruth(index, pts, scene.shot, people))
            yield self._spoil(picture, index)

    def _spoil(self, picture: ByteArray, index: int) -> ByteArray:
        plan = self._plan
        if plan.blur_px > 0:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), plan.blur_px), np.uint8)
        if plan.gain != 1:
            # Sensor noise stays while the light goes.
            rng = np.random.default_rng([plan.seed, 2, index])
            noise = rng.normal(0, 2.5, picture.shape[:2]).astype(np.float32)[..., None]
            dimmed = picture.astype(np.float32) * plan.gain + (noise if plan.gain < 1 else 0)
            picture = np.clip(dimmed, 0, 255).astype(np.uint8)
        return picture

    def truth(self, clip_name: str) -> Truth:
        """The truth of the pictures yielded so far."""
        plan = self._plan
        opening = self._frames[: max(int(plan.fps / 2), 1)]
        centers = {
            identity: np.mean([np.mean(frame.person(identity).box[::2]) for frame in opening])
            for identity in SOURCES
        }
        left, right = sorted(centers, key=lambda identity: float(centers[identity]))
        return Truth(
            clip=clip_name,
            scenario=plan.scenario,
            seed=plan.seed,
            size=plan.size_wh,
            fps=f"{plan.fps.numerator}/{plan.fps.denominator}",
            time_base=f"{TIME_BASE.numerator}/{TIME_BASE.denominator}",
            frame_count=len(self._frames),
            people={str(identity): spec.file_name for identity, spec in SOURCES.items()},
            expected_left=left,
            expected_right=right,
            tone_length_s=TONE_LENGTH_S,
            tones=tone_schedule(float(plan.frame_count / plan.fps)),
            frames=tuple(self._frames),
        )


def make_clip(plan: ClipPlan, path: Path, clips_dir: Path, detector: Detector) -> Truth:
    """Composes one clip and writes its truth beside it.

    Args:
        plan: What to compose.
        path: MP4 file to write; the truth goes to the same name with `.json`.
        clips_dir: Where the source clips lie.
        detector: Finds the source's faces where the cache lacks them.

    Returns:
        The truth.

    Raises:
        AssetError: A source clip is missing.
    """
    composer = Composer(plan, clips_dir, detector)
    length_s = float(plan.frame_count / plan.fps)
    write_clip(path, composer.pictures(), plan.size_wh, plan.fps, length_s, plan.crf)
    truth = composer.truth(path.name)
    truth.save(path.with_suffix(".json"))
    return truth


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compose two-face clips with ground truth.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="or `all`")
    parser.add_argument("--list", action="store_true", help="name the scenarios and stop")
    parser.add_argument("--out", type=Path, default=Path(), help="directory to write to")
    parser.add_argument("--sources", type=Path, default=paths.clips_dir())
    parser.add_argument("--models", type=Path, default=paths.models_dir())
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fps", type=Fraction, default=Fraction(25), help="25, 30000/1001, ...")
    parser.add_argument("--size", type=_size, default=(1920, 1080), metavar="WxH")
    parser.add_argument("--blur", type=float, default=0.0, help="Gaussian sigma in pixels")
    parser.add_argument("--gain", type=float, default=1.0, help="brightness; 0.2 is dark, noisy")
    parser.add_argument("--crf", type=int, default=20, help="x264 quality; 40 is a low bit rate")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.list:
        for name, build in SCENARIOS.items():
            print(f"{name:28} {build.__doc__}")
        return 0
    names = list(SCENARIOS) if options.scenarios == ["all"] else options.scenarios
    if not names:
        print("name at least one scenario, or `all`; --list shows them", file=sys.stderr)
        return 2
    try:
        _make_all(names, options)
    except DualfaceError as error:
        print(f"make_clips: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _make_all(names: Sequence[str], options: argparse.Namespace) -> None:
    models = ReferenceModels(options.models)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        plan = ClipPlan(
            name,
            options.seconds,
            options.seed,
            options.fps,
            options.size,
            options.blur,
            options.gain,
            options.crf,
        )
        start = time.perf_counter()
        path = options.out / f"{name}.mp4"
        truth = make_clip(plan, path, options.sources, models)
        took_s = time.perf_counter() - start
        print(f"{path}: {truth.frame_count} frames in {took_s:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
