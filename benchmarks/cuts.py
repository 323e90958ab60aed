"""How well scene cuts are found: on labelled footage, on joined pieces, and in an hour without any.

    python -m benchmarks.cuts DIR [DIR ...] [--hours 1] [--json FILE]

DIR holds the clips that `labels/cuts.txt` names, as far as there are any; those of `make clips` are
always looked at. Three measurements:

- `labelled`: the clips as they are.
- `joined`: pieces of different clips in random order, with bars, in grey, dark or noisy, encoded by
  x264 with high and with poor quality.
- `hour`: all shots of the labelled clips once more, each by itself, mirrored, backwards, at double
  speed, brighter, and noisy, until an hour of 25 frames/s is full: whatever is announced is false.

A cut is found if it is announced at most one frame early or late. PySceneDetect's detectors take
part where `scenedetect-headless` is installed, FFmpeg's `scdet` always does; both as they come,
but PySceneDetect's least length of a scene is 0.2 s as here (usually 0.6 s, which misses cuts).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import av
import av.filter
import cv2
import numpy as np

from dualface_client.imaging.cpu import CpuImaging
from dualface_client.settings.paths import clips_dir
from dualface_client.tracking.scene import CutDetector
from dualface_client.types import ByteArray, Nv12Image
from scripts.clips.sources import read_frames

LABELS = Path(__file__).with_name("labels") / "cuts.txt"
FPS = 25
SMALL_WH = (256, 144)
JOINED_WH = (640, 360)
#: Frames by which an announcement may be early or late.
TOLERANCE = 1
JOINED_CLIPS, PIECES = 6, 16
#: Shots of which pieces are taken, and their length in frames.
LEAST_SHOT, PIECE = 30, (20, 60)

Change = Callable[[ByteArray], ByteArray]


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known about one clip: its length, its cuts, and frames that count neither way."""

    frames: int
    cuts: tuple[int, ...]
    ignored: tuple[int, ...] = ()

    @property
    def shots(self) -> list[tuple[int, int]]:
        """First frame and end of each shot."""
        edges = sorted({0, *self.cuts, *self.ignored, self.frames})
        return list(pairwise(edges))


def read_labels(text: str) -> dict[str, Labels]:
    """Labels by file name, see the head of `labels/cuts.txt`.

    Raises:
        ValueError: A line is neither a clip nor frames of one.
    """
    frames: dict[str, int] = {}
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    name = ""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words and words[-1].endswith(":"):
            name, count = words
            frames[name] = int(count.removesuffix(":"))
        elif words:
            if not name:
                raise ValueError(f"{line!r}: expected NAME FRAMES: before the first frames")
            numbers[name] += [int(word) for word in words]
    return {
        name: Labels(
            count,
            tuple(n for n in numbers[name] if n >= 0),
            tuple(-n for n in numbers[name] if n < 0),
        )
        for name, count in frames.items()
    }


@dataclass(frozen=True, slots=True)
class Look:
    """What detectors see of a frame: the program's thumbnail, and BGR `(144, 256, 3)`."""

    thumbnail: ByteArray
    bgr: ByteArray


class Detector(Protocol):
    """Takes the frames of one clip in order."""

    def take(self, look: Look, frame: int) -> list[int]:
        """Frames at which a cut is announced now; they may lie a few frames back."""


class Ours:
    """The program's detector."""

    def __init__(self) -> None:
        self._detector = CutDetector()

    def take(self, look: Look, frame: int) -> list[int]:
        """See `Detector`; at 25 frames/s."""
        return [frame] if self._detector.update(look.thumbnail, frame / FPS) else []


class Scdet:
    """FFmpeg's `scdet` filter with its usual threshold of 10."""

    def __init__(self) -> None:
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=SMALL_WH[0],
            height=SMALL_WH[1],
            format=av.VideoFormat("yuv420p"),
            time_base=Fraction(1, FPS),
        )
        self._graph.link_nodes(source, self._graph.add("scdet"), self._graph.add("buffersink"))
        self._graph.configure()

    def take(self, look: Look, frame: int) -> list[int]:
        """See `Detector`."""
        picture = av.VideoFrame.from_ndarray(look.bgr, format="bgr24").reformat(format="yuv420p")
        picture.pts, picture.time_base = frame, Fraction(1, FPS)
        self._graph.push(picture)
        seen = self._graph.pull()
        return [frame] if "lavfi.scd.time" in getattr(seen, "metadata", {}) else []


