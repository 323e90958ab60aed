"""Parses ONNX files and builds engines with TensorRT-RTX, on machines with and without a GPU.

TensorRT-RTX shares TensorRT's ONNX parser and network rules; its engines run on RTX GPUs only and
are thrown away here. What parses and builds here has operators and shapes that TensorRT knows.
"""

from __future__ import annotations

import importlib
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualface_client.assets.installation import Installation
from dualface_client.assets.registry_clients import pip_install_hashed
from dualface_client.errors import AssetError, PlatformError, UsageError
from dualface_client.triton.description import ModelSpec, TensorSpec
from scripts.engines.profiles import batch_profile
from scripts.pins import read_pins

REQUIREMENTS = Path(__file__).with_name("tensorrt_rtx.txt")
#: TensorRT's names of element types to Triton's.
_ELEMENT = {"UINT8": "UINT8", "HALF": "FP16", "FLOAT": "FP32"}


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """One engine of the check.

    Attributes:
        onnx_name: File it was built from.
        capability: Compute capability it is for.
        size_bytes: Size of the serialised engine.
        build_s: Time to build it.
    """

    onnx_name: str
    capability: tuple[int, int]
    size_bytes: int
    build_s: float


class _Problems:
    """Keeps the first errors of the builder's log."""

    def __init__(self, limit: int = 5) -> None:
        self._limit = limit
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        if len(self.lines) < self._limit:
            self.lines.append(" ".join(line.split()))


def load_tensorrt_rtx(installation: Installation) -> Any:
    """The Python module of TensorRT-RTX, installed below the cache directory on first use.

    Args:
        installation: The cache directory, and who hears of a download.

    Raises:
        AssetError: The wheels cannot be fetched or differ from the pinned ones.
        PlatformError: They do not load on this machine.
    """
    version = read_pins()["TENSORRT_RTX"]
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    target = installation.home / "tensorrt-rtx" / f"{version}-{python}"
    if not (target / "tensorrt_rtx_bindings").is_dir():
        installation.tell(f"TensorRT-RTX {version}: downloading 96.4 MB with pip, once")
        what = f"TensorRT-RTX {version}"
        pip_install_hashed(REQUIREMENTS.read_text(), target, what, installation)
    sys.path.insert(0, str(target))
    try:
        return importlib.import_module("tensorrt_rtx_bindings")
    except (ImportError, OSError) as error:
        raise PlatformError(
            f"TensorRT-RTX {version} does not load here: {error}; it needs Linux on x86-64 with "
            "glibc 2.28 or on aarch64 with glibc 2.35"
        ) from error
    finally:
        sys.path.remove(str(target))


def check_model(
    trt: Any, onnx_path: Path, spec: ModelSpec, capabilities: list[tuple[int, int]]
) -> list[BuiltEngine]:
    """Parses one ONNX file and builds one engine per compute capability.

    Args:
        trt: See `load_tensorrt_rtx`.
        onnx_path: The model.
        spec: What it must be, and what gives its batch profile.
        capabilities: GPUs to build for.

    Raises:
        AssetError: The parser or builder refuses it, or a tensor differs from the description; the
            message names the node or the tensor.
        UsageError: TensorRT-RTX cannot build for one of the capabilities.
    """
    logger, problems = _logger(trt)
    builder = trt.Builder(logger)
    # TensorRT 11 knows strongly typed networks only: the types in the file are what is built.
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flag)
    _parse(trt, onnx_path, network, logger)
    _check_tensors(onnx_path, network, spec)
    return [
        _build(trt, builder, network, onnx_path, spec, capability, problems)
        for capability in capabilities
    ]


def _logger(trt: Any) -> tuple[Any, _Problems]:
    problems = _Problems()
    worst = {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}

    class Logger(trt.ILogger):  # type: ignore[misc] # a class of a loaded module
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in worst:
                problems.add(message)

    return Logger(), problems


def _parse(trt: Any, onnx_path: Path, network: Any, logger: Any) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(onnx_path.read_bytes()):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    reasons = "; ".join(
        f"node {error.node_name()!r} ({error.node_operator()}): "
        # The rest is one sentence on the missing GPU per call.
        + textwrap.shorten(error.desc(), 280, placeholder=" ...")
        for error in errors[:3]
    )
    raise AssetError(f"TensorRT's parser refuses {onnx_path.name}: {reasons or 'no reason given'}")


def _check_tensors(onnx_path: Path, network: Any, spec: ModelSpec) -> None:
    for kind, found, expected in (
        ("input", [network.get_input(i) for i in range(network.num_inputs)], spec.input),
        ("output", [network.get_output(i) for i in range(network.num_outputs)], spec.output),
    ):
        actual = ", ".join(_describe_tensor(tensor) for tensor in found)
        wanted = _describe(expected)
        if actual != wanted:
            raise AssetError(f"{onnx_path.name}: {kind} tensor is {actual}, expected {wanted}")


def _describe_tensor(tensor: Any) -> str:
    sizes = "x".join(str(size) for size in tensor.shape)
    return f"{tensor.name} {_ELEMENT.get(tensor.dtype.name, tensor.dtype.name)} {sizes}"


def _describe(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.datatype} -1x{'x'.join(str(size) for size in tensor.dims)}"


def _build(
    trt: Any,
    builder: Any,
    network: Any,
    onnx_path: Path,
    spec: ModelSpec,
    capability: tuple[int, int],
    problems: _Problems,
) -> BuiltEngine:
    start_s = time.monotonic()
    engine = builder.build_serialized_network(network, _config(trt, builder, spec, capability))
    if engine is None:
        reasons = "; ".join(problems.lines) or "no reason given"
        name = f"{capability[0]}.{capability[1]}"
        raise AssetError(f"TensorRT cannot build {onnx_path.name} for {name}: {reasons}")
    return BuiltEngine(onnx_path.name, capability, engine.nbytes, time.monotonic() - start_s)


def _config(trt: Any, builder: Any, spec: ModelSpec, capability: tuple[int, int]) -> Any:
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    target = getattr(trt.ComputeCapability, f"SM{capability[0]}{capability[1]}", None)
    if target is None:
        known = sorted(n for n in dir(trt.ComputeCapability) if n.startswith("SM"))
        raise UsageError(
            f"TensorRT-RTX does not build for compute capability {capability[0]}.{capability[1]}, "
            f"only for {', '.join(known)}"
        )
    config.set_compute_capability(target, 0)
    sizes = batch_profile(spec)
    shapes = [(n, *spec.input.dims) for n in (sizes.smallest, sizes.tuned, sizes.largest)]
    profile = builder.create_optimization_profile()
    profile.set_shape(spec.input.name, *shapes)
    config.add_optimization_profile(profile)
    return config
