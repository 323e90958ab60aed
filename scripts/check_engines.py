"""Checks without a GPU that TensorRT takes both models: parses them and builds throw-away engines.

    python scripts/check_engines.py [--models DIR] [--compute-capability 8.6 ...]

An operator that TensorRT does not know, or a shape or type that does not fit, ends it with exit
status 2 and the name of the node. The engines are for the check only; production engines come from
`make build-engines`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.assets.installation import Installation
from dualface_client.errors import AssetError, DualfaceError
from dualface_client.settings.paths import home_dir, models_dir
from dualface_client.triton.description import FACE_DETECT, MODELS, ModelSpec, with_detector_size
from scripts.engines.profiles import batch_profile, parse_capability
from scripts.engines.rtx import BuiltEngine, check_model, load_tensorrt_rtx

#: GeForce 30 and A10, GeForce 40 and L4, GeForce 50: the generations TensorRT-RTX is made for.
CAPABILITIES = ("8.6", "8.9", "12.0")
PRECISIONS = ("_fp16", "")


def find_models(models: Path) -> list[tuple[Path, ModelSpec]]:
    """Every exported file with its description, FP16 first.

    Args:
        models: Directory of the export.

    Raises:
        AssetError: A model has no file there.
    """
    found = []
    for spec in MODELS:
        paths = [models / f"{spec.name}{suffix}.onnx" for suffix in PRECISIONS]
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise AssetError(f"no {spec.name}.onnx in {models}; run: make models")
        found += [(path, _as_exported(path, spec)) for path in paths]
    return found


def _as_exported(path: Path, spec: ModelSpec) -> ModelSpec:
    """The description with the detector size that was exported."""
    if spec.name != FACE_DETECT.name:
        return spec
    try:
        manifest = json.loads((path.parent / "models.json").read_text())
        height, width, _ = manifest["models"][path.name]["input_dims"]
    except (OSError, ValueError, KeyError):  # no list of exports: the usual size
        return spec
    return with_detector_size(spec, width, height)


def check(models: Path, capabilities: list[tuple[int, int]]) -> list[BuiltEngine]:
    """Parses and builds every model, printing a line for each.

    Raises:
        AssetError: A model is missing or refused.
        UsageError: A capability cannot be built for.
    """
    found = find_models(models)  # before anything is downloaded
    trt = load_tensorrt_rtx(Installation(home_dir(), _tell))
    built: list[BuiltEngine] = []
    for path, spec in found:
        engines = check_model(trt, path, spec, capabilities)
        built += engines
        _tell(_line(spec, engines))
    return built


def _line(spec: ModelSpec, engines: list[BuiltEngine]) -> str:
    sizes = batch_profile(spec)
    parts = [
        f"{e.capability[0]}.{e.capability[1]} {e.size_bytes / 1e6:.1f} MB in {e.build_s:.1f} s"
        for e in engines
    ]
    profile = f"batch {sizes.smallest}/{sizes.tuned}/{sizes.largest}"
    return f"{engines[0].onnx_name:22} {profile:14} {', '.join(parts)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, or 2 where a model is refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, help="directory of the ONNX files")
    parser.add_argument("--compute-capability", nargs="+", default=list(CAPABILITIES))
    options = parser.parse_args(argv)
    try:
        capabilities = [parse_capability(text) for text in options.compute_capability]
        check(options.models or models_dir(), capabilities)
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