class SceneDetect:
    """One of PySceneDetect's detectors."""

    def __init__(self, name: str) -> None:
        self._library: Any = import_module("scenedetect")
        self._detector: Any = getattr(self._library, name)(min_scene_len=FPS // 5)

    def take(self, look: Look, frame: int) -> list[int]:
        """See `Detector`."""
        time = self._library.FrameTimecode(frame, fps=float(FPS))
        return [found.frame_num for found in self._detector.process_frame(time, look.bgr)]


def detectors() -> dict[str, Callable[[], Detector]]:
    """What is compared: a maker of fresh detectors for each name."""
    made: dict[str, Callable[[], Detector]] = {"dualface": Ours, "FFmpeg scdet": Scdet}
    if find_spec("scenedetect") is None:
        print("scenedetect-headless is not installed: PySceneDetect is left out", file=sys.stderr)
        return made
    for name in ("ContentDetector", "AdaptiveDetector", "HistogramDetector"):
        made[f"PySceneDetect {name}"] = partial(SceneDetect, name)
    return made


@dataclass(slots=True)
class Tally:
    """Counts of one detector.

    Attributes:
        cuts: True ones.
        found: Of them.
        false: Announcements without a cut.
        places: Of errors, as `CLIP:FRAME missed` or `CLIP:FRAME false`.
    """

    cuts: int = 0
    found: int = 0
    false: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, name: str, announced: Sequence[int], labels: Labels) -> None:
        """Compares what was announced in one clip with its labels."""
        left = [n for n in announced if not _near(n, labels.ignored)]
        for cut in labels.cuts:
            self.cuts += 1
            near = [n for n in left if abs(n - cut) <= TOLERANCE]
            if near:
                self.found += 1
                left.remove(min(near, key=partial(_distance, cut)))
            else:
                self.places.append(f"{name}:{cut} missed")
        self.false += len(left)
        self.places += [f"{name}:{n} false" for n in left]


def _distance(one: int, other: int) -> int:
    return abs(one - other)


def _near(frame: int, others: Iterable[int]) -> bool:
    return any(abs(frame - other) <= TOLERANCE for other in others)


