"""The embedded server's parts, or a server that is already running."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

from dualface_client.machine.doctor.finding import FAIL, NOTE, OK, Finding, attempt
from dualface_client.memory.region import Region, SystemRegion
from dualface_client.settings import paths
from dualface_client.triton.access import open_to, secret_files
from dualface_client.triton.connection import Connection
from dualface_client.triton.contract import check_contract
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS
from dualface_client.triton.onnx_file import spec_of_file
from dualface_client.triton.registration import kind_of, register, unregister
from dualface_client.triton.server_files import Host, check_host, find_server_files

#: Triton 24.12 frees a region that is in use only once its requests have ended.
_SAFE_UNREGISTER = (2, 53)
_EXTENSIONS = ("system_shared_memory", "cuda_shared_memory", "binary_tensor_data")


def embedded() -> Iterator[Finding]:
    """What the embedded server needs."""
    yield attempt("system", _system)
    yield attempt("embedded server", _files)
    yield attempt("models", _models)


def remote(address: str, *, on_gpu: bool = False) -> Iterator[Finding]:
    """What a running server says about itself.

    Args:
        address: `HOST:PORT`.
        on_gpu: Whether GPU memory can be tested too.
    """
    yield from secrets()
    with Connection(address) as connection:
        alive = attempt("server", lambda: _alive(connection))
        yield alive
        if alive.state == OK:
            yield from version_findings(*_metadata(connection))
            ready = attempt("models", lambda: _ready(connection))
            yield ready
            if ready.state == OK:
                yield attempt("contract", lambda: _contract(connection))
            yield attempt("client shared memory", lambda: _registers(connection, SystemRegion))
            if on_gpu:
                yield attempt("CUDA shared memory", lambda: _registers(connection, _cuda_region))


def secrets(environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether files with keys are for other users to read or to write.

    Args:
        environ: Environment variables; None for this process's.
    """
    for name, path in secret_files(environ):
        found = open_to(path) if path.is_file() else ""
        if found:
            text = f"{name} names {path}, which other users of this machine may {found}"
            yield Finding(NOTE if found == "read" else FAIL, "keys", text, f"chmod 600 {path}")


def version_findings(version: str, extensions: tuple[str, ...]) -> Iterator[Finding]:
    """Whether a server of this version with these extensions is suitable.

    Args:
        version: Such as `2.51.0`.
        extensions: As the server lists them.
    """
    missing = [name for name in _EXTENSIONS[:2] if name not in extensions]
    if missing:
        text = f"Triton {version} has no {' and no '.join(missing)}"
        yield Finding(FAIL, "server version", text, "use a build with shared memory support")
        return
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < _SAFE_UNREGISTER:
        text = f"Triton {version} frees a region even while a request uses it"
        yield Finding(OK, "server version", f"{text}; this client first waits for its requests")
    else:
        yield Finding(OK, "server version", f"Triton {version}")


def _system() -> str:
    host = Host.current()
    check_host(host)
    glibc = ".".join(map(str, host.glibc or ()))
    return f"{host.system} {host.machine}, C library {glibc}, {len(os.sched_getaffinity(0))} cores"


def _files() -> str:
    return str(find_server_files(paths.tritonserver_dir()).binary)


def _models() -> str:
    directory = paths.models_dir()
    for spec in (FACE_DETECT, FACE_REID):
        spec_of_file(directory / f"{spec.name}.onnx", spec)
    return f"{len(MODELS)} models in {directory}"


def _alive(connection: Connection) -> str:
    connection.wait_ready([], 5.0)
    return f"{connection.address} answers"


def _metadata(connection: Connection) -> tuple[str, tuple[str, ...]]:
    found = connection.call("server metadata", "get_server_metadata")
    return str(found.version), tuple(str(name) for name in found.extensions)


def _ready(connection: Connection) -> str:
    connection.wait_ready([spec.name for spec in MODELS], 5.0)
    return f"{' and '.join(spec.name for spec in MODELS)} are ready"


def _contract(connection: Connection) -> str:
    served = check_contract(connection, MODELS).values()
    return ", ".join(f"{model.spec.name} {model.version} on {model.platform}" for model in served)


def _registers(connection: Connection, make_region: Callable[[int], Region]) -> str:
    with closing(make_region(4096)) as region:
        register(connection, region)
        unregister(connection, region.name, kind=kind_of(region))
    return f"the server maps {kind_of(region).value} memory of this process"


def _cuda_region(byte_size: int) -> Region:
    from dualface_client.memory.cuda_region import CudaRegion

    return CudaRegion(byte_size)
