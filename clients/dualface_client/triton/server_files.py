"""Finds what the embedded server needs on this machine, or says what to install."""

from __future__ import annotations

import os
import platform
import re
import stat
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dualface_client.errors import AssetError, PlatformError

#: The wheel's binaries are built for manylinux_2_35.
_GLIBC_NEEDED = (2, 35)
_MACHINES = ("x86_64", "aarch64")
_REMEDY = "use a running Triton instead: --server HOST:PORT"


@dataclass(frozen=True, slots=True)
class Host:
    """What decides whether the wheel's server runs on a machine.

    Attributes:
        system: `platform.system()`.
        machine: `platform.machine()`.
        glibc: Version of the GNU C library, None for another C library.
    """

    system: str
    machine: str
    glibc: tuple[int, int] | None

    @classmethod
    def current(cls) -> Host:
        """This machine."""
        return cls(platform.system(), platform.machine(), _glibc())


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """The pieces of one start.

    Attributes:
        binary: `tritonserver`.
        backend: Directory with the Python backend's library and utilities.
        stub: Python stub for this interpreter's minor version.
        library_dirs: Directories for `LD_LIBRARY_PATH`.
    """

    binary: Path
    backend: Path
    stub: Path
    library_dirs: tuple[Path, ...]


def check_host(host: Host) -> None:
    """Refuses machines that the wheel's server does not run on.

    Args:
        host: The machine.

    Raises:
        PlatformError: It is not Linux on x86-64 or aarch64 with a recent GNU C library.
    """
    if host.system != "Linux" or host.machine not in _MACHINES:
        raise PlatformError(
            f"the embedded server runs on Linux on x86-64 or aarch64, this is {host.system} on "
            f"{host.machine}; {_REMEDY}"
        )
    needed = ".".join(map(str, _GLIBC_NEEDED))
    if host.glibc is None:
        raise PlatformError(
            f"the embedded server needs the GNU C library {needed}, this system has another C "
            f"library; {_REMEDY}"
        )
    if host.glibc < _GLIBC_NEEDED:
        found = ".".join(map(str, host.glibc))
        raise PlatformError(
            f"the embedded server needs the GNU C library {needed}, this system has {found}; "
            f"{_REMEDY}"
        )


def check_place(place: Path) -> None:
    """Refuses a machine on which the Python backend cannot make its directory.

    Args:
        place: Where it makes it, which no variable changes.

    Raises:
        PlatformError: It is not writable.
    """
    if problem := place_problem(place):
        raise PlatformError("; ".join(problem))


def place_problem(place: Path) -> tuple[str, str] | None:
    """What keeps the Python backend from making its directory, and what to do; None for nothing.

    Args:
        place: Where it makes it, which no variable changes.
    """
    if os.access(place, os.W_OK | os.X_OK):
        return takeover_problem(place)
    return (
        f"{place} is not writable, and Triton's Python backend makes a directory there whatever "
        "TMPDIR says",
        f"make it writable (`docker run --tmpfs {place}`), or {_REMEDY}",
    )


def takeover_problem(place: Path) -> tuple[str, str] | None:
    """Whether others could put files of their own in place of ours, and what to do.

    Args:
        place: A directory in which ours are going to be.
    """
    mode = place.stat().st_mode
    if not mode & stat.S_IWOTH or mode & stat.S_ISVTX:
        return None
    return (
        f"{place} can be written by every user and is not sticky, so others could replace the "
        "embedded server's files there",
        f"`chmod +t {place}`, or {_REMEDY}",
    )


def server_binary(wheel_dir: Path) -> Path:
    """Where `tritonserver` lies in the unpacked `nvidia-pytriton` wheel."""
    return wheel_dir / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def find_server_files(
    wheel_dir: Path,
    python_version: tuple[int, int] = sys.version_info[:2],
    library_dirs: Iterable[Path] | None = None,
) -> ServerFiles:
    """Finds binary, backend, stub and libpython.

    Args:
        wheel_dir: The unpacked `nvidia-pytriton` wheel.
        python_version: Major and minor version of the interpreter.
        library_dirs: Where to look for libpython; None for the usual places.

    Raises:
        AssetError: The wheel is missing or incomplete.
        PlatformError: There is no stub or no libpython for this interpreter.
    """
    binary = server_binary(wheel_dir)
    root = binary.parents[1]
    if not os.access(binary, os.X_OK):
        raise AssetError(
            f"{binary} is missing or not executable; fetch the embedded server with "
            "`dualface-client setup`"
        )
    stub = _stub(root / "python_backend_stubs", python_version)
    own_libraries = wheel_dir / "nvidia_pytriton.libs"
    places = tuple(library_dirs) if library_dirs is not None else usual_library_dirs()
    libpython_dir = _libpython_dir(own_libraries, places, python_version)
    return ServerFiles(binary, root / "backends" / "python", stub, (libpython_dir, own_libraries))


def usual_library_dirs() -> tuple[Path, ...]:
    """Where this interpreter's libpython may be: its own prefix first, then the system's.

    The prefix covers pyenv, uv and conda; the multiarch directory Debian and Ubuntu; lib64 Fedora.
    """
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    found = [
        sysconfig.get_config_var("LIBDIR"),
        f"{sys.base_prefix}/lib",
        f"/usr/lib/{multiarch}",
        "/usr/local/lib",
        "/usr/lib64",
        "/usr/lib",
    ]
    return tuple(dict.fromkeys(Path(place) for place in found if place))


def _stub(stubs: Path, python_version: tuple[int, int]) -> Path:
    wanted = ".".join(map(str, python_version))
    stub = stubs / wanted / "triton_python_backend_stub"
    if stub.is_file():
        return stub
    have = sorted((path.name for path in stubs.glob("3.*")), key=lambda v: int(v.split(".")[1]))
    raise PlatformError(
        f"the embedded server has no stub for Python {wanted}, it has {', '.join(have)}; run "
        f"dualface-client with one of those, or {_REMEDY}"
    )


def _libpython_dir(own: Path, places: tuple[Path, ...], python_version: tuple[int, int]) -> Path:
    major, minor = python_version
    name = f"libpython{major}.{minor}.so.1.0"
    for place in places:
        if (place / name).is_file():
            return place
    # The wheel contains the library of its newest stub, renamed with a hash.
    if any(own.glob(f"libpython{major}-*.{minor}.so.1.0")):
        return own
    raise PlatformError(
        f"{name} was not found in {', '.join(map(str, places))}. Install it: "
        f"`apt-get install libpython{major}.{minor}` on Debian and Ubuntu, "
        f"`dnf install python{major}.{minor}-libs` on Fedora, "
        "`PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install` for pyenv, or use a Python "
        f"from `uv python install`; or {_REMEDY}"
    )


def _glibc() -> tuple[int, int] | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # another C library: reported as unknown
        return None
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", text)
    return (int(match[1]), int(match[2])) if match else None
