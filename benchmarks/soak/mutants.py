"""Damaged media: is every file either processed or refused by its name?

    python benchmarks/soak/mutants.py --out build/soak
    python benchmarks/soak/mutants.py --out DIR --count 1000 --seed 7

Makes small clips of several containers and codecs and damages copies of them by a seed: flipped
bytes, truncations, swapped boxes or pieces, zeroed and repeated ranges, and lies in size fields.
One `dualface-client run --workers 2` gets them all, so that a crash of the native code would be
seen and attributed. What ends as done without a warning must be as long as FFmpeg finds its source,
by its pictures and by its header. Writes mutants.json; exit status 1 where anything is not as it
must be.
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

import av

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vitals import left_behind  # type: ignore[import-not-found] # the module beside this one

from benchmarks.soak.lengths import length_faults
from dualface_client.errors import SourceError
from dualface_client.video.check import readable_frames
from tests import media
from tests.media import Audio, Clip

LIMIT_S = 3000
WHOLE = "whole"
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
    "browser.webm": Clip(
        frames=12,
        codec="libvpx",
        options={"deadline": "realtime"},
        container={"live": "1"},
        audio=[Audio("libopus", seconds=0.5)],
    ),
    "wma.wmv": Clip(frames=12, codec="wmv2", audio=[Audio("wmav2", seconds=0.5, layout="stereo")]),
    "latm.ts": Clip(frames=12, container={"mpegts_flags": "latm"}, audio=[Audio(seconds=0.5)]),
    "pcm_24.mov": Clip(frames=12, audio=[Audio("pcm_s24le", seconds=0.5)]),
    "mulaw.mov": Clip(frames=12, audio=[Audio("pcm_mulaw", seconds=0.5, rate_hz=8000)]),
    "mpeg2.mpg": Clip(
        frames=12,
        codec="mpeg2video",
        options={"bf": "2"},
        audio=[Audio("mp2", seconds=0.5, layout="stereo")],
    ),
    "hlg.mkv": Clip(frames=12, codec="libx265", pix_fmt="yuv420p10le", color=(9, 1, 9, 18)),
    "wrap.ts": Clip(pts=range(2_386_086, 2_386_098), time_base=Fraction(1, 25)),
    "variable.mkv": Clip(pts=(0, 1, 2, 4, 5, 9, 10, 12, 13, 14, 40, 41), time_base=Fraction(1, 25)),
    "fields.mp4": Clip(frames=12, interlaced=True),
    "wide_samples.mp4": Clip(frames=12, sample_aspect=Fraction(4, 3)),
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


def preview_first(path: Path) -> Path:
    """A still larger picture as the first video track."""
    still = Clip(frames=1, size_wh_px=(160, 120), codec="mjpeg", pix_fmt="yuvj420p")
    picture = media.make(path.with_suffix(".1.mov"), still)
    return media.beside(path, [picture, movie(path.with_suffix(".2.mp4"))])


def cover_first(path: Path) -> Path:
    """A cover picture before the video."""
    return media.with_cover(path, movie(path.with_suffix(".1.mp4")))


def chaptered(path: Path) -> Path:
    """Chapters and a title."""
    plain = movie(path.with_suffix(".1.mp4"))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams}
        output.metadata["title"] = "Talk"
        unit_s = Fraction(1, 1000)
        titles = ({"title": "One"}, {"title": "Two"})
        output.set_chapters(
            [
                {
                    "id": n,
                    "start": 240 * n,
                    "end": 240 * n + 240,
                    "time_base": unit_s,
                    "metadata": t,
                }
                for n, t in enumerate(titles)
            ]
        )
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return path


def silent_track(path: Path) -> Path:
    """A transport stream whose second sound track has no packets."""
    clip = Clip(frames=12, audio=[Audio(seconds=0.5), Audio(seconds=0.5)])
    data = media.make(path, clip).read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(p for p in packets if p[1] & 0x1F != 1 or p[2] != 2))  # PID 0x102
    return path


MADE: dict[str, Callable[[Path], Path]] = {
    "edits.mp4": cut_out,
    "tracks.mkv": two_tracks,
    "joined.ts": joined,
    "programmes.ts": programmes,
    "mirrored.mp4": mirrored,
    "preview.mov": preview_first,
    "cover.mp4": cover_first,
    "chapters.mkv": chaptered,
    "silent.ts": silent_track,
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


def make_mutants(folder: Path, count: int, seed: int) -> dict[str, tuple[str, str]]:
    """Writes the files, the whole ones too; the kind of damage and the file's kind by stem."""
    whole = {name: media.make(folder.parent / name, clip) for name, clip in CLIPS.items()}
    whole |= {name: create(folder.parent / name) for name, create in MADE.items()}
    kinds = {}
    for number, (name, path) in enumerate(whole.items()):
        target = path.rename(folder / f"whole_{number:02}_{name}")
        whole[name], kinds[target.stem] = target, (WHOLE, name)
    for number in range(count):
        dice = random.Random(f"{seed}/{number}")  # noqa: S311 - repeatable on purpose
        name, mutate = dice.choice(sorted(whole)), MUTATIONS[number % len(MUTATIONS)]
        target = folder / f"{number:04}_{mutate.__name__}_{name}"
        target.write_bytes(mutate(bytearray(whole[name].read_bytes()), dice))
        kinds[target.stem] = mutate.__name__, name
    return kinds


