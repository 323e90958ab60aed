"""The supervisor's decisions about workers that died, hung or were refused; processes are real."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualface_client.errors import ServerError
from dualface_client.observe.report import StreamStatus
from dualface_client.observe.run_log import run_log
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.setup import WorkerSetup
from dualface_client.workers.link import Heard, WorkerLink, _read_messages
from dualface_client.workers.messages import Beat, Ready, encode, heard_by_supervisor
from dualface_client.workers.patience import Patience, SilenceMonitor
from dualface_client.workers.place import Place
from dualface_client.workers.process import _LogForward, _Voice
from dualface_client.workers.supervisor import Supervisor
from tests import media
from tests.media import Clip


def supervisor(
    port: int = 9,
    *,
    workers: int = 1,
    patience: Patience | None = None,
    open_access: bool = False,
) -> Supervisor:
    setup = WorkerSetup(f"127.0.0.1:{port}", "cpu", StreamSettings(), 1, open_access=open_access)
    return Supervisor([Place(setup, workers)], None, patience)


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
    overseer._waiting.clear()  # handed out
    status.update(state="running", frames_in=20, frames_out=18)
    link = killed_worker()
    link.running["a"] = job
    return job, status, link


def die(overseer: Supervisor, link: WorkerLink) -> None:
    overseer._on_death(overseer._workers[0], link)
    link.close()


def test_a_worker_that_dies_after_its_file_was_whole_costs_nothing(tmp_path: Path) -> None:
    overseer = supervisor()
    _, status, link = worked_on(tmp_path, overseer)
    media.make(tmp_path / "out.mp4", Clip(frames=20, size_wh_px=(96, 64)))
    lines: list[str] = []
    with run_log("text", lines.append):
        die(overseer, link)
    assert lines == ["worker 1 died (killed by SIGKILL) under a"]  # and is needed no more
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
        caller = threading.Thread(target=hang_up, args=(server, asked))
        caller.start()
        overseer = supervisor(server.getsockname()[1], open_access=open_access)
        _, status, link = worked_on(tmp_path, overseer)
        die(overseer, link)
        caller.join(5.0)
    assert status.snapshot().attempts == 2
    assert asked.is_set() == open_access  # an embedded server needs no key


def hang_up(server: socket.socket, asked: threading.Event) -> None:
    with contextlib.suppress(OSError):  # nobody came, or the test is over
        while True:
            server.accept()[0].close()
            asked.set()


@pytest.fixture
def quiet_worker() -> Iterator[WorkerLink]:
    """A worker that lives and says nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    link = WorkerLink(1, process, time.monotonic(), ready=True)
    yield link
    link.close()


def look(watch: SilenceMonitor, link: WorkerLink, from_s: float, to_s: float) -> float:
    """Looks ten times a second; the time at which the worker was killed, 0 for not at all."""
    for tenth in range(round(from_s * 10), round(to_s * 10) + 1):
        before_s = link.heard_s
        watch.kill_silent([link], tenth / 10)
        if link.heard_s > before_s:
            return tenth / 10
    return 0.0


def test_a_silent_worker_is_killed(quiet_worker: WorkerLink) -> None:
    watch = SilenceMonitor(Patience(silence_s=30.0))
    watch.kill_silent([], 1000.0)
    quiet_worker.heard_s = 1000.0
    assert look(watch, quiet_worker, 1000, 1040) == 1030.1
    assert quiet_worker.process.wait(5.0) == -9


def test_the_supervisors_own_pause_is_no_silence_of_a_worker(quiet_worker: WorkerLink) -> None:
    watch = SilenceMonitor(Patience(silence_s=30.0))
    watch.kill_silent([], 1000.0)
    quiet_worker.heard_s = 999.0
    watch.kill_silent([quiet_worker], 1600.0)  # ten minutes of SIGSTOP
    assert quiet_worker.heard_s == 1599.0
    assert quiet_worker.process.poll() is None
    assert look(watch, quiet_worker, 1600.1, 1640) == 1629.1  # still silent: killed all the same


