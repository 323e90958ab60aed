"""The wheel in an empty environment with an empty cache: one command fetches, makes and runs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.media import Clip, make

ROOT = Path(__file__).resolve().parents[2]
#: Files that are no Python and that the program reads.
DATA = {
    "assets/packages.toml",
    "imaging/kernels.cu",
    "observe/report.css",
    "observe/report.html.jinja",
    "py.typed",
    "video/upright.cu",
}


def run(*command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    # A checkout on the path would hide what the wheel lacks.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environ
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=170, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(into), str(ROOT)]
    built = run(*pip, cwd=into)
    assert built.returncode == 0, built.stderr
    (path,) = into.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its core dependencies alone."""
    directory = tmp_path_factory.mktemp("env")
    venv.create(directory, with_pip=True)
    install(directory, str(wheel))
    return directory


def install(environment: Path, what: str) -> None:
    pip = environment / "bin" / "pip"
    constraints = ROOT / "constraints.txt"
    done = run(pip, "install", "-q", "-c", constraints, what, cwd=environment)
    assert done.returncode == 0, done.stderr


def test_the_wheel_has_what_the_program_reads_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = {
        n.removeprefix("dualface_client/") for n in names if n.startswith("dualface_client/")
    }
    assert {name for name in package if not name.endswith(".py")} >= DATA
    others = {name for name in names if not name.startswith("dualface_client")}
    assert others == set()


def test_each_command_says_which_extra_is_missing(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "dualface-client"
    commands = ("run x.mp4", "setup", "doctor", "serve", "config show", "plan", "probe", "reap", "")
    for arguments in commands:
        done = run(command, *arguments.split(), cwd=tmp_path)
        assert done.returncode == 2
        assert "pip install 'dualface-client[cpu]'" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "use",
    [
        "dualface_client.process(['x.mp4'], None)",
        "dualface_client.serve()",
        "from dualface_client.batch.process import process",
        "from dualface_client.batch.server import start_embedded",
    ],
)
def test_the_python_interface_says_so_too(environment: Path, tmp_path: Path, use: str) -> None:
    code = f"""
import dualface_client
try:
    {use}
except dualface_client.PlatformError as error:
    print(error)
"""
    done = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert "pip install 'dualface-client[cpu]'" in done.stdout, done.stderr


@pytest.mark.timeout(600)
def test_the_first_run_brings_what_it_needs(wheel: Path, environment: Path, tmp_path: Path) -> None:
    install(environment, f"{wheel}[cpu]")
    command, cache = environment / "bin" / "dualface-client", str(tmp_path / "cache")
    listed = run(command, "setup", "--dry-run", cwd=tmp_path, DUALFACE_HOME=cache)
    assert (listed.returncode, listed.stdout.count("sha256:")) == (1, 3), listed.stderr
    make(tmp_path / "talk.mp4", Clip(frames=6))
    job = ["run", "talk.mp4", "-o", "tiles.mp4", "--report", "report.html"]
    done = run(command, *job, cwd=tmp_path, DUALFACE_HOME=cache)
    assert done.returncode == 0, done.stderr
    assert f"fetched once, into {cache}" in done.stderr
    assert (tmp_path / "tiles.mp4").stat().st_size > 1000
    assert not (Path(cache) / "clips").exists()
    assert "</svg>" in (tmp_path / "report.html").read_text()
    again = run(command, "setup", cwd=tmp_path, DUALFACE_HOME=cache)
    assert f"up to date in {cache}" in again.stdout
    code = "import dualface_client; print(dualface_client.__version__)"
    version = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert version.stdout.strip() in wheel.name
