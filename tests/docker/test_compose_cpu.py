"""Server and client in containers of their own: work, damage, and nothing left behind.

The tests share one stack and run in order.
"""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.docker.stack import GID, UID, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

FRAMES = 200
CLIENT = "client-cpu"
SERVER = "triton-cpu"


def output(stack: Stack) -> Path:
    return stack.videos / "out" / "cross_once_dualface.mp4"


def is_done(stack: Stack) -> bool:
    return stack.state(CLIENT, ".State.Status") == "exited"


def assert_whole(path: Path) -> None:
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (1920, 1080)
        assert sum(1 for _ in file.decode(stream)) == FRAMES


def regions(stack: Stack) -> list[str]:
    """Shared memory of clients, not of the server's stubs."""
    return [name for name in stack.shared_memory() if "-sys-" in name]


def start_client(stack: Stack) -> None:
    """Starts it anew and waits until it has written frames."""
    output(stack).unlink(missing_ok=True)
    stack.compose("up", "-d", CLIENT)
    partial = stack.videos / "out" / "cross_once_dualface.partial.mp4"
    stack.wait("first frames", lambda: partial.exists() and partial.stat().st_size > 10_000)


def test_up_turns_the_clip_into_two_tiles(stack: Stack) -> None:
    assert stack.state(SERVER, ".State.Health.Status") == "healthy"
    stack.wait("the run's end", lambda: is_done(stack))
    assert stack.state(CLIENT, ".State.ExitCode") == "0"
    assert_whole(output(stack))
    assert regions(stack) == []


def test_nobody_is_root_and_nothing_is_writable(stack: Stack) -> None:
    for service in ("pod", SERVER):
        name = stack.name(service)
        assert stack.docker("exec", name, "id", "-u") == str(UID)
        assert stack.docker("exec", name, "id", "-g") == str(GID)
        done = stack.docker("exec", name, "sh", "-c", "touch /opt/x 2>&1", check=False)
        assert "Read-only file system" in done or "Permission denied" in done
        assert stack.state(service, ".HostConfig.ReadonlyRootfs") == "true"


def test_without_the_key_shared_memory_is_refused(stack: Stack) -> None:
    without = ("run", "--rm", "-T", "-e", "DUALFACE_SERVER_KEY_FILE=", CLIENT)
    done = stack.compose(*without, "reap", "--server", "127.0.0.1:8001", check=False)
    assert done.returncode != 0
    assert "restricted" in done.stdout + done.stderr


def test_killed_client_is_cleaned_up_by_reap(stack: Stack) -> None:
    start_client(stack)
    (region,) = regions(stack)
    stack.docker("kill", "-s", "KILL", stack.name(CLIENT))
    stack.wait("the client's death", lambda: is_done(stack))
    assert regions(stack) == [region]
    done = stack.compose("run", "--rm", "-T", CLIENT, "reap", "--server", "127.0.0.1:8001")
    assert f"unregistered {region}" in done.stdout
    assert f"removed {region}" in done.stdout
    assert regions(stack) == []


def test_client_outlives_a_restart_of_the_server(stack: Stack) -> None:
    start_client(stack)
    stack.docker("restart", stack.name(SERVER))
    took_s = stack.wait("the run's end", lambda: is_done(stack), 240.0)
    tries = stack.state(CLIENT, ".RestartCount")
    assert stack.state(CLIENT, ".State.ExitCode") == "0", f"{took_s:.0f} s, {tries} restarts"
    assert_whole(output(stack))


def test_nothing_is_left_in_shared_memory(stack: Stack) -> None:
    stack.docker("stop", stack.name(SERVER))
    assert stack.state(SERVER, ".State.ExitCode") == "0"
    assert stack.shared_memory() == []
