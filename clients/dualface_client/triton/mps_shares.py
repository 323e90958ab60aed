"""How much of a GPU each process may use under MPS.

A process's context sets memory aside for every thread that it may run at once: 258 MiB of an H200
for all of them, 72 for a tenth (driver 580). What decodes and composes needs few, and a server that
runs its models in processes of their own only copies (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Mapping

_PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
#: Says to the embedded server's models what is theirs; `embedded_model.model` reads it.
_PERCENT_OF_MODELS = "MPS_PERCENTAGE_OF_MODELS"
_CLIENT, _SERVER, _MODELS = "25", "10", "100"


def shares(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for all processes of a run; none if the user has given a share.

    Args:
        environ: The user's.
    """
    return {} if _PERCENT in environ else {_PERCENT: _CLIENT, _PERCENT_OF_MODELS: _MODELS}


def share_of_server(environ: Mapping[str, str]) -> dict[str, str]:
    """What the server's own process gets instead, beside its models' processes.

    Args:
        environ: Of the run.
    """
    return {_PERCENT: _SERVER} if _PERCENT_OF_MODELS in environ else {}
