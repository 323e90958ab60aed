"""What the embedded server needs is found, or the message says what to do."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from dualface_client.errors import AssetError, PlatformError
from dualface_client.triton.server_files import (
    Host,
    check_host,
    check_place,
    find_server_files,
    takeover_problem,
    usual_library_dirs,
)


def wheel_at(root: Path, *, bundled: str = "") -> Path:
    """The wheel's layout with empty files."""
    server = root / "pytriton" / "tritonserver"
    for name in ("bin/tritonserver", "backends/python/libtriton_python.so"):
        (server / name).parent.mkdir(parents=True)
        (server / name).touch(mode=0o755)
    for version in ("3.9", "3.11", "3.13"):
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        stub.parent.mkdir(parents=True)
        stub.touch()
    (root / "nvidia_pytriton.libs").mkdir()
    if bundled:
        (root / "nvidia_pytriton.libs" / bundled).touch()
    return root


def library_at(place: Path, name: str) -> Path:
    place.mkdir()
    (place / name).touch()
    return place


def test_this_machine_is_accepted_and_others_are_told_why() -> None:
    check_host(Host("Linux", "x86_64", (2, 35)))
    check_host(Host("Linux", "aarch64", (2, 39)))
    for host, reason in (
        (Host("Darwin", "arm64", None), "this is Darwin on arm64"),
        (Host("Linux", "riscv64", (2, 40)), "this is Linux on riscv64"),
        (Host("Linux", "x86_64", None), "another C library"),
        (Host("Linux", "x86_64", (2, 31)), r"2\.35, this system has 2\.31"),
    ):
        with pytest.raises(PlatformError, match=rf"{reason}.*--server HOST:PORT"):
            check_host(host)


def test_all_pieces_are_found(tmp_path: Path) -> None:
    wheel = wheel_at(tmp_path / "wheel")
    empty = tmp_path / "empty"
    empty.mkdir()
    place = library_at(tmp_path / "lib", "libpython3.11.so.1.0")
    files = find_server_files(wheel, (3, 11), [empty, place])
    assert files.binary.name == "tritonserver"
    assert files.stub.parent.name == "3.11"
    assert files.library_dirs == (place, wheel / "nvidia_pytriton.libs")


def test_the_wheels_own_libpython_serves_its_newest_stub(tmp_path: Path) -> None:
    wheel = wheel_at(tmp_path / "wheel", bundled="libpython3-419a3a08.13.so.1.0")
    files = find_server_files(wheel, (3, 13), [])
    assert files.library_dirs[0] == wheel / "nvidia_pytriton.libs"
    with pytest.raises(PlatformError, match=r"libpython3\.11\.so\.1\.0 was not found"):
        find_server_files(wheel, (3, 11), [])


def test_an_unknown_python_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"no stub for Python 3\.99, it has 3\.9, 3\.11, 3\.13"):
        find_server_files(wheel_at(tmp_path), (3, 99), [])


def test_a_missing_libpython_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"apt-get install libpython3\.11.*dnf.*pyenv.*uv"):
        find_server_files(wheel_at(tmp_path), (3, 11), [tmp_path])


def test_a_missing_wheel_is_an_asset_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"bin/tritonserver is missing.*dualface-client setup"):
        find_server_files(tmp_path / "nowhere", (3, 11), [])


def test_the_interpreters_own_prefix_comes_first() -> None:
    places = usual_library_dirs()
    assert len(places) == len(set(places))
    own, last = Path(sys.base_prefix, "lib"), Path("/usr/lib")
    assert places.index(own) <= 1  # behind the directory that the interpreter was built for
    assert own == last or places[-1] == last  # Debian's own Python is in /usr


@pytest.mark.parametrize(("mode", "is_refused"), [(0o1777, False), (0o700, False), (0o777, True)])
def test_a_place_where_others_could_replace_files(
    tmp_path: Path, mode: int, is_refused: bool
) -> None:
    tmp_path.chmod(mode)
    assert (takeover_problem(tmp_path) is not None) == is_refused
    refused = pytest.raises(PlatformError, match=r"not sticky.*chmod \+t")
    with refused if is_refused else nullcontext():
        check_place(tmp_path)