def test_what_a_worker_says_counts_when_it_arrives_not_when_it_is_read() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"print({encode(Beat()).decode()!r}, end='')"],
        stdout=subprocess.PIPE,
    )
    link = WorkerLink(1, process, 0.0)
    heard: queue.Queue[Heard] = queue.Queue(4)
    assert process.stdout is not None
    _read_messages(link, process.stdout, heard, threading.Event())
    link.close()
    assert heard.qsize() == 2  # the beat and the end, both unread
    assert link.heard_s > 0


def test_everything_that_has_arrived_is_read_before_silence_is_judged(
    quiet_worker: WorkerLink,
) -> None:
    overseer = supervisor()
    for message in (Beat(), Beat(), Ready()):
        overseer._heard.put(Heard(quiet_worker, message))
    quiet_worker.ready = False
    overseer._listen()
    assert quiet_worker.ready


def test_a_workers_trace_reaches_the_json_log(quiet_worker: WorkerLink) -> None:
    pipe = io.BytesIO()
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:  # made for its trace
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broken", None, sys.exc_info())
    _LogForward(_Voice(pipe)).emit(record)
    overseer, lines = supervisor(), list[str]()
    overseer._heard.put(Heard(quiet_worker, heard_by_supervisor(pipe.getvalue())))
    with run_log("json", lines.append):
        overseer._listen()
    (told,) = map(json.loads, lines)
    assert told["text"] == "broken"
    assert told["trace"].endswith("ZeroDivisionError: oops")


def refused_worker() -> WorkerLink:
    """A process that ended in an error before it had a session."""
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    process.wait(30.0)
    return WorkerLink(1, process, time.monotonic(), refused=ServerError("not there"))


def test_a_worker_that_was_told_to_end_is_not_said_to_be_started_again() -> None:
    overseer, lines = supervisor(), list[str]()
    link = refused_worker()
    link.told_to_end = True
    with run_log("json", lines.append):
        overseer._on_end(overseer._workers[0], link)
    assert (lines, overseer._workers[0].restarts) == ([], 0)


def test_a_refusal_behind_a_stop_is_no_failure_of_the_run() -> None:
    overseer = supervisor()
    overseer._ask_to_stop(None)
    overseer._on_end(overseer._workers[0], refused_worker())
    assert overseer._workers[0].restarts == 0


def test_the_first_refusal_of_a_run_is_its_failure() -> None:
    overseer = supervisor()
    with pytest.raises(ServerError, match="not there"):
        overseer._on_end(overseer._workers[0], refused_worker())


def refuse(overseer: Supervisor, times: int) -> None:
    for _ in range(times):
        overseer._on_end(overseer._workers[0], refused_worker())


def test_refusals_do_not_end_the_work_of_a_worker_that_is_well(quiet_worker: WorkerLink) -> None:
    overseer = supervisor(workers=2)
    quiet_worker.number = 2
    overseer._workers[1].link = quiet_worker
    overseer._on_message(overseer._workers[1], quiet_worker, Ready())
    refuse(overseer, 20)  # no room in shared memory for a second one, say
    assert overseer._workers[0].restarts == 20
    overseer._workers[1].link = None
    with pytest.raises(ServerError, match="not there"):
        refuse(overseer, 1)


class Unending(subprocess.Popen[bytes]):
    """A process that a signal does not end, as one that hangs in a driver's call."""

    def kill(self) -> None:
        """Nothing happens."""

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(None if timeout is None else 0.01)


def test_a_worker_that_no_signal_ends_does_not_keep_the_others_from_their_end() -> None:
    overseer = supervisor(workers=2)
    processes = [
        kind([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        for kind in (Unending, subprocess.Popen)
    ]
    for worker, process in zip(overseer._workers, processes, strict=True):
        worker.link = WorkerLink(worker.number, process, time.monotonic(), ready=True)
    lines: list[str] = []
    with run_log("text", lines.append):
        overseer._close()
    assert processes[1].poll() == -9
    assert all(worker.link is None for worker in overseer._workers)
    assert [line for line in lines if "worker 1" in line and str(processes[0].pid) in line]
    assert processes[0].stdin is not None
    processes[0].stdin.close()
    subprocess.Popen.wait(processes[0], 5.0)
