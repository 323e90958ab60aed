"""Real footage: runs the program on a folder of clips and looks at every output as an editor would.

    python benchmarks/footage.py DIR [--out DIR] [--only NAME] [-- OPTIONS OF dualface-client run]

Runs `dualface-client run` of this checkout once over DIR, finds the faces of every second output
frame with a detector that the program does not use (YuNet), and counts what an editor would never
show: half a face at a tile's edge, the same person twice, a neighbour's face, bars. Below `--out`
it writes `table.json`, `table.md` and `index.html` with contact sheets (source above, output below,
frames with findings framed in red). The clips are yours: this repository has none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client import __version__
from dualface_client.assets.installation import Installation
from dualface_client.errors import DualfaceError
from dualface_client.settings.paths import home_dir
from scripts.clips.timing import bgr_of, video_frames
from scripts.judge import sheets
from scripts.judge.canvas import look
from scripts.judge.detector import FaceFinder, open_detector
from scripts.judge.figures import COLUMNS, Figures, Tally, cells, markdown, mean_bad

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "scripts" / "judge" / "page.html.jinja"
MOMENTS = 12
#: Frames of each clip on the sheet of the worst ones, and how far apart they are at least.
WORST_OF_A_CLIP, WORST_APART = 3, 12


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip and what the program made of it.

    Attributes:
        name: File name without its ending.
        source: The clip.
        output: The canvases.
        report: The program's own report of it; empty if there is none.
    """

    name: str
    source: Path
    output: Path
    report: dict[str, Any]


def main() -> int:
    """Runs, judges and writes; returns 1 if the program failed on a clip, 2 for a mistake."""
    options, run_options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        detector = open_detector(Installation(home_dir(), print))
        failed = 0 if options.judge_only else _run(options, run_options)
        clips = _clips(out)
        table = _judge_all(clips, detector, options)
    except DualfaceError as error:
        print(f"footage: {error}", file=sys.stderr)
        return 2
    if not table:
        print(f"footage: no finished output in {out / 'tiles'}; look at the lines above")
        return 2
    _write(out, table, options)
    print(f"\n{markdown(table)}\n{out / 'index.html'}")
    return int(bool(failed))


def _run(options: argparse.Namespace, run_options: list[str]) -> int:
    """One run over all clips; returns its exit code."""
    command = [sys.executable, "-m", "dualface_client", "run"]
    if options.only:
        command += [str(path) for name in options.only for path in options.clips.glob(f"{name}.*")]
    else:
        command += [str(options.clips)]
    command += ["-o", str(options.out / "tiles") + os.sep, "--overwrite"]
    command += ["--summary", str(options.out / "summary.json"), *run_options]
    return subprocess.run(command, check=False).returncode


def _clips(out: Path) -> list[Clip]:
    """What the last run below `out` has finished."""
    summary = json.loads((out / "summary.json").read_text())
    return [
        Clip(stream["name"], Path(stream["input"]), Path(stream["output"]), stream)
        for stream in summary["streams"]
        if stream["state"] == "done"
    ]


def _judge_all(
    clips: list[Clip], finder: FaceFinder, options: argparse.Namespace
) -> dict[str, Figures]:
    """Figures of each clip, with its sheet written on the way."""
    folder = options.out / "sheets"
    folder.mkdir(exist_ok=True)
    table: dict[str, Figures] = {}
    worst: list[sheets.Moment] = []
    for clip in clips:
        tally = judge(clip.output, finder, options.every, options.gap)
        table[clip.name] = tally.figures() | {"scene_cuts": clip.report.get("scene_cuts")}
        print(f"{clip.name}: bad {table[clip.name]['bad']}", flush=True)
        looks = dict(zip(tally.indices, tally.looks, strict=True))
        shown = sheets.spread(tally.indices, MOMENTS)
        bad = tally.worst(WORST_OF_A_CLIP, WORST_APART)
        found = sheets.moments("", clip.source, clip.output, {i: looks[i] for i in shown})
        sheets.save(folder / f"{clip.name}.jpg", sheets.sheet(found.values()))
        named = sheets.moments(clip.name, clip.source, clip.output, {i: looks[i] for i in bad})
        worst += named.values()
    (folder / "worst.jpg").unlink(missing_ok=True)
    if worst:
        sheets.save(folder / "worst.jpg", sheets.sheet(worst))
    return table


def judge(output: Path, finder: FaceFinder, every: int = 2, gap_px: int = 0) -> Tally:
    """Looks at every k-th frame of an output.

    Raises:
        SourceError: It cannot be decoded.
    """
    tally = Tally()
    for index, (_, frame) in enumerate(video_frames(output)):
        if index % every == 0:
            tally.add(index, look(bgr_of(frame), finder, gap_px))
    return tally


def _write(out: Path, table: dict[str, Figures], options: argparse.Namespace) -> None:
    made = f"dualface {__version__}, {date.today().isoformat()}, every frame no. {options.every}"
    (out / "table.json").write_text(json.dumps({"made": made, "clips": table}, indent=2) + "\n")
    (out / "table.md").write_text(markdown(table))
    loader = jinja2.FileSystemLoader(TEMPLATE.parent)
    page = jinja2.Environment(loader=loader, autoescape=True).get_template(TEMPLATE.name)
    clips = [
        {
            "name": name,
            "bad": figures["bad"],
            "cells": cells(name, figures),
            "sheet": f"sheets/{name}.jpg",
        }
        for name, figures in table.items()
    ]
    worst = "sheets/worst.jpg" if (out / "sheets" / "worst.jpg").exists() else ""
    text = page.render(
        made=made, mean_bad=mean_bad(table), columns=COLUMNS, clips=clips, worst=worst
    )
    (out / "index.html").write_text(text)


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description="The program on real footage, judged by a detector of its own.",
        epilog="What follows `--` goes to `dualface-client run`. With `--judge-only` repeat it: a "
        "gap between the tiles has to be known.",
    )
    parser.add_argument("clips", type=Path, metavar="DIR", help="folder of clips")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "footage")
    parser.add_argument("--only", action="append", metavar="NAME", help="this clip; repeatable")
    parser.add_argument("--every", type=int, default=2, help="look at every k-th frame")
    parser.add_argument(
        "--judge-only", action="store_true", help="judge again what the last run left in --out"
    )
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    options, run_options = parser.parse_args(given[:at]), given[at + 1 :]
    options.gap = gap_of(run_options)
    return options, run_options


def gap_of(run_options: Sequence[str]) -> int:
    """Pixels between the tiles that options of `run` ask for; without them, tiles are not found."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--gap", type=int, default=0)
    return int(parser.parse_known_args(run_options)[0].gap)


if __name__ == "__main__":
    sys.exit(main())