def looks(path: Path) -> Iterator[Look]:
    """A clip as the detectors see it."""
    imaging = CpuImaging()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            nv12 = frame.reformat(format="nv12").to_ndarray()
            height, width = frame.height // 2 * 2, nv12.shape[1] // 2 * 2
            y, uv = nv12[:height, :width], nv12[frame.height :, :width]
            image = Nv12Image(y, uv.reshape(len(uv), width // 2, 2)[: height // 2])
            bgr = frame.reformat(*SMALL_WH, format="bgr24").to_ndarray()
            yield Look(imaging.thumbnail(image), np.asarray(bgr, np.uint8))


def changed(look: Look, change: Change) -> Look:
    """The same frame with another look."""
    bgr = change(look.bgr)
    ycrcb = cv2.resize(
        cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb), (64, 36), interpolation=cv2.INTER_AREA
    )
    return Look(np.ascontiguousarray(ycrcb[..., [0, 2, 1]], np.uint8), bgr)


def watch(
    name: str,
    seen: Iterable[Look],
    labels: Labels,
    makers: dict[str, Callable[[], Detector]],
    tallies: dict[str, Tally],
) -> int:
    """Shows one clip to fresh detectors; returns its number of frames."""
    watching = {key: make() for key, make in makers.items()}
    announced: defaultdict[str, list[int]] = defaultdict(list)
    count = 0
    for count, look in enumerate(seen, start=1):
        for key, detector in watching.items():
            announced[key] += detector.take(look, count - 1)
    for key, tally in tallies.items():
        tally.add(name, announced[key], labels)
    return count


# -- joined pieces --------------------------------------------------------------------------------


def _letterboxed(bgr: ByteArray) -> ByteArray:
    out = np.full_like(bgr, 16)
    height = len(bgr) * 3 // 4
    top = (len(bgr) - height) // 2
    out[top : top + height] = cv2.resize(bgr, (bgr.shape[1], height))
    return out


def _upright(bgr: ByteArray) -> ByteArray:
    out, third = np.full_like(bgr, 16), bgr.shape[1] // 3
    out[:, third : 2 * third] = bgr[:, third : 2 * third]
    return out


def _grey(bgr: ByteArray) -> ByteArray:
    return np.asarray(
        cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8
    )


def _dark(bgr: ByteArray) -> ByteArray:
    return np.asarray(cv2.convertScaleAbs(bgr, alpha=0.35, beta=4), np.uint8)


def _noisy(bgr: ByteArray) -> ByteArray:
    noise = np.random.default_rng(int(bgr[::7, ::7].sum())).normal(0, 10, bgr.shape)
    return np.clip(bgr + noise, 0, 255).astype(np.uint8)


def _as_is(bgr: ByteArray) -> ByteArray:
    return bgr


#: Look and x264 quality of each joined clip.
JOINED: tuple[tuple[Change, int], ...] = (
    (_as_is, 20),
    (_as_is, 40),
    (_letterboxed, 28),
    (_upright, 28),
    (_grey, 34),
    (_dark, 28),
)


def join(
    path: Path, clips: dict[str, tuple[Path, Labels]], rng: np.random.Generator, style: int
) -> Labels:
    """Writes a clip of pieces, neighbours from different files, and returns its labels."""
    change, crf = JOINED[style % len(JOINED)]
    cuts: list[int] = []
    count, last = 0, ""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(
            "libx264", rate=FPS, options={"crf": str(crf), "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = *JOINED_WH, "yuv420p"
        for _ in range(PIECES):
            last = str(rng.choice([name for name in sorted(clips) if name != last]))
            source, labels = clips[last]
            long = [shot for shot in labels.shots if shot[1] - shot[0] >= LEAST_SHOT]
            first, end = long[int(rng.integers(len(long)))]
            size = min(int(rng.integers(*PIECE)), end - first - 2)
            start = first + 1 + int(rng.integers(end - first - 1 - size))
            cuts.append(count)
            for bgr in read_frames(source, start, size):
                picture = change(np.asarray(cv2.resize(bgr, JOINED_WH), np.uint8))
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
                count += 1
        out.mux(stream.encode())
    return Labels(count, tuple(cuts[1:]))


# -- an hour without cuts -------------------------------------------------------------------------


def _mirrored(bgr: ByteArray) -> ByteArray:
    return np.ascontiguousarray(bgr[:, ::-1])


def _brighter(bgr: ByteArray) -> ByteArray:
    return np.asarray(cv2.convertScaleAbs(bgr, alpha=1.2, beta=10), np.uint8)


#: Looks of the hour, and the step through the frames: -1 is backwards, 2 is double speed.
PASSES: tuple[tuple[Change, int], ...] = (
    (_as_is, 1),
    (_mirrored, -1),
    (_brighter, 1),
    (_noisy, 1),
    (_as_is, 2),
    (_dark, -1),
    (_grey, 1),
    (_upright, 1),
)


def shots_of(seen: Iterable[Look], labels: Labels) -> Iterator[list[Look]]:
    """The shots of a clip, long ones in parts of a minute."""
    edges = set(labels.cuts) | set(labels.ignored)
    shot: list[Look] = []
    for n, look in enumerate(seen):
        if shot and (n in edges or len(shot) == 60 * FPS):
            yield shot
            shot = []
        shot.append(look)
    yield shot


def watch_hour(
    clips: dict[str, tuple[Path, Labels]],
    frames: int,
    makers: dict[str, Callable[[], Detector]],
    tallies: dict[str, Tally],
) -> int:
    """Shows shots until there were `frames` of them; returns how many there were."""
    count = 0
    while True:
        for change, step in PASSES:
            for name, (path, labels) in clips.items():
                for shot in shots_of(looks(path), labels):
                    if count >= frames:
                        return count
                    seen = (changed(look, change) for look in shot[::step])
                    none = Labels(len(shot), ())
                    count += watch(f"{name}, {change.__name__}", seen, none, makers, tallies)


def find_clips(
    folders: Sequence[Path], labels: dict[str, Labels]
) -> dict[str, tuple[Path, Labels]]:
    """The labelled clips that are there; says which are not."""
    found: dict[str, tuple[Path, Labels]] = {}
    for name, known in labels.items():
        paths = [folder / name for folder in folders if (folder / name).is_file()]
        if paths:
            found[name] = paths[0], known
        else:
            print(f"{name}: labelled, but in none of the folders", file=sys.stderr)
    return found


def report(part: str, tallies: dict[str, Tally]) -> None:
    """Prints one part's table."""
    for name, tally in tallies.items():
        recall = f"{tally.found}/{tally.cuts}" if tally.cuts else "-"
        total = tally.found + tally.false
        precision = f"{100 * tally.found / total:.1f} %" if tally.cuts and total else "-"
        print(f"{part:9} {name:32} found {recall:9} false {tally.false:4} precision {precision}")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Recall and precision of scene cuts.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--hours", type=float, default=1.0, help="of footage without cuts; 0: none")
    parser.add_argument("--only", help="one detector, for example dualface")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the counts")
    options = parser.parse_args(arguments)
    clips = find_clips([*options.folders, clips_dir()], read_labels(LABELS.read_text()))
    makers = {k: v for k, v in detectors().items() if options.only in (None, k)}
    if not clips or not makers:
        print("no labelled clip, or no such detector", file=sys.stderr)
        return 2
    parts: dict[str, dict[str, Tally]] = {
        part: {name: Tally() for name in makers} for part in ("labelled", "joined", "hour")
    }
    for name, (path, labels) in clips.items():
        count = watch(name, looks(path), labels, makers, parts["labelled"])
        if count != labels.frames:
            print(f"{path}: {count} frames, labelled are {labels.frames}", file=sys.stderr)
            return 2
    report("labelled", parts["labelled"])
    rng = np.random.default_rng(15)
    with tempfile.TemporaryDirectory() as folder:
        for n in range(JOINED_CLIPS):
            path = Path(folder) / f"joined_{n}.mp4"
            labels = join(path, clips, rng, n)
            watch(path.name, looks(path), labels, makers, parts["joined"])
    report("joined", parts["joined"])
    frames = watch_hour(clips, int(options.hours * 3600 * FPS), makers, parts["hour"])
    report("hour", parts["hour"])
    if options.json:
        counts = {part: {k: asdict(v) for k, v in each.items()} for part, each in parts.items()}
        for tally in counts["hour"].values():
            tally["frames"] = frames
        options.json.write_text(json.dumps(counts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
