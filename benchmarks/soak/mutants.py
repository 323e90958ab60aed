"""Damaged media: is every file either processed or refused by its name?

    python benchmarks/soak/mutants.py --out build/soak
    python benchmarks/soak/mutants.py --out DIR --count 1000 --seed 7

Makes small clips of several containers and codecs and damages copies of them by a seed: flipped
bytes, truncations, swapped boxes or pieces, zeroed and repeated ranges, and lies in size fields.
One `dualface-client run --workers 2` gets them all, so that a crash of the native code would be
seen and attributed. Writes mutants.json; exit status 1 where anything is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vitals import left_behind  # type: ignore[import-not-found] # the module beside this one

from dualface_client.errors import SourceError
from dualface_client.video.check import readable_frames
from tests import media
from tests.media import Audio, Clip

LIMIT_S = 3000
CLIPS = {
    "h264.mp4": Clip(frames=12, options={"g": "6"}, audio=[Audio(seconds=0.5)]),
    "front.mp4": Clip(frames=12, container={"movflags": "faststart"}),
    "pieces.mp4": Clip(frames=12, options={"g": "4"}, container={"movflags": "frag_keyframe"}),
    "h264.mkv": Clip(frames=12, audio=[Audio("libopus", seconds=0.5)]),
    "hevc.mp4": Clip(frames=12, codec="libx265"),
    "h264.ts": Clip(frames=12, audio=[Audio(seconds=0.5)]),
    "vp9.webm": Clip(frames=12, codec="libvpx-vp9", options={"deadline": "realtime"}),
    "mpeg4.avi": Clip(frames=12, codec="mpeg4", rate=Fraction(25)),
    "b_frames.avi": Clip(frames=12, options={"preset": "medium"}),
    "b_frames.asf": Clip(frames=12, options={"preset": "medium"}),
    "grey.mp4": Clip(frames=12, codec="libx265", pix_fmt="gray"),
}


def movie(path: Path, size_wh_px: tuple[int, int] = (64, 48)) -> Path:
    """A short video with sound."""
    return media.make(path, Clip(frames=12, size_wh_px=size_wh_px, audio=[Audio(seconds=0.5)]))


def cut_out(path: Path) -> Path:
    """An MP4 with an edit list."""
    return media.edit(movie(path), [(0.2, 0.0), (0.2, 0.24)])


def two_tracks(path: Path) -> Path:
    """Two video tracks, the second one with sound."""
    return media.beside(
        path, [movie(path.with_suffix(".1.mp4"), (32, 24)), movie(path.with_suffix(".2.mp4"))]
    )


def joined(path: Path) -> Path:
    """A transport stream of parts, the last of another size."""
    first, other = movie(path.with_suffix(".1.ts")), movie(path.with_suffix(".2.ts"), (48, 64))
    return media.join(path, [first, first, other])


def programmes(path: Path) -> Path:
    """A transport stream with two programmes."""
    parts = movie(path.with_suffix(".1.ts"), (32, 24)), movie(path.with_suffix(".2.ts"))
    return media.programmes(path, parts)


def mirrored(path: Path) -> Path:
    """An MP4 whose display matrix mirrors."""
    return media.set_matrix(movie(path), -1, 0, 0, 1)


MADE: dict[str, Callable[[Path], Path]] = {
    "edits.mp4": cut_out,
    "tracks.mkv": two_tracks,
    "joined.ts": joined,
    "programmes.ts": programmes,
    "mirrored.mp4": mirrored,
}
Mutation = Callable[[bytearray, random.Random], bytearray]


def flip(data: bytearray, dice: random.Random) -> bytearray:
    """Changes some bytes anywhere."""
    for _ in range(dice.choice((1, 4, 32, 256))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def cut(data: bytearray, dice: random.Random) -> bytearray:
    """Keeps the beginning."""
    return data[: dice.randrange(len(data))]


def swap(data: bytearray, dice: random.Random) -> bytearray:
    """Exchanges two top-level boxes of an MP4, or two pieces of anything else."""
    pieces = boxes(data) if data[4:8] == b"ftyp" else chunks(data, dice)
    one, other = sorted(dice.sample(range(len(pieces)), 2))
    pieces[one], pieces[other] = pieces[other], pieces[one]
    return bytearray(b"".join(pieces))


def zero(data: bytearray, dice: random.Random) -> bytearray:
    """Clears a range."""
    start = dice.randrange(len(data))
    end = min(len(data), start + dice.randrange(1, len(data) // 4))
    data[start:end] = bytes(end - start)
    return data


def repeat(data: bytearray, dice: random.Random) -> bytearray:
    """Puts a range in twice."""
    start = dice.randrange(len(data))
    return data[: start + dice.randrange(len(data) // 4)] + data[start:]


def lie(data: bytearray, dice: random.Random) -> bytearray:
    """Writes extreme numbers over four bytes: sizes, counts and times among them."""
    for _ in range(dice.choice((1, 3))):
        start = dice.randrange(max(1, min(len(data), 4000) - 4))
        value = dice.choice((0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
        data[start : start + 4] = value.to_bytes(4, "big")
    return data


MUTATIONS: tuple[Mutation, ...] = (flip, cut, swap, zero, repeat, lie)


def boxes(data: bytearray) -> list[bytes]:
    """Top-level boxes of an MP4."""
    found, offset = [], 0
    while offset < len(data):
        size = max(8, int.from_bytes(data[offset : offset + 4], "big"))
        found.append(bytes(data[offset : offset + size]))
        offset += size
    return found


def chunks(data: bytearray, dice: random.Random) -> list[bytes]:
    """Pieces of one random size."""
    size = dice.randrange(max(2, len(data) // 40), max(3, len(data) // 4))
    return [bytes(data[i : i + size]) for i in range(0, len(data), size)]


def make_mutants(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Writes the damaged files; the kind of damage by name."""
    whole = {name: media.make(folder.parent / name, clip) for name, clip in CLIPS.items()}
    whole |= {name: create(folder.parent / name) for name, create in MADE.items()}
    kinds = {}
    for number in range(count):
        dice = random.Random(f"{seed}/{number}")  # noqa: S311 - repeatable on purpose
        name, mutate = dice.choice(sorted(whole)), MUTATIONS[number % len(MUTATIONS)]
        target = folder / f"{number:04}_{mutate.__name__}_{name}"
        target.write_bytes(mutate(bytearray(whole[name].read_bytes()), dice))
        kinds[target.stem] = mutate.__name__
    return kinds