def faults_of(stream: dict[str, Any], usual: set[str]) -> list[str]:
    """What is wrong with one stream's outcome.

    Args:
        stream: Its report.
        usual: Warnings of such a file without damage; they say nothing about its length.
    """
    if stream["state"] == "failed":
        return [text] if (text := fault_of_refusal(stream)) else []
    if stream["state"] not in ("done", "incomplete"):
        return [f"ended as {stream['state']}"]
    try:
        frames = readable_frames(Path(stream["output"]))
    except SourceError as error:
        return [f"its output: {error}"]
    if frames != stream["frames_out"]:
        return [f"{frames} frames in its output"]
    is_told = set(stream["warnings"]) - usual or "time stamps" in " ".join(stream["warnings"])
    if stream["state"] != "done" or is_told:
        return []
    return length_faults(Path(stream["input"]), Path(stream["output"]))


def fault_of_refusal(stream: dict[str, Any]) -> str:
    """What is wrong with the words in which a file was refused, empty for nothing."""
    if "unexpected" in stream["error"] or "put aside" in stream["error"]:
        return str(stream["error"])
    is_named = Path(stream["input"]).name in stream["error"]
    return "" if is_named else f"refused without its name: {stream['error']}"


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
    usual = {
        name: set(stream["warnings"])
        for stream in streams
        for damage, name in [kinds[stream["name"]]]
        if damage == WHOLE
    }
    wrong = {s["name"]: faults_of(s, usual[kinds[s["name"]][1]]) for s in streams}
    wrong = {name: found for name, found in wrong.items() if found}
    if len(streams) != len(kinds):
        wrong["run"] = [f"{len(streams)} of {len(kinds)} files in the summary"]
    if "Traceback" in done.stderr or done.returncode not in (0, 1):
        wrong["process"] = [f"exit {done.returncode}", done.stderr[-2000:]]
    left = sorted(left_behind())
    outcomes = Counter((kinds[s["name"]][0], s["state"]) for s in streams)
    return {
        "files": options.count,
        "seed": options.seed,
        "elapsed_s": round(elapsed_s, 1),
        "exit_code": done.returncode,
        "worker_restarts": sum("worker_died" in line for line in done.stderr.splitlines()),
        "outcomes": {
            kind: {state: outcomes[kind, state] for state in ("done", "incomplete", "failed")}
            for kind in sorted({damage for damage, _ in kinds.values()})
        },
        "kinds_of_files": len(usual),
        "left_in_shm": left,
        "wrong": wrong,
    }


def main() -> int:
    """Parses, runs, writes; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of the results")
    parser.add_argument("--count", type=int, default=300)
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
