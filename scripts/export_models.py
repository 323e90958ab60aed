"""Exports the models in another size, or takes your own into the models' directory.

    python scripts/export_models.py [--size 640x640] [--out DIR]
        [--detector-onnx FILE] [--reid-onnx FILE]

The usual models come from `dualface-client setup models`; this is for a build machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.assets.export import Request, export
from dualface_client.assets.installation import Installation
from dualface_client.errors import DualfaceError
from dualface_client.settings.paths import home_dir, models_dir, sources_dir


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, or 2 where something is wrong."""
    options = _parser().parse_args(argv)
    request = Request(
        out=options.out or models_dir(),
        sources=sources_dir(),
        detector_wh_px=options.size,
        detector_onnx=options.detector_onnx,
        reid_onnx=options.reid_onnx,
    )
    try:
        written = export(request, Installation(home_dir(), _tell))
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if not written:
        _tell(f"models: up to date in {request.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=_size, default=(640, 640), help="detector input, WxH")
    parser.add_argument("--detector-onnx", type=Path, help="own detector that meets the contract")
    parser.add_argument("--reid-onnx", type=Path, help="own face ReID that meets the contract")
    parser.add_argument("--out", type=Path, help="directory of the ONNX files")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT such as 640x640")
    return int(width), int(height)


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
