"""How much of a GPU each process may use under MPS.

A process's context sets memory aside for every thread that it may run at once: with small stacks
286 MiB of an H200 for all of them, 48 for a tenth (docs/performance-history.md). What decodes and
composes needs few, and a server that runs its models in processes of their own only copies.

A share is given to the process that it is for, never to this one: an MPS daemon that is started
with one limits all of its clients to it.
"""

from __future__ import annotations

from collections.abc import Mapping

_PIPES = "CUDA_MPS_PIPE_DIRECTORY"
_PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
#: Says to the embedded server's models what is theirs; `embedded_model.model` reads it.
_PERCENT_OF_MODELS = "MPS_PERCENTAGE_OF_MODELS"
_CLIENT, _SERVER, _MODELS = "25", "10", "100"


def share_of_client(environ: Mapping[str, str]) -> dict[str, str]:
    """What a process that decodes and composes gets.

    Args:
        environ: Of whoever starts it; nothing is given without an MPS daemon of ours or of the
            user's in it, or where the user has given a share.
    """
    return {_PERCENT: _CLIENT} if _is_ours_to_give(environ) else {}


def share_of_server(environ: Mapping[str, str]) -> dict[str, str]:
    """What an embedded server's own process gets, and what its models' processes do.

    Args:
        environ: As of `share_of_client`.
    """
    if not _is_ours_to_give(environ):
        return {}
    return {_PERCENT: _SERVER, _PERCENT_OF_MODELS: _MODELS}


def _is_ours_to_give(environ: Mapping[str, str]) -> bool:
    return bool(environ.get(_PIPES)) and _PERCENT not in environ
