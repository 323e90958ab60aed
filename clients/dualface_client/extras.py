"""Which extra brings a package that is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from dualface_client.errors import PlatformError

#: Modules that `--device cuda` imports, beside those of `CPU`.
GPU = ("cupy", "PyNvVideoCodec", "pynvml")
#: Modules that every run imports.
CLIENT = (
    "av",
    "cv2",
    "click",
    "yaml",
    "rich",
    "psutil",
    "lap",
    "greenlet",
    "jinja2",
    "msgspec",
    "prometheus_client",
)
#: Modules that a run with the embedded server imports.
CPU = (*CLIENT, "onnxruntime", "onnx", "tflite")
#: Modules that the daemon imports besides.
DAEMON = ("fastapi", "starlette", "pydantic", "uvicorn")
#: Modules that videos in object stores need besides. Each kind of store has a package of its own.
OBJECTS = ("fsspec",)
STORE_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
}
#: Modules that a run on more machines needs besides.
CLUSTER = ("ray",)
#: Modules that traces need besides.
TRACE = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
#: What to tell where more than one package may be missing.
INSTALL = "pip install 'dualface-client[cpu]' ([gpu] instead for an NVIDIA GPU)"
INSTALL_DAEMON = "pip install 'dualface-client[cpu,daemon]' ([gpu,daemon] for an NVIDIA GPU)"
INSTALL_OBJECTS = "pip install 'dualface-client[cpu,objects]' ([gpu,objects] for an NVIDIA GPU)"
INSTALL_CLUSTER = "pip install 'dualface-client[cpu,cluster]' ([gpu,cluster] for an NVIDIA GPU)"
INSTALL_TRACE = "pip install 'dualface-client[cpu,trace]' ([gpu,trace] for an NVIDIA GPU)"
INSTALL_GPU = "pip install 'dualface-client[gpu]' (and no plain onnxruntime beside it)"


def require(*modules: str) -> None:
    """Refuses to begin what would end for want of a package.

    Args:
        modules: Which are going to be imported.

    Raises:
        PlatformError: One is not installed; the message says what to install.
    """
    for name in modules:
        if not _is_installed(name):
            raise _to_install(name.partition(".")[0])


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def missing_package(error: ModuleNotFoundError) -> PlatformError | None:
    """What to install, None where a module of our own is missing: that is a mistake of ours.

    Args:
        error: Of an import.
    """
    name = (error.name or "").partition(".")[0]
    if name in ("", "dualface_client"):
        return None
    return _to_install(name)


def _to_install(name: str) -> PlatformError:
    extras = {
        **dict.fromkeys(GPU, ("gpu", INSTALL_GPU)),
        **dict.fromkeys(DAEMON, ("daemon", INSTALL_DAEMON)),
        **dict.fromkeys((*OBJECTS, "s3fs"), ("objects", INSTALL_OBJECTS)),
        **dict.fromkeys(CLUSTER, ("cluster", INSTALL_CLUSTER)),
        "opentelemetry": ("trace", INSTALL_TRACE),
    }
    if name in ("gcsfs", "adlfs"):  # large, and for one kind of store each
        return PlatformError(
            f"the Python package {name!r} is not installed; no extra brings it: pip install {name}"
        )
    extra, command = extras.get(name, ("cpu", INSTALL))
    return PlatformError(
        f"the Python package {name!r} is not installed; it comes with the extra {extra!r}: "
        f"{command}"
    )
