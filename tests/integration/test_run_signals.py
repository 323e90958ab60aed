"""Ctrl-C and SIGTERM at every moment: the end is quick, files play, nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dualface_client.memory.names import parse
from dualface_client.settings import paths
from dualface_client.triton.embedded import EmbeddedServer
from tests.processes import (
    CLI,
    LONG_CLIP,
    alive,
    family,
    has_frames,
    launch,
    left_by,
    playable_frames,
    slow_clip,
    start,
    wait_until,
)

PROGRAM = """
import sys
from dualface_client.batch.process import process
from dualface_client.settings.stream import OutputSettings, StreamSettings
settings = StreamSettings(output=OutputSettings(canvas_wh_px=(640, 360)))
try:
    process([sys.argv[1]], "out.mp4", settings=settings)
except KeyboardInterrupt:
    print("caught", flush=True)
"""


def server_of(pid: int) -> psutil.Process | None:
    """The process `tritonserver` below a client."""
    return next((child for child in family(pid) if child.name() == "tritonserver"), None)


def directories_of(pid: int) -> list[Path]:
    """Directories of embedded servers that a process has started."""
    found = (path for place in paths.scratch_dirs() for path in place.glob("dualface-*"))
    return [path for path in found if (name := parse(path.name)) and name.owner.pid == pid]


def test_interrupt_in_a_program_leaves_a_playable_part(tmp_path: Path) -> None:
    process = launch(tmp_path, sys.executable, "-c", PROGRAM, slow_clip(tmp_path))
    part = tmp_path / "out.partial.mp4"
    try:
        wait_until(lambda: has_frames(part, 5), 90, "some output")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (output, errors) == ("caught\n", "")
    assert playable_frames(part) >= 5
    assert left_by(process.pid) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_takes_long_is_given_up(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, LONG_CLIP, "-o", "out.mp4", "--summary", "s.json")
    try:
        wait_until(lambda: server_of(process.pid) is not None, 30, "the server process")
        server = server_of(process.pid)
        assert server is not None
        server.suspend()  # it will never be ready
        children = family(process.pid)
        time.sleep(0.5)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert alive(children) == []
    assert left_by(process.pid) == set()
    assert directories_of(process.pid) == []
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]
    assert '"state": "stopped"' in (tmp_path / "s.json").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_that_is_ended_while_it_starts_has_not_failed(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "streams.yaml").write_text("streams: []\n")
    line = (*CLI, "daemon", "--config", "streams.yaml", "--directory", ".", "--port", "0")
    process = launch(tmp_path, *line)
    try:
        wait_until(lambda: server_of(process.pid) is not None, 30, "the server process")
        server = server_of(process.pid)
        assert server is not None
        server.suspend()  # it will never be ready
        children = family(process.pid)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "stopping" in errors
    assert "error" not in errors
    assert alive(children) == []
    assert left_by(process.pid) == set()


def test_waiting_for_a_server_is_given_up(tmp_path: Path) -> None:
    process = start(tmp_path, LONG_CLIP, "--encoder", "none", "--server", "127.0.0.1:9")
    try:
        wait_until(lambda: _handles(process.pid, signal.SIGTERM), 30, "the handler")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "stopping" in errors


def test_a_second_signal_ends_at_once_and_leaves_as_little(tmp_path: Path) -> None:
    process = start(tmp_path, slow_clip(tmp_path), "-o", "out.mp4", "--size", "640x360")
    part = tmp_path / "out.partial.mp4"
    try:
        wait_until(lambda: has_frames(part, 10), 90, "some output")
        children = family(process.pid)
        server = server_of(process.pid)
        assert server is not None
        server.suspend()  # an end in order would wait for its answer
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)  # its requests would be waited for a minute
    finally:
        process.kill()
    assert process.returncode == 130
    assert playable_frames(part) >= 10
    wait_until(lambda: not alive(children), 30, "the server ends with its parent")
    wait_until(lambda: left_by(process.pid) == set(), 30, "nothing of it in /dev/shm")
    wait_until(lambda: directories_of(process.pid) == [], 30, "no server directory")


def test_a_second_signal_with_a_running_server_frees_the_region(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    address = triton_server.grpc_address
    process = start(tmp_path, LONG_CLIP, "--encoder", "none", "--server", address)
    try:
        wait_until(lambda: left_by(process.pid) != set(), 60, "its region")
        # Both at once, as a wrapper does that passes on what the terminal has sent already.
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (130, 143)
    assert left_by(process.pid) == set()


@pytest.mark.parametrize("library", ["_uuid", "_multiarray_umath", "cv2.abi3", "cygrpc"])
def test_interrupt_while_modules_are_imported_shows_no_trace(tmp_path: Path, library: str) -> None:
    process = start(tmp_path, LONG_CLIP, "-o", "out.mp4")
    maps = Path(f"/proc/{process.pid}/maps")
    wait_until(lambda: library in maps.read_text(), 30, f"{library} imported")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in errors, errors
    assert left_by(process.pid) == set()


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """Shells start background jobs so: Ctrl-C is meant for somebody else."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *CLI, "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("gRPC on ")
        process.send_signal(signal.SIGINT)
        time.sleep(1.0)
        assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_help_needs_no_heavy_import() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from dualface_client.cli.commands import COMMANDS, cli\n"
        "for args in ([], *([name] for name in COMMANDS if name not in ('guard', 'plan'))):\n"
        "    done = CliRunner().invoke(cli, [*args, '--help'])\n"
        "    assert done.exit_code == 0 and 'Examples:' in done.output, done.output\n"
        "    text = ' '.join(done.output.split())\n"
        "    assert not args or COMMANDS[args[0]].rstrip('.') in text, text\n"
        "print({'numpy', 'grpc', 'av', 'cv2', 'rich', 'lap', 'jinja2'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def test_a_terminal_that_closes_ends_the_run_in_order(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Kernel and shell both tell of it: the second time is no wish to end at once."""
    run = ("run", str(slow_clip(tmp_path)), "-o", "out.mp4", "--server", triton_server.grpc_address)
    # The tests themselves may have been started by `nohup`.
    process = launch(tmp_path, "env", "--default-signal=HUP", *CLI, *run, "--size", "320x180")
    part = tmp_path / "out.partial.mp4"
    try:
        wait_until(lambda: has_frames(part, 5), 90, "some output")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 129, errors
    assert "stopping" in errors
    assert playable_frames(part) >= 5
    assert left_by(process.pid) == set()
