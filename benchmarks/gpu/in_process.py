"""The code that runs in Triton's stub, without Triton."""

from __future__ import annotations

import sys
import types
from typing import Any

from dualface_client.triton.description import ModelSpec


def embedded_model() -> Any:
    """The embedded model's module, with a stub that only logs."""
    fake: Any = types.ModuleType("triton_python_backend_utils")
    fake.TritonModelException = type("TritonModelException", (Exception,), {})

    def log(text: str) -> None:
        print(text, file=sys.stderr)

    fake.Logger = types.SimpleNamespace(log_warn=log, log_error=log)
    sys.modules[fake.__name__] = fake
    from dualface_client.triton.embedded_model import model

    return model


def config_of(spec: ModelSpec, max_batch_size: int) -> dict[str, Any]:
    """What of a model's config its runners read."""
    return {
        "input": [{"name": spec.input.name, "dims": spec.input.dims}],
        "output": [{"name": spec.output.name, "dims": spec.output.dims}],
        "max_batch_size": max_batch_size,
    }
