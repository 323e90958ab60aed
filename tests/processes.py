"""The command as a process of its own, and what it leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import psutil

from dualface_client.memory.names import OwnerState, owner_state, parse
from dualface_client.memory.region import SHM_DIR
from dualface_client.settings import paths
from tests.media import Clip, make

CLI = [sys.executable, "-m", "dualface_client"]
LONG_CLIP = paths.clips_dir() / "franck.mp4"


def left_by(*pids: int) -> set[str]:
    """Files in /dev/shm whose name says that one of these processes owns them."""
    names = {path.name: parse(path.name.partition("_")[0]) for path in SHM_DIR.glob("dualface-*")}
    return {name for name, parsed in names.items() if parsed and parsed.owner.pid in pids}


def dead_memory() -> set[str]:
    """Files in /dev/shm of programs of this user that have ended."""
    names = {path.name for path in SHM_DIR.glob("dualface-*")}
    return {name for name in names if owner_state(name) is OwnerState.GONE}


def family(pid: int) -> list[psutil.Process]:
    """Every process below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:  # it has ended, and they with it
        return []


def wait_until(
    true: Callable[[], object], timeout_s: float = 30.0, what: str = "what is awaited"
) -> None:
    """Waits for a condition, and fails by its name.

    Args:
        true: Looked at again and again; the longer it takes, the less often.
        timeout_s: A failure beyond it, so long that a busy machine is none.
        what: The condition's name.
    """
    begin_s = time.monotonic()
    while not true():
        waited_s = time.monotonic() - begin_s
        assert waited_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(min(0.1, 0.002 + waited_s / 20))


def launch(directory: Path, *command: str | Path) -> subprocess.Popen[str]:
    """Starts a process that Ctrl-C reaches, also where the tests run as a background job."""
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a system call
    )


def start(directory: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """Starts `dualface-client run`."""
    return launch(directory, *CLI, "run", *arguments)


def playable_frames(path: Path) -> int:
    """Frames that a player gets to see."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie does not."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def slow_clip(directory: Path) -> Path:
    """A long video of few frames a second: its output reaches the disk after every few of them."""
    clip = Clip(frames=400, size_wh_px=(160, 120), rate=Fraction(5))
    return make(directory / "slow.mp4", clip)


def start_of(source: Path, target: Path, frames: int) -> Path:
    """The start of a video, its packets as they are."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for count, packet in enumerate(given.demux(stream)):
            if packet.dts is None or count == frames:
                break
            packet.stream = copy
            out.mux(packet)
    return target


def has_frames(path: Path, count: int) -> bool:
    """Whether a file that is being written plays so far."""
    try:
        return playable_frames(path) >= count
    except (av.FFmpegError, OSError):  # nothing that plays yet
        return False
