"""What to build with trtexec, when to build it again, and which engines to refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from dualface_client.errors import AssetError, PlatformError
from dualface_client.triton.description import ModelSpec, engine_filename
from scripts.engines.configs import CAPABILITIES
from scripts.engines.profiles import batch_profile

#: Where the `engines` service of compose.yaml mounts them.
MODELS_MOUNT = PurePosixPath("/models")
ONNX_MOUNT = PurePosixPath("/onnx")
TIMING_MOUNT = PurePosixPath("/timing")
#: Working memory that TensorRT may take while it tries tactics, MiB.
WORKSPACE_MIB = 4096
#: Fields that must agree for an engine to be up to date; a date is for people alone.
_DECISIVE = ("onnx_sha256", "tensorrt", "capability", "gpu", "command")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        name: As `nvidia-smi` names it.
        capability: Compute capability, such as `(8, 9)`.
        driver: Driver version.
    """

    name: str
    capability: tuple[int, int]
    driver: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where an engine comes from; stands beside it as JSON.

    Attributes:
        onnx_sha256: Content of the ONNX file.
        tensorrt: Version that built it, such as `11.3.0`.
        capability: Compute capability it is for, such as `8.9`.
        gpu: Name of the GPU it was built on.
        command: trtexec's command line.
        built_at: Date and time, ISO 8601; decides nothing.
    """

    onnx_sha256: str
    tensorrt: str
    capability: str
    gpu: str
    command: tuple[str, ...]
    built_at: str

    def to_json(self) -> str:
        """The manifest as text."""
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_gpus(text: str) -> list[Gpu]:
    """Reads `nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader`.

    Raises:
        PlatformError: A line is not of that form, or there is none.
    """
    gpus = []
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(.+?),\s*(\d+)\.(\d+),\s*([\d.]+)\s*", line)
        if not match:
            raise PlatformError(f"nvidia-smi says {line!r}; expected name, capability and driver")
        gpus.append(Gpu(match[1], (int(match[2]), int(match[3])), match[4]))
    if not gpus:
        raise PlatformError("nvidia-smi lists no GPU; build the engines on the GPU host")
    return gpus


def parse_tensorrt_version(banner: str) -> str:
    """The version in trtexec's banner: `[TensorRT v110300]` is `11.3.0`.

    Raises:
        PlatformError: There is none.
    """
    match = re.search(r"\[TensorRT v(\d+)(\d\d)(\d\d)\]", banner)
    if not match:
        raise PlatformError(
            f"trtexec does not say its version: {banner.strip()[:200]!r}; is TENSORRT_IMAGE right?"
        )
    return ".".join(str(int(part)) for part in match.groups())


def parse_library_version(paths: str) -> str:
    """The version in the path of TensorRT's library: `.../libnvinfer.so.11.3.0` is `11.3.0`.

    Raises:
        PlatformError: There is none.
    """
    match = re.search(r"libnvinfer\.so\.(\d+\.\d+\.\d+)\s*$", paths, flags=re.MULTILINE)
    if not match:
        raise PlatformError(
            f"no TensorRT library in the Triton image: {paths.strip()[:200]!r}; is TRITON_IMAGE "
            "right?"
        )
    return match[1]


def check_host(gpu: Gpu, tensorrt: str, pins: Mapping[str, str]) -> None:
    """Refuses a host on which the engines would be useless.

    Args:
        gpu: What they are for.
        tensorrt: Version in the container.
        pins: VERSIONS.

    Raises:
        PlatformError: The GPU is not served, the driver too old or TensorRT another one.
    """
    name = f"{gpu.capability[0]}.{gpu.capability[1]}"
    if gpu.capability not in CAPABILITIES:
        known = ", ".join(f"{a}.{b}" for a, b in CAPABILITIES)
        raise PlatformError(f"{gpu.name} has compute capability {name}; served are {known}")
    if _numbers(gpu.driver) < _numbers(pins["DRIVER_MINIMUM"]):
        raise PlatformError(
            f"driver {gpu.driver} is older than {pins['DRIVER_MINIMUM']}, which the pinned images "
            "need; update it"
        )
    if tensorrt.split(".", maxsplit=1)[0] != pins["TENSORRT_MAJOR"]:
        raise PlatformError(
            f"the container has TensorRT {tensorrt}, expected {pins['TENSORRT_MAJOR']}.x; "
            "TENSORRT_IMAGE and TRITON_IMAGE must be of the same release"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def trtexec_command(
    spec: ModelSpec, onnx_name: str, capability: tuple[int, int], version: int
) -> tuple[str, ...]:
    """The command line that builds one engine, in the style of TensorRT 11.

    The precision stands in the ONNX file: TensorRT 11 has strongly typed networks only and no
    `--fp16`.

    Args:
        spec: Description of the model.
        onnx_name: File in the export directory.
        capability: GPU it is built on.
        version: Version directory in the model repository.
    """
    sizes, dims = batch_profile(spec), "x".join(map(str, spec.input.dims))
    engine = MODELS_MOUNT / spec.name / str(version) / engine_filename(capability)
    timing = TIMING_MOUNT / f"sm{capability[0]}{capability[1]}.cache"
    return (
        "trtexec",
        f"--onnx={ONNX_MOUNT / onnx_name}",
        f"--saveEngine={engine}.part",
        f"--minShapes={spec.input.name}:{sizes.smallest}x{dims}",
        f"--optShapes={spec.input.name}:{sizes.tuned}x{dims}",
        f"--maxShapes={spec.input.name}:{sizes.largest}x{dims}",
        f"--memPoolSize=workspace:{WORKSPACE_MIB}",
        f"--timingCacheFile={timing}",
        "--skipInference",
    )


def manifest_path(engine: Path) -> Path:
    """The manifest beside an engine."""
    return engine.with_suffix(".json")


def read_manifest(engine: Path) -> Manifest | None:
    """The manifest of an engine, None where there is none or it is damaged."""
    try:
        content = json.loads(manifest_path(engine).read_text())
        return Manifest(**{**content, "command": tuple(content["command"])})
    except (OSError, ValueError, KeyError, TypeError):  # the docstring's None: built anew
        return None


def reasons_to_build(engine: Path, wanted: Manifest) -> list[str]:
    """Why an engine must be built; empty where it is up to date.

    Args:
        engine: The engine file.
        wanted: What a build now would write.
    """
    if not engine.is_file() or not engine.stat().st_size:
        return ["it is not there"]
    found = read_manifest(engine)
    if found is None:
        return ["it has no manifest"]
    return [
        f"{field} was {getattr(found, field)}, is {getattr(wanted, field)}"
        for field in _DECISIVE
        if getattr(found, field) != getattr(wanted, field)
    ]


def refuse_foreign_engine(engine: Path, tensorrt: str) -> None:
    """Refuses an engine that the server's TensorRT would not load.

    An engine is tied to the exact version that built it.

    Args:
        engine: The engine file.
        tensorrt: Version in the Triton image.

    Raises:
        AssetError: It was built by another version, or nobody knows by which.
    """
    found = read_manifest(engine)
    if found is None:
        raise AssetError(
            f"{engine} has no manifest: nobody knows what built it; make build-engines"
        )
    if found.tensorrt != tensorrt:
        raise AssetError(
            f"{engine} was built by TensorRT {found.tensorrt}, the Triton image has {tensorrt}; "
            "run: make build-engines"
        )
