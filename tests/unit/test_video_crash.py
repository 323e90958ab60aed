"""What is on the disk after a kill and after the disk is full: a file that plays."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.ffmpeg import sink_error
from tests import media
from tests.media import Audio, Clip

_ROOT = Path(__file__).resolve().parents[2]
_RATE = 25

# Writes frames of noise with the source's audio beside them, and says each one's number.
_WRITER = """
import errno, resource, sys, threading
from fractions import Fraction
import numpy as np
from dualface_client.errors import DiskFullError
from dualface_client.types import Frame, Nv12Image, VideoInfo
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.ffmpeg import NO_SPACE
from dualface_client.video.sink import PyavSink

out, audio, limit_bytes, frames = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), sys.argv[4]
if limit_bytes:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
stop = threading.Event()

def tell(full):
    print("waits" if full else "goes on", flush=True)
    if full and sys.argv[7:]:
        threading.Timer(0.5, stop.set).start()

# Where it stands for a full disk, the process's own limit is waited for: a test lifts it.
errnos = frozenset({errno.EFBIG}) if sys.argv[6] == "disk" else NO_SPACE
wait = DiskWait(float(sys.argv[5]), stop, tell, errnos)
info = VideoInfo(96, 64, Fraction(25), Fraction(1, 25))
sink = PyavSink(out, info, (96, 64), audio_from=audio, threads=1, crf=30, disk_wait=wait)
noise = np.random.default_rng(1)
try:
    for index in range(int(frames)):
        y = noise.integers(60, 90, (64, 96), np.uint8)
        image = Nv12Image(y, np.full((32, 48, 2), 128, np.uint8))
        sink.write(Frame(index, index, Fraction(1, 25), image))
        print(index, flush=True)
    sink.close()
except DiskFullError as error:
    sink.abort()
    print("full", sink.partial_path, error, flush=True)
    sys.exit(7)
"""


def start_writer(
    out: Path,
    *,
    audio: Path | None = None,
    limit_bytes: int = 0,
    frames: int = 10_000,
    wait_s: float = 0.0,
    stands_for: str = "disk",
    stop: bool = False,
) -> subprocess.Popen[str]:
    arguments = [str(out), str(audio or ""), str(limit_bytes), str(frames), str(wait_s)]
    arguments.append(stands_for)
    arguments += ["stop"] * stop
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, *arguments], stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )


def kill_after(writer: subprocess.Popen[str], frames: int) -> int:
    """Kills the writer once it has written some frames; gives the number of written ones."""
    with writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= frames - 1:
                break
        writer.send_signal(signal.SIGKILL)
        return frames + len(writer.stdout.read().split())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("audio_s", [0.0, 1.0, 20.0])
def test_after_kill_the_partial_file_plays(tmp_path: Path, suffix: str, audio_s: float) -> None:
    audio = None
    if audio_s:
        clip = Clip(frames=5, audio=[Audio(seconds=audio_s)])
        audio = media.make(tmp_path / "in.mp4", clip)
    out = tmp_path / f"out{suffix}"
    written = kill_after(start_writer(out, audio=audio), frames=150)
    assert not out.exists()
    times = media.times_of(tmp_path / f"out.partial{suffix}")
    assert len(times) >= 0.8 * (written - 2 * _RATE)
    # Matroska has no times below zero: the audio's priming moves both streams.
    start_s = Fraction(21, 1000) if suffix == ".mkv" and audio_s else 0
    assert times == [start_s + Fraction(i, _RATE) for i in range(len(times))]
    if audio is not None:
        copied = media.packets_of(tmp_path / f"out.partial{suffix}", "audio")
        assert copied[-1][0] >= min(audio_s, 0.8 * float(times[-1])) - 0.1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_as_large_as_it_may_be_is_not_waited_for_and_leaves_a_playable_part(
    tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"out{suffix}"
    with start_writer(out, limit_bytes=20_000, wait_s=600, stands_for="itself") as writer:
        *numbers, last = writer.communicate(timeout=60)[0].splitlines()
    assert writer.returncode == 7
    assert "waits" not in numbers
    partial = tmp_path / f"out.partial{suffix}"
    assert last.startswith(f"full {partial}")
    assert "raise the limit (`ulimit -f`)" in last
    assert [path.name for path in tmp_path.iterdir()] == [partial.name]
    assert len(media.times_of(partial)) >= 0.8 * (len(numbers) - 2 * _RATE)


@pytest.mark.parametrize("short_bytes", [1, 1000, 3000])
def test_an_index_that_does_not_fit_leaves_the_fragments(tmp_path: Path, short_bytes: int) -> None:
    with start_writer(tmp_path / "whole.mp4", frames=100) as writer:
        writer.communicate()
    size = (tmp_path / "whole.mp4").stat().st_size
    out = tmp_path / "out.mp4"
    with start_writer(out, limit_bytes=size - short_bytes, frames=100) as writer:
        writer.communicate()
    assert writer.returncode == 7
    assert len(media.times_of(tmp_path / "out.partial.mp4")) >= 0.8 * (100 - 2 * _RATE)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_waited_for_and_the_output_is_as_without(
    tmp_path: Path, suffix: str
) -> None:
    """The limit of the process stands for the disk: it is raised from outside."""
    with start_writer(tmp_path / f"whole{suffix}", frames=100) as writer:
        writer.communicate()
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    out = tmp_path / f"out{suffix}"
    with start_writer(out, limit_bytes=len(whole) // 2, frames=100, wait_s=60) as writer:
        assert writer.stdout is not None
        assert any(line == "waits\n" for line in writer.stdout)
        hard = resource.prlimit(writer.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (hard, hard))
        rest = writer.stdout.read().splitlines()
    assert writer.returncode == 0
    assert "goes on" in rest
    assert len(media.times_of(out)) == 100
    if suffix == ".mp4":  # Matroska has random ids
        assert out.read_bytes() == whole
    found = media.packets_of(out, "video")
    assert found == media.packets_of(tmp_path / f"whole{suffix}", "video")


@pytest.mark.parametrize("stop", [False, True])
def test_the_wait_for_a_full_disk_ends(tmp_path: Path, stop: bool) -> None:
    """By its limit, or by a stop long before; the part so far plays."""
    out = tmp_path / "out.mp4"
    wait_s = 60.0 if stop else 0.5
    with start_writer(out, limit_bytes=20_000, wait_s=wait_s, stop=stop) as writer:
        lines = writer.communicate(timeout=30)[0].splitlines()
    assert writer.returncode == 7
    assert lines.count("waits") == 1
    assert len(media.times_of(tmp_path / "out.partial.mp4")) > 20


def test_only_what_somebody_can_make_room_for_is_waited_for(tmp_path: Path) -> None:
    told: list[bool] = []
    patient = DiskWait(60.0, tell=told.append)
    for number, waited in ((errno.EFBIG, False), (errno.EIO, False), (errno.ENOSPC, True)):
        assert patient.wait(OSError(number, "")) == waited
    assert told == [True]
    assert "no space is left" in str(sink_error(tmp_path, OSError(errno.EDQUOT, "")))
    assert not DiskWait(0.0).wait(OSError(errno.ENOSPC, ""))
