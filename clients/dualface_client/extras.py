"""Which extra brings a package that is not installed."""

from __future__ import annotations

from dualface_client.errors import PlatformError

_GPU = frozenset({"cupy", "PyNvVideoCodec", "pynvml"})


def missing_package(error: ModuleNotFoundError) -> PlatformError | None:
    """What to install, None where a module of our own is missing: that is a mistake of ours.

    Args:
        error: Of an import.
    """
    name = (error.name or "").partition(".")[0]
    if name in ("", "dualface_client"):
        return None
    extra = "gpu" if name in _GPU else "cpu"
    also = "" if extra == "gpu" else " ([gpu] instead for an NVIDIA GPU)"
    return PlatformError(
        f"the Python package {name!r} is not installed; it comes with the extra {extra!r}: "
        f"pip install 'dualface-client[{extra}]'{also}"
    )