def faults_of(stream: dict[str, Any], stderr: str) -> list[str]:
    """What is wrong with one stream's outcome, beside its media."""
    if stream["state"] == "failed":
        if "unexpected" in stream["error"] or "put aside" in stream["error"]:
            return [stream["error"]]
        return (
            []
            if Path(stream["input"]).name in stream["error"]
            else [f"refused without its name: {stream['error']}"]
        )
    if stream["state"] not in ("done", "incomplete"):
        return [f"ended as {stream['state']}"]
    try:
        frames = readable_frames(Path(stream["output"]))
    except SourceError as error:
        return [f"its output: {error}"]
    return [] if frames == stream["frames_out"] else [f"{frames} frames in its output"]


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs everything; the record."""
    folder = work / "mutants"
    folder.mkdir()
    kinds = make_mutants(folder, options.count, options.seed)
    command = [sys.executable, "-m", "dualface_client", "run", str(folder), "-o", str(work / "out")]
    command += ["--workers", "2", "--streams", "4", "--size", "128x72", "--preset", "ultrafast"]
    command += ["--summary", str(work / "s.json"), "--device", "cpu", "--log-format", "json"]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    elapsed_s = time.monotonic() - started
    streams = json.loads((work / "s.json").read_text())["streams"]
    wrong = {s["name"]: faults_of(s, done.stderr) for s in streams}
    wrong = {name: found for name, found in wrong.items() if found}
    if len(streams) != options.count:
        wrong["run"] = [f"{len(streams)} of {options.count} files in the summary"]
    if "Traceback" in done.stderr or done.returncode not in (0, 1):
        wrong["process"] = [f"exit {done.returncode}", done.stderr[-2000:]]
    left = sorted(left_behind())
    outcomes = Counter((kinds[s["name"]], s["state"]) for s in streams)
    return {
        "files": options.count,
        "seed": options.seed,
        "elapsed_s": round(elapsed_s, 1),
        "exit_code": done.returncode,
        "worker_restarts": sum("worker_died" in line for line in done.stderr.splitlines()),
        "outcomes": {
            kind: {state: outcomes[kind, state] for state in ("done", "incomplete", "failed")}
            for kind in sorted(set(kinds.values()))
        },
        "left_in_shm": left,
        "wrong": wrong,
    }


def main() -> int:
    """Parses, runs, writes; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of the results")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        record = measure(options, Path(work))
    text = json.dumps(record, indent=1)
    (options.out / "mutants.json").write_text(text + "\n")
    print(text)
    return int(bool(record["wrong"] or record["left_in_shm"]))


if __name__ == "__main__":
    sys.exit(main())
