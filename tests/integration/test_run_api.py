"""`process` in Python is what `run` is in a shell, with a real Triton."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dualface_client import PlatformError, UsageError, process
from dualface_client.settings.program import MonitorSettings, ProgramSettings
from dualface_client.settings.stream import DetectionSettings, OutputSettings, StreamSettings
from dualface_client.triton.embedded import EmbeddedServer
from tests.media import Clip, make
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
    start_of,
    wait_until,
)

FRAMES = 20
#: One request at a time and one thread: the same sums in the same order.
STREAM = StreamSettings(
    detection=DetectionSettings(requests_in_flight=1),
    output=OutputSettings((640, 360), preset="ultrafast", encoder_threads=1),
)
OPTIONS = ["--in-flight", "1", "--size", "640x360", "--preset", "ultrafast"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The start of a real clip, its packets as they are."""
    return start_of(LONG_CLIP, tmp_path_factory.mktemp("clip") / "talk.mkv", FRAMES)


def test_a_program_gets_what_the_command_gets(
    triton_server: EmbeddedServer, clip: Path, tmp_path: Path
) -> None:
    address = triton_server.grpc_address
    done = subprocess.run(
        [
            *CLI,
            "run",
            str(clip),
            "-o",
            "command.mp4",
            "--server",
            address,
            "--tracks",
            "command.txt",
            *OPTIONS,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        cwd=tmp_path,
        env={**os.environ, "DUALFACE_OUTPUT_ENCODER_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (report,) = process(
        clip,
        tmp_path / "program.mp4",
        server=address,
        settings=STREAM,
        tracks=tmp_path / "program.txt",
    )
    assert (report.state, report.frames_out, report.error) == ("done", FRAMES, "")
    for suffix in ("txt", "mp4"):
        command, program = (tmp_path / f"{who}.{suffix}" for who in ("command", "program"))
        assert program.read_bytes() == command.read_bytes(), suffix
    assert (tmp_path / "program.txt").stat().st_size > 0


def test_workers_resume_and_a_whole_programs_settings(
    triton_server: EmbeddedServer,
    clip: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = triton_server.grpc_address
    (tmp_path / "in").mkdir()
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / "in" / name).write_bytes(clip.read_bytes())
    (tmp_path / "in" / "broken.mkv").write_bytes(b"no video" * 50)
    program = ProgramSettings(stream=STREAM, monitor=MonitorSettings(interval_s=0.2))
    inputs = [tmp_path / "in"]
    first = process(inputs, tmp_path / "out", server=server, settings=program, workers=2, streams=2)
    assert [report.state for report in first] == ["done", "done", "failed"]
    with caplog.at_level(logging.INFO, "dualface_client"):
        again = process(inputs, tmp_path / "out", server=server, settings=program, resume=True)
    assert [report.resumed for report in again] == [True, True, False]
    assert not [line for line in caplog.messages if "still held" in line]


def test_tracks_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", Clip(frames=2))
    with pytest.raises(UsageError, match=r"--tracks .*: cannot write tracks"):
        process(tmp_path / "a.mp4", tmp_path / "o.mp4", tracks=tmp_path / "no" / "t.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", Clip(frames=2))
    with pytest.raises(PlatformError, match="--device cuda: cupy"):
        process(tmp_path / "a.mp4", None, device="cuda")


PROGRAM = """
import sys
from dualface_client import process
from dualface_client.settings.stream import OutputSettings, StreamSettings
settings = StreamSettings(output=OutputSettings(canvas_wh_px=(640, 360)))
try:
    process(sys.argv[1:], ".", settings=settings, workers=2, streams=2)
except KeyboardInterrupt:
    print("caught", flush=True)
"""


def test_an_interrupt_in_a_program_with_workers_leaves_playable_parts(tmp_path: Path) -> None:
    first = slow_clip(tmp_path)
    second = tmp_path / "second.mp4"
    second.write_bytes(first.read_bytes())
    process = launch(tmp_path, sys.executable, "-c", PROGRAM, first, second)
    parts = [tmp_path / f"{clip.stem}_dualface.partial.mp4" for clip in (first, second)]
    try:
        wait_until(lambda: all(has_frames(part, 5) for part in parts), 90, "some output")
        children = family(process.pid)
        workers = [one for one in children if "dualface_client.workers.process" in one.cmdline()]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert len(workers) == 2
    assert (output, errors) == ("caught\n", "")
    assert [playable_frames(part) >= 5 for part in parts] == [True, True]
    assert alive(children) == []
    assert [left_by(worker.pid) for worker in workers] == [set(), set()]
