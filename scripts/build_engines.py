"""Builds the TensorRT engines of both models for this machine's GPU, in the pinned container.

    python scripts/build_engines.py [--dry-run|--check] [--version N] [--gpu INDEX]

What is up to date by its manifest is left alone. Needs an NVIDIA GPU, its driver, Docker and the
NVIDIA container toolkit; ends with exit status 2 and the reason where one is missing.
`--dry-run` prints the command lines for the GPU named by `--capability` and builds nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.assets.files import sha256_of, write_asset
from dualface_client.errors import AssetError, DualfaceError, PlatformError
from dualface_client.settings.paths import home_dir, models_dir
from dualface_client.triton.description import MODELS, ModelSpec, engine_filename
from scripts.engines.files import (
    Gpu,
    Manifest,
    check_host,
    manifest_path,
    parse_gpus,
    parse_library_version,
    parse_tensorrt_version,
    reasons_to_build,
    refuse_foreign_engine,
    trtexec_command,
)
from scripts.engines.profiles import parse_capability
from scripts.pins import ROOT, read_pins

BUILD_LIMIT_S = 1800.0
REPOSITORY = ROOT / "model_repository"
_QUERY = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]


def onnx_of(spec: ModelSpec, models: Path) -> Path:
    """The file an engine is built from: FP16, or own weights in their one precision.

    Raises:
        AssetError: There is none.
    """
    for name in (f"{spec.name}_fp16.onnx", f"{spec.name}.onnx"):
        if (models / name).is_file():
            return models / name
    raise AssetError(f"no {spec.name}.onnx in {models}; run: make models")


def build(gpu: Gpu, gpu_index: int, version: int) -> None:
    """Builds what is missing or out of date.

    Raises:
        AssetError: A model is missing or trtexec failed.
        PlatformError: The host cannot build.
    """
    tensorrt = parse_tensorrt_version(_in_container(["trtexec", "--help"], gpu_index))
    check_host(gpu, tensorrt, read_pins())
    for spec in MODELS:
        engine = REPOSITORY / spec.name / str(version) / engine_filename(gpu.capability)
        wanted = _manifest(spec, gpu, tensorrt, version)
        reasons = reasons_to_build(engine, wanted)
        if not reasons:
            _tell(f"{engine.name} of {spec.name}: up to date")
            continue
        _tell(f"{engine.name} of {spec.name}: building, {'; '.join(reasons)}")
        engine.parent.mkdir(parents=True, exist_ok=True)
        _in_container(wanted.command, gpu_index)
        os.replace(f"{engine}.part", engine)
        write_asset(manifest_path(engine), wanted.to_json().encode())


def check(gpu: Gpu, gpu_index: int, version: int) -> None:
    """Refuses engines that the Triton image would not load; `make up PROFILE=gpu` asks first.

    Raises:
        AssetError: An engine is missing or was built by another TensorRT.
        PlatformError: The image cannot be asked.
    """
    command = ["find", "/usr", "/opt", "-name", "libnvinfer.so.*.*.*"]
    tensorrt = parse_library_version(_in_container(command, gpu_index, image="TRITON_IMAGE"))
    check_engine_files(REPOSITORY, gpu.capability, version, tensorrt)
    _tell(f"engines for {gpu.name} fit the Triton image's TensorRT {tensorrt}")


def check_engine_files(
    repository: Path, capability: tuple[int, int], version: int, tensorrt: str
) -> None:
    """Refuses a missing engine of either model and one of another TensorRT.

    Args:
        repository: The model repository.
        capability: Of the GPU.
        version: Version directory.
        tensorrt: Version in the Triton image.

    Raises:
        AssetError: With the engine and the reason.
    """
    for spec in MODELS:
        engine = repository / spec.name / str(version) / engine_filename(capability)
        if not engine.is_file():
            raise AssetError(f"{engine} is not there; run: make build-engines")
        refuse_foreign_engine(engine, tensorrt)


def _manifest(spec: ModelSpec, gpu: Gpu, tensorrt: str, version: int) -> Manifest:
    onnx_path = onnx_of(spec, models_dir())
    return Manifest(
        onnx_sha256=sha256_of(onnx_path),
        tensorrt=tensorrt,
        capability=f"{gpu.capability[0]}.{gpu.capability[1]}",
        gpu=gpu.name,
        command=trtexec_command(spec, onnx_path.name, gpu.capability, version),
        built_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _in_container(command: Sequence[str], gpu_index: int, *, image: str = "TENSORRT_IMAGE") -> str:
    """Runs one command in a container of VERSIONS; never run by us on a GPU host."""
    timing = home_dir() / "timing"
    timing.mkdir(parents=True, exist_ok=True)
    line = [
        *("docker", "run", "--rm", "--gpus", f"device={gpu_index}"),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--cap-drop", "ALL"),
        *("--volume", f"{REPOSITORY}:/models"),
        *("--volume", f"{models_dir()}:/onnx:ro", "--volume", f"{timing}:/timing"),
        *(read_pins()[image], *command),
    ]
    return _run(line, f"{command[0]} in the container of {image}")


def find_gpu(index: int) -> Gpu:
    """The GPU to build for.

    Raises:
        PlatformError: There is no driver, no such GPU or no Docker.
    """
    for program in ("nvidia-smi", "docker"):
        if not shutil.which(program):
            raise PlatformError(
                f"{program} is not on PATH: engines are built on the GPU host, with the NVIDIA "
                "driver and Docker (docs/deploy.md). `make check-engines` needs neither"
            )
    gpus = parse_gpus(_run(_QUERY, "nvidia-smi"))
    if not 0 <= index < len(gpus):
        raise PlatformError(f"--gpu {index}: this machine has {len(gpus)}")
    return gpus[index]


def _run(line: list[str], what: str) -> str:
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetError(f"{what}: {error}") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise AssetError(f"{what} ended with status {done.returncode}:\n{tail}")
    return done.stdout + done.stderr


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0, or 2 where something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="print command lines only")
    parser.add_argument("--check", action="store_true", help="refuse unfit engines, build nothing")
    parser.add_argument("--capability", default="8.9", help="GPU of --dry-run")
    parser.add_argument("--version", type=int, default=1, help="version directory")
    parser.add_argument("--gpu", type=int, default=0, help="index of the GPU")
    options = parser.parse_args(argv)
    try:
        if options.dry_run:
            _print_commands(parse_capability(options.capability), options.version)
        elif options.check:
            check(find_gpu(options.gpu), options.gpu, options.version)
        else:
            build(find_gpu(options.gpu), options.gpu, options.version)
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _print_commands(capability: tuple[int, int], version: int) -> None:
    for spec in MODELS:
        onnx_name = onnx_of(spec, models_dir()).name
        _tell(shlex.join(trtexec_command(spec, onnx_name, capability, version)))


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
