"""Which server a run uses: one that runs already, or an embedded one of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.onnx_file import spec_of_file


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """What the user said about the server.

    Attributes:
        address: `HOST:PORT` of a running server's gRPC endpoint, None for an embedded one.
        detector_onnx: Own detector for the embedded server, None for the exported one.
        reid_onnx: Own ReID model for the embedded server, None for the exported one.
        model_threads: Threads of one model run in the embedded server, 0 for one per core.
    """

    address: str | None = None
    detector_onnx: Path | None = None
    reid_onnx: Path | None = None
    model_threads: int = 0


def start_embedded(choice: ServerChoice) -> EmbeddedServer:
    """Starts the embedded server for the chosen models.

    Raises:
        AssetError: A model or the server is not in the cache, or a model file does not fit; the
            message names the tensor.
        PlatformError: This machine cannot run it.
        ServerStartError: It died or hung.
    """
    models_dir = paths.models_dir()
    files = (
        (FACE_DETECT, choice.detector_onnx or models_dir / "face_detect.onnx"),
        (FACE_REID, choice.reid_onnx or models_dir / "face_reid.onnx"),
    )
    models = [EmbeddedModel(spec_of_file(path, spec), path) for spec, path in files]
    threads = choice.model_threads or len(os.sched_getaffinity(0))
    return EmbeddedServer(
        paths.tritonserver_dir(), models, EmbeddedOptions(intra_op_threads=threads)
    )


@contextmanager
def server_for(choice: ServerChoice) -> Iterator[tuple[str, EmbeddedServer | None]]:
    """The address to use, and the embedded server where one had to be started.

    Raises:
        DualfaceError: As `start_embedded`.
    """
    if choice.address:
        yield choice.address, None
        return
    with start_embedded(choice) as server:
        yield server.grpc_address, server
