"""Which server a run uses: one that is already running, or an embedded one of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dualface_client.assets.installation import Installation, ShowDownload, show_nobody
from dualface_client.assets.setup import NEEDED, missing_parts, set_up
from dualface_client.batch.server_restarter import ServerRestarter
from dualface_client.errors import DualfaceError
from dualface_client.extras import require
from dualface_client.location import HERE, Location
from dualface_client.observe.gpus import read_gpus, used_gpu
from dualface_client.observe.run_log import log_event
from dualface_client.settings import paths
from dualface_client.settings.program import ProgramSettings, ServerSettings
from dualface_client.triton.access import OPEN_ACCESS, Access
from dualface_client.triton.batch_sizes import Demand
from dualface_client.triton.connection import Connection
from dualface_client.triton.description import FACE_DETECT, FACE_REID, ModelSpec
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.mps import multi_process_service
from dualface_client.triton.onnx_file import spec_of_file
from dualface_client.triton.pool_file import pools_of_environment
from dualface_client.triton.pool_plan import checked_pool
from dualface_client.triton.reaper import reap_server
from dualface_client.triton.server_files import Host, check_host, check_place
from dualface_client.triton.transport import TransportKind

_LOCAL = ("unix:", "127.", "localhost:", "[::1]")
#: The search for the fastest convolutions of every batch size is part of the start.
_CUDA_READY_S = 240.0


def _log(text: str) -> None:
    log_event("setup", text)


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """The user's choice of a server.

    Attributes:
        address: `HOST:PORT` or `unix:PATH` of a running server's gRPC endpoint, None for an
            embedded one.
        detector_onnx: The user's detector for the embedded server, None for the exported one.
        reid_onnx: The user's ReID model for the embedded server, None for the exported one.
        model_threads: Threads of one model run in the embedded server, 0 for one per core.
        device: Where the embedded server's models run, `cpu` or `cuda`; `auto` until it is known.
        model_control: Whether clients of the embedded server may load and unload its models.
        has_live: Whether it may get requests of live streams.
        detector_instances: Processes of the detector in the embedded server, None for one.
        cuda_pool_mib: Its pool of GPU memory, None for the environment's or the default.
        metrics_port: Its TCP port of the metrics, None for a free one.
        socket_dir: Directory to make for its socket, None for one with a name of its own.
        mps: Whether an embedded server and its clients are to share a GPU by MPS.
        demands: What it is going to be asked, by model; anything of those that are missing.
        location: Where the embedded server is started, and what uses it.
    """

    address: str | None = None
    detector_onnx: Path | None = None
    reid_onnx: Path | None = None
    model_threads: int = 0
    device: str = "cpu"
    model_control: bool = False
    has_live: bool = True
    detector_instances: int | None = None
    cuda_pool_mib: int | None = None
    metrics_port: int | None = None
    socket_dir: Path | None = None
    mps: bool = False
    demands: Mapping[str, Demand] = field(default_factory=dict)
    location: Location = HERE

    @property
    def uses_mps(self) -> bool:
        """Whether this choice starts a Multi-Process Service: for a server of ours on a GPU."""
        return self.mps and self.address is None and self.device == "cuda"

    @property
    def is_local(self) -> bool:
        """Whether the server is certainly on this machine and can share its memory."""
        return self.address is None or self.address.startswith(_LOCAL)


def choice_of(server: ServerSettings, device: str) -> ServerChoice:
    """The choice that the settings describe.

    Args:
        server: Of the program.
        device: Where the embedded server's models run, `cpu` or `cuda`; `auto` until it is known.
    """
    return ServerChoice(
        server.address,
        server.detector_onnx,
        server.reid_onnx,
        server.model_threads,
        device,
        detector_instances=server.detector_instances,
        cuda_pool_mib=server.cuda_pool_mib,
        mps=server.mps,
    )


def transport_of(program: ProgramSettings) -> TransportKind:
    """How pixels get to the server."""
    kinds: dict[str, TransportKind] = {"shm": "shm", "bytes": "bytes", "gzip": "gzip"}
    return kinds[program.server.transport]


def start_embedded(
    choice: ServerChoice,
    stop: threading.Event | None = None,
    tell: Callable[[str], None] = _log,
    show: ShowDownload = show_nobody,
) -> EmbeddedServer:
    """Starts the embedded server for the chosen models; fetches what it needs the first time.

    Args:
        choice: Which models, where.
        stop: Set it from elsewhere to give the start up.
        tell: Gets progress lines where something is fetched or made.
        show: Shows a download while it runs.

    Raises:
        AssetError: A model or the server cannot be fetched, or a model file does not fit; the
            message names the tensor.
        PlatformError: This machine cannot run it.
        ServerStartError: It died or hung.
        StoppedError: `stop` was set before it was ready.
        UsageError: The environment asks for impossible memory pools.
    """
    home, stop = paths.home_dir(), stop or threading.Event()
    fetch_missing(choice, Installation(home, tell, stop, show))
    cuda, models = choice.device == "cuda", models_of(choice)
    threads = choice.model_threads or len(os.sched_getaffinity(0))
    gpu = used_gpu(read_gpus(), choice.location.environment()) if cuda else None
    total_bytes = gpu.memory_total_bytes if gpu else None
    cuda_pool, pinned_pool = pools_of_environment(None, total_bytes)
    options = EmbeddedOptions(
        intra_op_threads=threads,
        device=choice.device,
        model_control=choice.model_control,
        has_priorities=choice.has_live,
        cuda_pool_bytes=_own_pool(choice, total_bytes) or cuda_pool,
        pinned_pool_bytes=pinned_pool,
        metrics_port=choice.metrics_port,
        socket_dir=choice.socket_dir,
        location=choice.location,
        ready_timeout_s=_CUDA_READY_S if cuda else EmbeddedOptions().ready_timeout_s,
    )
    return EmbeddedServer(paths.tritonserver_dir(), models, options, stop)


def models_of(choice: ServerChoice) -> list[EmbeddedModel]:
    """The models of an embedded server.

    Args:
        choice: Which files, where, and what for.

    Raises:
        AssetError: A file does not fit; the message names the tensor.
    """
    half = choice.device == "cuda"
    return [
        EmbeddedModel(
            spec_of_file(path := own or _exported(spec, half=half), spec),
            path,
            _instances(choice, spec),
            choice.demands.get(spec.name),
            is_known=own is None,
        )
        for spec, own in ((FACE_DETECT, choice.detector_onnx), (FACE_REID, choice.reid_onnx))
    ]


def fetch_missing(choice: ServerChoice, installation: Installation) -> None:
    """Fetches and makes what is not there, after a look at whether the server can run at all."""
    check_host(Host.current())
    check_place(paths.TMP)
    require("onnxruntime")
    own = choice.detector_onnx and choice.reid_onnx
    if missing := missing_parts(installation.home, ("server",) if own else NEEDED):
        what, home = " and ".join(missing), installation.home
        installation.tell(f"{what}: missing or incomplete; fetched once, into {home}")
        set_up(missing, installation, usual_models=False)


def _instances(choice: ServerChoice, spec: ModelSpec) -> int:
    """Copies of a model, 0 for the server's usual number."""
    return (choice.detector_instances or 0) if spec.name == FACE_DETECT.name else 0


