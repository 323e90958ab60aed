"""Which extra brings what: the modules named there are those of pyproject.toml, and imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from dualface_client.errors import PlatformError
from dualface_client.extras import (
    CLUSTER,
    CPU,
    DAEMON,
    GPU,
    OBJECTS,
    missing_package,
    require,
)

ROOT = Path(__file__).parents[2]
#: What wheels call themselves that are not installed here.
GPU_WHEELS = {"cupy": "cupy-cuda13x", "PyNvVideoCodec": "pynvvideocodec", "pynvml": "nvidia-ml-py"}


def names_of(extra: str) -> set[str]:
    """Distributions of an extra, those of the extras in it included."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    for line in table["optional-dependencies"][extra]:
        name = re.split(r"[\[<>=]", line)[0]
        found |= names_of(line[len(name) + 1 : -1]) if name == table["name"] else {name.lower()}
    return found


def test_the_modules_are_those_of_the_extras() -> None:
    known = packages_distributions()
    cpu = {known[name][0].lower().replace("_", "-") for name in CPU}
    assert cpu == names_of("cpu")
    gpu = (cpu - {"onnxruntime"}) | {"onnxruntime-gpu"} | {GPU_WHEELS[name] for name in GPU}
    assert gpu == names_of("gpu")
    # Starlette and pydantic come with FastAPI, whose types we use.
    daemon = {known[name][0].lower().replace("_", "-") for name in DAEMON} - {
        "starlette",
        "pydantic",
    }
    assert daemon == names_of("daemon") - names_of("client")
    # fsspec reaches S3 by s3fs, which it imports by itself.
    assert {*OBJECTS, "s3fs"} == names_of("objects") - names_of("client")
    assert set(CLUSTER) == names_of("cluster") - names_of("client")


def test_no_other_package_is_imported() -> None:
    """Also inside functions; what comes with the core packages apart."""
    package = ROOT / "clients" / "dualface_client"
    found = {
        name.partition(".")[0]
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    core = {"numpy", "tritonclient", "google", "grpc", "triton_python_backend_utils"}
    others = found - set(sys.stdlib_module_names) - {"dualface_client"} - core
    assert others <= {*CPU, *GPU, *DAEMON, *OBJECTS, *CLUSTER, "opentelemetry"}


def test_what_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(PlatformError, match=r"'no_such'.*pip install 'dualface-client\[cpu\]'"):
        require("numpy", "no_such")
    require("numpy")
    with pytest.raises(PlatformError, match=r"'no_such'"):
        require("no_such.part")
    cupy = missing_package(ModuleNotFoundError(name="cupy.cuda"))
    assert "pip install 'dualface-client[gpu]'" in str(cupy)
    fastapi = missing_package(ModuleNotFoundError(name="fastapi.responses"))
    assert "pip install 'dualface-client[cpu,daemon]'" in str(fastapi)
    for name, command in (
        ("ray.util", "'dualface-client[cpu,cluster]'"),
        ("opentelemetry.sdk", "'dualface-client[cpu,trace]'"),
        ("fsspec", "'dualface-client[cpu,objects]'"),
        ("s3fs.core", "'dualface-client[cpu,objects]'"),
        ("gcsfs", "pip install gcsfs"),
    ):
        assert command in str(missing_package(ModuleNotFoundError(name=name)))
    assert missing_package(ModuleNotFoundError(name="dualface_client.lost")) is None
