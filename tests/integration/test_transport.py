"""A server that sees none of the client's memory, as on another host: frames go in messages."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from dualface_client.batch.server_restarter import ServerRestarter
from dualface_client.errors import ServerError
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedServer
from dualface_client.triton.recovery import PASSING, Endurance
from dualface_client.triton.registration import registered_regions
from dualface_client.triton.session import Session, SlotGroup
from dualface_client.triton.transport import TransportKind
from tests.processes import CLI, LONG_CLIP, start_of, wait_until

StartServer = Callable[[Sequence[EmbeddedModel]], EmbeddedServer]
FRAMES = 8
SHARED = ["--size", "320x180", "--preset", "ultrafast", "--device", "cpu"]
#: A /dev/shm of its own, which is what another host has.
ELSEWHERE = [
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    *('mount -t tmpfs -o size=256m tmpfs /dev/shm && exec "$@"', "sh"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_of(LONG_CLIP, tmp_path_factory.mktemp("clip") / "talk.mkv", FRAMES)


def run(
    clip: Path, folder: Path, server: EmbeddedServer, *options: str, elsewhere: bool = False
) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    command = [*CLI, "run", str(clip), "-o", str(folder / "out.mp4"), *SHARED]
    command += ["--server", server.grpc_address, "--tracks", str(folder / "tracks.txt"), *options]
    return subprocess.run(
        [*ELSEWHERE, *command] if elsewhere else command,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "DUALFACE_OUTPUT_ENCODER_THREADS": "1"},
    )


def test_a_server_elsewhere_refuses_shared_memory_and_makes_the_same_of_bytes(
    triton_server: EmbeddedServer, clip: Path, tmp_path: Path
) -> None:
    if subprocess.run([*ELSEWHERE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow unprivileged mounts")
    refused = run(clip, tmp_path / "refused", triton_server, elsewhere=True)
    assert refused.returncode == 3, refused.stderr
    assert "Client and server must share /dev/shm: same host" in refused.stderr
    assert "on another host there is --transport bytes" in refused.stderr
    here = run(clip, tmp_path / "shm", triton_server)
    assert here.returncode == 0, here.stderr
    there = run(clip, tmp_path / "bytes", triton_server, "--transport", "bytes", elsewhere=True)
    assert there.returncode == 0, there.stderr
    for name in ("tracks.txt", "out.mp4"):
        made = (tmp_path / "bytes" / name).read_bytes()
        assert made == (tmp_path / "shm" / name).read_bytes()
        assert made


def test_nothing_is_registered_and_answers_are_those_of_shared_memory(
    triton_server: EmbeddedServer,
) -> None:
    rows, counts = [], []
    kinds: tuple[TransportKind, ...] = ("shm", "bytes", "gzip")
    for transport in kinds:
        groups = {"face_detect": SlotGroup(2, 1), "face_reid": SlotGroup(1, 1)}
        with Session(triton_server.grpc_address, groups, transport=transport) as session:
            counts.append(len(registered_regions(session.connection)))
            with session.lease("face_detect", 1.0) as lease:
                pixels = session.input_array("face_detect", lease, 2)
                pixels[:] = np.arange(pixels.size, dtype=np.uint8).reshape(pixels.shape)
                rows.append(session.infer_async("face_detect", lease, 2).result())
    assert counts[1] == counts[2] == counts[0] - 1
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])
    rows[1][:] = 0.0  # the caller's own, as that of shared memory is


def ask(session: Session) -> float:
    """One request, sent again after a recovery as `models.faces` does."""
    while True:
        with session.lease("face_reid", 30.0) as lease:
            session.input_array("face_reid", lease)[:] = 7
            pending = session.infer_async("face_reid", lease)
        try:
            return float(pending.result()[0, 0])
        except PASSING as error:
            session.recover(error, pending.epoch)


@pytest.mark.parametrize("victim", ["server", "model"])
def test_a_server_that_is_killed_answers_again_after_its_restart(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...], victim: str
) -> None:
    server = start_server(tiny_models)
    with (
        ServerRestarter(server) as watch,
        Session(server.grpc_address, {"face_reid": SlotGroup(1, 2)}, transport="bytes") as session,
    ):
        before = ask(session)
        pid = server.pid
        models = psutil.Process(pid).children(recursive=True)
        for process in [psutil.Process(pid)] if victim == "server" else models:
            process.send_signal(signal.SIGKILL)
        assert ask(session) == before
        wait_until(lambda: watch.restarts, what="the restart is counted")
        assert (watch.restarts, server.pid != pid) == (1, True)


def test_a_server_that_stays_away_is_said(
    start_server: StartServer, tiny_models: tuple[EmbeddedModel, ...]
) -> None:
    server = start_server(tiny_models)
    groups = {"face_reid": SlotGroup(1, 1)}
    with Session(
        server.grpc_address, groups, transport="bytes", endurance=Endurance(wait_s=1.0)
    ) as session:
        server.close(grace_s=0.0)
        with pytest.raises(ServerError, match="did not come back in 1 s"):
            ask(session)
