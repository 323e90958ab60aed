"""The supervisor's decisions about workers that died, hung or were refused; processes are real."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dualface_client.observe.report import StreamStatus
from dualface_client.pipeline.jobs import Job
from dualface_client.pipeline.runner import new_statuses
from dualface_client.pipeline.supervisor import Patience, Supervisor
from dualface_client.pipeline.worker_link import WorkerLink
from dualface_client.pipeline.worker_process import WorkerSetup
from dualface_client.settings.run import RunSettings
from tests import media
from tests.media import Clip


def supervisor(
    port: int = 9, *, patience: Patience | None = None, open_access: bool = False
) -> Supervisor:
    setup = WorkerSetup(f"127.0.0.1:{port}", "cpu", RunSettings(), 1, open_access=open_access)
    return Supervisor(setup, 1, None, patience)


def killed_worker() -> WorkerLink:
    """A process that was killed as if it had been working."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.kill()
    process.wait(5.0)
    return WorkerLink(1, process, time.monotonic(), ready=True)


def worked_on(folder: Path, overseer: Supervisor) -> tuple[Job, StreamStatus, WorkerLink]:
    media.make(folder / "a.mp4", Clip(frames=20))
    job = Job("a", folder / "a.mp4", folder / "out.mp4")
    (status,) = new_statuses([job])
    overseer.add(job, status)
    status.update(state="running", frames_in=20, frames_out=18)
    link = killed_worker()
    link.running["a"] = job
    return job, status, link


def die(overseer: Supervisor, link: WorkerLink) -> None:
    overseer._on_death(overseer._seats[0], link)
    link.close()


def test_a_worker_that_dies_after_its_file_was_whole_costs_nothing(tmp_path: Path) -> None:
    overseer = supervisor()
    _, status, link = worked_on(tmp_path, overseer)
    media.make(tmp_path / "out.mp4", Clip(frames=20, size_wh_px=(96, 64)))
    die(overseer, link)
    report = status.snapshot()
    assert (report.state, report.frames_out, report.attempts) == ("done", 20, 1)
    assert any("killed by SIGKILL) after the output was complete" in w for w in report.warnings)


def test_an_output_of_damaged_input_is_verified_by_what_the_worker_told(tmp_path: Path) -> None:
    overseer = supervisor()
    _, status, link = worked_on(tmp_path, overseer)
    status.update(decode_errors=2)
    media.make(tmp_path / "out.mp4", Clip(frames=18, size_wh_px=(96, 64)))
    die(overseer, link)
    assert (status.snapshot().state, status.snapshot().frames_out) == ("done", 18)


@pytest.mark.parametrize("frames", [0, 7])
def test_a_worker_that_dies_before_starts_its_file_again(tmp_path: Path, frames: int) -> None:
    overseer = supervisor()
    _, status, link = worked_on(tmp_path, overseer)
    if frames:  # somebody else's
        media.make(tmp_path / "out.mp4", Clip(frames=frames, size_wh_px=(96, 64)))
    die(overseer, link)
    assert (status.snapshot().state, status.snapshot().attempts) == ("waiting", 2)


def test_an_output_that_was_to_be_replaced_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    media.make(tmp_path / "out.mp4", Clip(frames=20, size_wh_px=(96, 64)))
    overseer = supervisor()
    _, status, link = worked_on(tmp_path, overseer)
    die(overseer, link)
    assert status.snapshot().state == "waiting"


@pytest.mark.parametrize("open_access", [True, False])
def test_an_unreadable_key_file_does_not_end_the_run_at_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, open_access: bool
) -> None:
    monkeypatch.setenv("DUALFACE_SERVER_KEY_FILE", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        asked = threading.Event()
        threading.Thread(target=hang_up, args=(server, asked)).start()
        overseer = supervisor(server.getsockname()[1], open_access=open_access)
        _, status, link = worked_on(tmp_path, overseer)
        die(overseer, link)
    assert status.snapshot().attempts == 2
    assert asked.is_set() == open_access  # an embedded server needs no key


def hang_up(server: socket.socket, asked: threading.Event) -> None:
    with contextlib.suppress(OSError):  # nobody came, or the test is over
        while True:
            server.accept()[0].close()
            asked.set()
