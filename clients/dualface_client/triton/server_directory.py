"""The embedded server's private directories: backend, stub, rendered models and log; socket."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from dualface_client.errors import PlatformError, ServerStartError, UsageError
from dualface_client.memory.names import new_name
from dualface_client.settings import paths
from dualface_client.triton.repository import PythonModel, write_python_model
from dualface_client.triton.server_files import ServerFiles, takeover_problem

#: What the embedded model imports, see `embedded_model/model.py`. ONNX Runtime's directory comes
#: first: beside NumPy there may be another ONNX Runtime, such as one without CUDA.
_PACKAGES = ("onnxruntime", "numpy")


def make_directory() -> Path:
    """Creates a directory for one server, accessible only to this user.

    Raises:
        PlatformError: Other users could replace it there.
        ServerStartError: It cannot be created in the place for temporary files.
    """
    return _make(paths.scratch_dir() / str(new_name("server")))


def make_socket_directory(chosen: Path | None = None) -> Path:
    """Creates a directory for one server's socket, accessible only to this user.

    The directory is what keeps others out: a socket of Triton's is open to everybody. It lies in
    `/tmp` whatever TMPDIR says, because the path of a socket has 107 characters at most.

    Args:
        chosen: Its path; None for a name of its own.

    Raises:
        PlatformError: Other users could replace it there.
        ServerStartError: It cannot be created.
        UsageError: The chosen one exists.
    """
    return _make(paths.TMP / str(new_name("socket")) if chosen is None else chosen.absolute())


def _make(directory: Path) -> Path:
    if problem := takeover_problem(directory.parent):
        raise PlatformError("; ".join(problem))
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError as error:
        raise UsageError(
            f"{directory}: exists: another server may be using it; name one that does not exist, "
            "or remove it if nobody does"
        ) from error
    except OSError as error:
        raise _unwritable(directory.parent, error) from error
    return directory


def fill(directory: Path, files: ServerFiles, models: Iterable[PythonModel]) -> None:
    """Writes what `tritonserver` is started with.

    Args:
        directory: From `make_directory`.
        files: The wheel's pieces.
        models: What to serve.

    Raises:
        ServerStartError: There is no room for it.
    """
    try:
        _write_backend(directory / "backends" / "python", files)
        (directory / "models").mkdir()
        for model in models:
            write_python_model(directory / "models", model)
    except OSError as error:
        raise _unwritable(directory.parent, error) from error


def package_dirs(
    find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec,
) -> tuple[Path, ...]:
    """Where the stub finds the model's packages: where this process imports them from.

    Args:
        find: As `importlib.util.find_spec`.
    """
    specs = [find(name) for name in _PACKAGES]
    found = [Path(spec.origin).parents[1] for spec in specs if spec and spec.origin]
    own = (Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib"))
    return tuple(dict.fromkeys((*found, *own)))


def _write_backend(backend: Path, files: ServerFiles) -> None:
    # A backend directory of our own, because the wheel's has no stub beside the library.
    backend.mkdir(parents=True)
    for source in files.backend.iterdir():
        (backend / source.name).symlink_to(source.absolute())
    stub = Path(shutil.copy(files.stub, backend))
    stub.chmod(0o700)


def _unwritable(place: Path, error: OSError) -> ServerStartError:
    return ServerStartError(
        f"{place}: the embedded server's files cannot be written there ({error.strerror}); "
        "free some space, or set TMPDIR to a writable directory"
    )
