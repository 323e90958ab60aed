"""The command with its own embedded server: ends in order, on Ctrl-C, and when killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import psutil

from dualface_client.memory.names import parse
from dualface_client.settings import paths

CLI = [sys.executable, "-m", "dualface_client"]
SHM = Path("/dev/shm")  # noqa: S108 - the kernel's fixed place
LONG_CLIP = paths.clips_dir() / "franck.mp4"


def left_by(pid: int) -> set[str]:
    """Files in /dev/shm whose name says that this process owns them."""
    names = {path.name: parse(path.name.partition("_")[0]) for path in SHM.glob("dualface-*")}
    return {name for name, parsed in names.items() if parsed and parsed.owner.pid == pid}


def family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def start(tmp_path: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CLI, "run", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip


def playable_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_interrupt_ends_in_order_and_leaves_a_playable_part(tmp_path: Path) -> None:
    process = start(
        tmp_path, LONG_CLIP, "-o", "out.mp4", "--summary", "s.json", "--size", "640x360"
    )
    part = tmp_path / "out.partial.mp4"
    try:
        wait_until(lambda: part.exists() and part.stat().st_size > 20_000, 60, "some output")
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


def test_after_kill_the_part_plays_and_the_next_reap_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, LONG_CLIP, "-o", "out.mp4", "--size", "640x360")
    part = tmp_path / "out.partial.mp4"
    wait_until(lambda: part.exists() and part.stat().st_size > 60_000, 60, "some output")
    children = family(process.pid)
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: not alive(children), 15, "the server ends with its parent")
    assert playable_frames(part) > 10
    assert left_by(process.pid) != set()
    done = subprocess.run([*CLI, "reap"], capture_output=True, text=True, check=True, timeout=30)
    assert "removed dualface-" in done.stdout
    assert left_by(process.pid) == set()


def test_serve_answers_run_and_ends_on_interrupt(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [*CLI, "serve", "--model-threads", "1"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("gRPC on 127.0.0.1:")
        address = line.split()[2].rstrip(",")
        clip = tmp_path / "short.mkv"
        _copy_start(LONG_CLIP, clip, frames=20)
        runs = [
            start(tmp_path, clip, "-o", f"{n}.mp4", "--server", address, "--tracks", f"{n}.txt")
            for n in (1, 2)
        ]
        for run in runs:
            _, errors = run.communicate(timeout=90)
            assert run.returncode == 0, errors
        children = family(server.pid)
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.communicate()
    assert alive(children) == []
    first, second = ((tmp_path / f"{n}.txt").read_text() for n in (1, 2))
    assert first == second  # two processes at once on one server: the same result
    rows = [line.split(",") for line in first.splitlines()]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 21)]
    assert {row[1] for row in rows} == {"1"}
    assert playable_frames(tmp_path / "1.mp4") == 20


def _copy_start(source: Path, target: Path, frames: int) -> None:
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        left = frames
        for packet in given.demux(stream):
            if packet.dts is None or left == 0:
                break
            packet.stream = copy
            out.mux(packet)
            left -= 1


def test_models_that_are_not_there_are_named_before_anything_starts(tmp_path: Path) -> None:
    environment = {**os.environ, "DUALFACE_HOME": str(tmp_path / "empty")}
    done = subprocess.run(
        [*CLI, "run", str(LONG_CLIP), "-o", "out.mp4"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "face_detect.onnx: no such model file; run `make models`" in done.stderr
    assert "Traceback" not in done.stderr


def test_own_weights_that_do_not_fit_are_refused_by_tensor(tmp_path: Path) -> None:
    reid = paths.models_dir() / "face_reid.onnx"
    done = subprocess.run(
        [*CLI, "run", str(LONG_CLIP), "-o", "out.mp4", "--detector-onnx", str(reid)],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "face_detect: input tensors are 'chip', expected 'image' alone" in done.stderr
