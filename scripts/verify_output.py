"""Checks an output of `dualface-client run` against ground truth, without asking the program.

    python scripts/verify_output.py out.mp4 --truth clip.json --source clip.mp4

It decodes the output and compares frames, times and sound with the source, listens to every
second's tone, and looks at both tiles with the detector and the ReID network in this process. It
ends with 0 if everything holds, 1 if something does not, 2 if it could not look.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.errors import DualfaceError
from dualface_client.settings import paths
from dualface_client.settings.kinds import Size
from dualface_client.settings.stream import OutputSettings
from dualface_client.types import TileLayout
from scripts.clips.tiles import (
    Eyes,
    References,
    TileTally,
    frames_to_check,
    references_from_sources,
)
from scripts.clips.timing import (
    Check,
    bgr_of,
    check_audio_packets,
    check_tones,
    check_video,
    video_facts,
    video_frames,
)
from scripts.clips.truth import Truth
from scripts.reference_models import ReferenceModels


@dataclass(frozen=True, slots=True)
class Demands:
    """What an output must reach.

    Attributes:
        every: Look at the tiles of every k-th frame.
        min_visible: Only frames count in which both faces are visible to this share.
        min_right: Share of frames in which both tiles hold their own person.
        min_centred: Share of tiles with the face in the middle 40 %.
        tone_tolerance_s: How far a tone may be off.
        layout: The output's size and tiles.
    """

    every: int = 2
    min_visible: float = 0.8
    min_right: float = 0.99
    min_centred: float = 0.0
    tone_tolerance_s: float = 0.02
    layout: TileLayout = field(default_factory=TileLayout)


def verify(
    output: Path, source: Path, truth: Truth, eyes: Eyes, references: References, demands: Demands
) -> list[Check]:
    """Every check of one output.

    Args:
        output: What the program made.
        source: The clip it was made from.
        truth: What is known of the clip.
        eyes: The models.
        references: What the people look like.
        demands: Thresholds.

    Raises:
        SourceError: A file cannot be decoded.
    """
    wanted = frames_to_check(truth, demands.every, demands.min_visible)
    tally = TileTally((truth.expected_left, truth.expected_right), demands.layout)
    times_s: list[Fraction] = []
    for time_s, frame in video_frames(output):
        times_s.append(time_s)
        if time_s in wanted:
            tally.look(bgr_of(frame), float(time_s), eyes, references)
    facts = video_facts(output, tuple(times_s))
    return [
        *check_video(facts, video_facts(source), demands.layout.canvas_wh_px),
        check_audio_packets(output, source),
        check_tones(output, truth, demands.tone_tolerance_s),
        *tally.checks(demands.min_right, demands.min_centred),
    ]


def report_text(checks: Sequence[Check]) -> str:
    """The checks for a reader, with the intervals that are wrong."""
    lines = [f"{'ok  ' if check.ok else 'FAIL'} {check.name:14} {check.detail}" for check in checks]
    lines += [
        f"     {run['from_s']:.2f} s to {run['to_s']:.2f} s ({run['frames']} frames): "
        f"left shows {run['seen'][0] or 'nobody'}, right {run['seen'][1] or 'nobody'}"
        for check in checks
        if check.name == "tiles"
        for run in check.values["wrong"]
    ]
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check an output against ground truth.")
    default = Demands()
    parser.add_argument("output", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True, help="the clip it was made from")
    parser.add_argument("--json", type=Path, help="write the report as JSON")
    parser.add_argument("--clips", type=Path, default=paths.clips_dir(), help="source clips")
    parser.add_argument("--models", type=Path, default=paths.models_dir())
    parser.add_argument("--every", type=int, default=default.every)
    parser.add_argument("--min-visible", type=float, default=default.min_visible)
    parser.add_argument("--min-tiles", type=float, default=default.min_right)
    parser.add_argument("--min-centred", type=float, default=default.min_centred)
    parser.add_argument("--tone-tolerance", type=float, default=default.tone_tolerance_s)
    parser.add_argument(
        "--size", metavar="WxH", help="of the output, if not its layout's usual one"
    )
    parser.add_argument("--layout", default="side-by-side", choices=("side-by-side", "stacked"))
    parser.add_argument("--gap", type=int, default=0, metavar="PX", help="between the tiles")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _options(arguments)
    size = Size().read(options.size) if options.size else None
    output = OutputSettings(layout=options.layout, canvas_wh_px=size, gap_px=options.gap)
    demands = Demands(
        options.every,
        options.min_visible,
        options.min_tiles,
        options.min_centred,
        options.tone_tolerance,
        output.tile_layout,
    )
    try:
        truth = Truth.load(options.truth)
        for path in (options.output, options.source):
            video_facts(path, ())  # a file that cannot be opened is told before the slow part
        eyes = ReferenceModels(options.models)
        references = references_from_sources(options.clips, eyes)
        checks = verify(options.output, options.source, truth, eyes, references, demands)
    except DualfaceError as error:
        print(f"verify_output: {error}", file=sys.stderr)
        return 2
    ok = all(check.ok for check in checks)
    print(report_text(checks))
    if options.json:
        report = {"ok": ok, "checks": [asdict(check) for check in checks]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
