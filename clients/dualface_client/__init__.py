"""Two people of a video, each framed in a tile of their own, by way of a Triton server.

What `__all__` names is the public Python API (docs/python.md). Each name is imported when it is
first used, so that `import dualface_client` needs NumPy and tritonclient alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualface_client.batch.held_server import HeldServer, serve
    from dualface_client.batch.listener import Listener
    from dualface_client.batch.process import process
    from dualface_client.config.program import load_settings
    from dualface_client.errors import (
        AssetError,
        ConfigError,
        DualfaceError,
        MemoryRegionError,
        PlatformError,
        ServerError,
        StoppedError,
        UsageError,
    )
    from dualface_client.observe.report import StreamReport, StreamStatus
    from dualface_client.settings.program import ProgramSettings
    from dualface_client.settings.stream import StreamSettings

__version__ = "0.1.0"

__all__ = [
    "AssetError",
    "ConfigError",
    "DualfaceError",
    "HeldServer",
    "Listener",
    "MemoryRegionError",
    "PlatformError",
    "ProgramSettings",
    "ServerError",
    "StoppedError",
    "StreamReport",
    "StreamSettings",
    "StreamStatus",
    "UsageError",
    "__version__",
    "load_settings",
    "process",
    "serve",
]

#: Where each public name is defined; those that are not listed are errors.
_MODULES = {
    "HeldServer": "batch.held_server",
    "Listener": "batch.listener",
    "ProgramSettings": "settings.program",
    "StreamReport": "observe.report",
    "StreamSettings": "settings.stream",
    "StreamStatus": "observe.report",
    "load_settings": "config.program",
    "process": "batch.process",
    "serve": "batch.held_server",
}


if not TYPE_CHECKING:  # a type checker that sees it takes every misspelt name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = import_module(f"{__name__}.{_MODULES.get(name, 'errors')}")
        except ModuleNotFoundError as error:
            from dualface_client.extras import missing_package

            if (missing := missing_package(error)) is None:
                raise
            raise missing from error
        return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