def _own_pool(choice: ServerChoice, total_bytes: int | None) -> int | None:
    if choice.cuda_pool_mib is None:
        return None
    return checked_pool("server.cuda_pool_mib", str(choice.cuda_pool_mib << 20), total_bytes)


def reap_at(address: str, access: Access | None = None) -> tuple[str, ...]:
    """Takes regions of dead processes back from a server that runs already.

    A failure is never a reason not to run: if it matters, the run itself will report it.

    Args:
        address: `HOST:PORT` or `unix:PATH`.
        access: Key and certificates; None for those that the environment names.

    Returns:
        Names that the server no longer holds.
    """
    # Unreachable, refused: the session that follows meets the same and says so.
    with suppress(DualfaceError), Connection(address, access) as connection:
        return reap_server(connection).gone
    return ()


def _exported(spec: ModelSpec, *, half: bool) -> Path:
    """The exported file, with the FP16 body if that is wanted and exists."""
    models_dir = paths.models_dir()
    plain, fp16 = models_dir / f"{spec.name}.onnx", models_dir / f"{spec.name}_fp16.onnx"
    return fp16 if half and fp16.is_file() else plain


@contextmanager
def server_for(
    choice: ServerChoice,
    stop: threading.Event | None = None,
    held: EmbeddedServer | None = None,
    tell: Callable[[str], None] = _log,
    show: ShowDownload = show_nobody,
    given_up: Callable[[str], None] = lambda why: None,
) -> Iterator[tuple[str, EmbeddedServer | None]]:
    """The address to use, and the embedded server where it is one of this process.

    One that is started here is restarted where it dies, at the same address. Regions of dead
    processes are taken back from one that runs already.

    Args:
        choice: Which server.
        stop: Set it from elsewhere to give a start up.
        held: One that runs already and that its holder restarts and stops, None for none.
        tell: As of `start_embedded`.
        show: As of `start_embedded`.
        given_up: Called on another thread, with the reason, when one that was started here is no
            longer restarted.

    Raises:
        DualfaceError: As `start_embedded`.
    """
    if held is not None:
        reap_at(held.grpc_address, OPEN_ACCESS)
        yield held.grpc_address, held
    elif choice.address:
        reap_at(choice.address)
        yield choice.address, None
    else:
        with (
            multi_process_service(wanted=choice.uses_mps),
            start_embedded(choice, stop, tell, show) as server,
            ServerRestarter(server, given_up=given_up),
        ):
            yield server.grpc_address, server
