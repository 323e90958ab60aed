"""Composes two-face clips with known ground truth from two real people's clips.

    python scripts/make_clips.py cross_once sizes --out clips --seconds 10 --seed 1

writes `clips/cross_once.mp4` and `clips/cross_once.json` and so on; `all` makes every scenario,
`films` every kind of footage of `scripts/clips/films.py`. The format of the JSON is
described in `scripts/clips/truth.py`. The same options give the same pictures and the same truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.errors import DualfaceError, UsageError
from dualface_client.settings import paths
from dualface_client.types import ByteArray
from scripts.clips.compositor import Cast, Compositor, panel_px
from scripts.clips.films import FILMS, Film, Shown, film_of
from scripts.clips.people import Actor, Photo
from scripts.clips.scenarios import SCENARIOS, Stage
from scripts.clips.sources import SOURCES, Detector
from scripts.clips.truth import FrameTruth, Truth
from scripts.clips.writing import TIME_BASE, TONE_LENGTH_S, tone_schedule, write_clip
from scripts.reference_models import ReferenceModels


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What to compose.

    Attributes:
        scenario: Key of `SCENARIOS` or `FILMS`.
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
        if self.scenario not in SCENARIOS | FILMS:
            known = ", ".join([*SCENARIOS, *FILMS])
            raise UsageError(f"no scenario {self.scenario!r}; there are {known}")
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
        pixels: Whether to draw; without, pictures are black, the truth is the same but for
            rougher shares of what is hidden, and it takes a few milliseconds a second of film.
    """

    def __init__(
        self, plan: ClipPlan, clips_dir: Path, detector: Detector, *, pixels: bool = True
    ) -> None:
        self._plan = plan
        starts = np.random.default_rng([plan.seed, 1]).integers(0, 100000, len(SOURCES))
        first, second = (
            Actor(identity, clips_dir, detector, int(start), plan.seconds)
            for identity, start in zip(SOURCES, starts, strict=True)
        )
        cast = Cast((first, second), lambda name: Photo(clips_dir, detector, name))
        film = film_of(plan.scenario)
        self._compositor = Compositor(
            cast, plan.size_wh, plan.seed, detail=film.detail, pixels=pixels
        )
        self._motion = film.build(Stage.draw(plan.seed, plan.seconds))
        self._last: Shown | None = None
        self._frames: list[FrameTruth] = []

    def pictures(self) -> Iterator[ByteArray]:
        """BGR `(height, width, 3)` uint8, in order; once only."""
        for index in range(self._plan.frame_count):
            time_s = float(index / self._plan.fps)
            shown = self._motion(time_s)
            picture, people = self._compositor.picture(shown, time_s)
            pts = round(index / self._plan.fps / TIME_BASE)
            self._frames.append(self._described(FrameTruth(index, pts, shown.shot, people), shown))
            yield self._spoil(picture, index)

    def _described(self, frame: FrameTruth, shown: Shown) -> FrameTruth:
        """With what is true of the picture besides its people."""
        size_wh, last = self._plan.size_wh, self._last
        self._last = shown
        panels = tuple(panel_px(panel.place, size_wh) for panel in shown.panels)
        if shown.has_windows:
            return changed(frame, panels=panels)
        motion = (0.0, 0.0)
        if last is not None and last.shot == shown.shot:
            motion = _motion(last.panels[0].lens.window, shown.panels[0].lens.window, panels[0])
        whole = panels[0] == (0, 0, *size_wh)
        return changed(frame, content=None if whole else panels[0], motion=motion)

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
        left, right = _sides(self._frames, max(int(plan.fps / 2), 1))
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


def _motion(
    before: Sequence[float], now: Sequence[float], panel: Sequence[int]
) -> tuple[float, float]:
    """How far the picture moved when a lens's window (x, y, width, height) did, in pixels.

    It is the motion of the picture's middle.
    """
    middles = [(window[i] + window[i + 2] / 2) for i in (0, 1) for window in (before, now)]
    sizes = panel[2] - panel[0], panel[3] - panel[1]
    x, y = (round((middles[2 * i] - middles[2 * i + 1]) / now[i + 2] * sizes[i], 3) for i in (0, 1))
    return x, y


def _sides(frames: Sequence[FrameTruth], count: int) -> tuple[int, int]:
    """Who is left and who is right in the first `count` frames in which both are in the picture.

    Of two above each other the upper one is left. Of two who are never seen together it is the one
    who is seen first.
    """
    first, second = SOURCES
    shared = [f for f in frames if f.person(first).on_screen and f.person(second).on_screen]
    if not shared:
        seen = next((f for f in frames if any(p.on_screen for p in f.people)), frames[0])
        return (first, second) if seen.person(first).on_screen else (second, first)
    boxes = np.array([[f.person(i).box for i in SOURCES] for f in shared[:count]])
    x, y = np.diff((boxes[:, :, :2] + boxes[:, :, 2:]).mean(axis=0) / 2, axis=0)[0]
    above = abs(x) < 0.25 * abs(y)
    return (first, second) if (y if above else x) > 0 else (second, first)


def truth_of(plan: ClipPlan, clips_dir: Path, detector: Detector) -> Truth:
    """The truth of a clip that nobody draws; see `Composer`."""
    composer = Composer(plan, clips_dir, detector, pixels=False)
    for _ in composer.pictures():
        pass
    return composer.truth(f"{plan.scenario}.mp4")


def usual_plan(name: str, film: Film | None = None) -> ClipPlan:
    """A film, or a scenario, at its own size and length."""
    film = film or film_of(name)
    return ClipPlan(name, film.seconds, size_wh=film.size_wh)


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
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="or `all`, or `films`")
    parser.add_argument("--list", action="store_true", help="name the scenarios and stop")
    parser.add_argument("--out", type=Path, default=Path(), help="directory to write to")
    parser.add_argument("--sources", type=Path, default=paths.clips_dir())
    parser.add_argument("--models", type=Path, default=paths.models_dir())
    parser.add_argument("--seconds", type=float, help="default: 10, a film's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fps", type=Fraction, default=Fraction(25), help="25, 30000/1001, ...")
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="default: 1920x1080, a film's own"
    )
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
        films = {name: film.build for name, film in FILMS.items()}
        for name, build in (SCENARIOS | films).items():
            print(f"{name:28} {build.__doc__}")
        return 0
    sets = {"all": list(SCENARIOS), "films": list(FILMS)}
    names = [each for name in options.scenarios for each in sets.get(name, [name])]
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
        if name not in SCENARIOS | FILMS:
            ClipPlan(name)  # says which there are
        film = film_of(name)
        plan = ClipPlan(
            name,
            film.seconds if options.seconds is None else options.seconds,
            options.seed,
            options.fps,
            options.size or film.size_wh,
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
