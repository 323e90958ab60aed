"""Writes model repositories from the one description of the models.

    python scripts/render_repository.py [--check]
    python scripts/render_repository.py --profile PROFILE --out DIR [--models DIR]

Without options it renews the committed configs in `model_repository/`; the engines come from
`make build-engines`. The other profiles are complete repositories with their model files:
`onnxruntime-cpu` and `onnxruntime-gpu` for Triton's container, `python` for the embedded server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.assets.files import write_asset
from dualface_client.errors import AssetError, DualfaceError, UsageError
from dualface_client.settings.paths import models_dir
from dualface_client.triton.description import MODELS, ModelSpec
from dualface_client.triton.repository import PythonModel, write_python_model
from scripts.engines.configs import onnxruntime_config, tensorrt_config
from scripts.pins import ROOT

REPOSITORY = ROOT / "model_repository"
CONFIG = "config.pbtxt"
PROFILES = ("tensorrt", "onnxruntime-cpu", "onnxruntime-gpu", "python")


def outdated(repository: Path = REPOSITORY) -> list[Path]:
    """Committed configs that differ from what would be written.

    Args:
        repository: The model repository.
    """
    return [
        path
        for spec in MODELS
        if not _has((path := repository / spec.name / CONFIG), tensorrt_config(spec))
    ]


def _has(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


def render_tensorrt(repository: Path = REPOSITORY) -> list[Path]:
    """Writes the configs that are out of date and returns their paths.

    Args:
        repository: The model repository; engines in it are left alone.

    Raises:
        AssetError: It is not writable.
    """
    paths = outdated(repository)
    for spec in MODELS:
        path = repository / spec.name / CONFIG
        if path in paths:
            write_asset(path, tensorrt_config(spec).encode())
    return paths


def render_complete(profile: str, out: Path, models: Path) -> None:
    """Writes a whole repository, model files included.

    Args:
        profile: One of `PROFILES` but `tensorrt`.
        out: Directory that does not exist yet, or is empty.
        models: Directory of the exported ONNX files.

    Raises:
        AssetError: A model is missing or the directory is not writable.
        UsageError: The directory holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: the directory is not empty; name a new one")
    suffix = "_fp16" if profile == "onnxruntime-gpu" else ""
    for spec in MODELS:
        onnx_path = models / f"{spec.name}{suffix}.onnx"
        if not onnx_path.is_file():
            raise AssetError(f"{onnx_path} is missing; run: make models")
        if profile == "python":
            write_python_model(out, _python_model(spec, onnx_path))
        else:
            _write_onnxruntime(out, spec, onnx_path, gpu=profile == "onnxruntime-gpu")


def _python_model(spec: ModelSpec, onnx_path: Path) -> PythonModel:
    packages = dict.fromkeys(Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib"))
    return PythonModel(
        spec,
        onnx_path.absolute(),
        intra_op_threads=len(os.sched_getaffinity(0)),
        python_path=tuple(packages),
    )


def _write_onnxruntime(out: Path, spec: ModelSpec, onnx_path: Path, *, gpu: bool) -> None:
    version = out / spec.name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(onnx_path, version / "model.onnx")
    (version.parent / CONFIG).write_text(onnxruntime_config(spec, gpu=gpu))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 is done or up to date, 1 out of date with `--check`, 2 an error."""
    options = _parser().parse_args(argv)
    try:
        if options.profile == "tensorrt":
            return _committed(check=options.check)
        if options.out is None:
            raise UsageError(f"--profile {options.profile} needs --out DIR")
        render_complete(options.profile, options.out, options.models or models_dir())
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.profile} repository in {options.out}")
    return 0


def _committed(*, check: bool) -> int:
    if check:
        for path in (stale := outdated()):
            print(f"{path} is out of date; run: make render", file=sys.stderr)
        return int(bool(stale))
    paths = render_tensorrt()
    print("\n".join(f"rendered {path}" for path in paths) or "model_repository: up to date")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="tensorrt")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    parser.add_argument("--out", type=Path, help="directory of a complete repository")
    parser.add_argument("--models", type=Path, help="directory of the ONNX files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
