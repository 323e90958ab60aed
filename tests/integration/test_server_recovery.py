"""The server is killed, stopped or paused while a client works: files lose no frame.

"Stopped" is a real SIGSTOP of the real server, what `docker pause` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import psutil
import pytest

from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.batch.server_restarter import ServerRestarter
from dualface_client.errors import InferenceTimeoutError, ServerUnreachableError, StoppedError
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.settings import paths
from dualface_client.settings.stream import DetectionSettings, OutputSettings, StreamSettings
from dualface_client.stream.device_cpu import CpuDevice
from dualface_client.stream.job import new_statuses
from dualface_client.stream.session import run_worker
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.recovery import PASSING, Endurance
from dualface_client.triton.registration import register, registered_regions, unregister
from dualface_client.triton.session import Session, SlotGroup
from tests import media

FRAMES = 30
SETTINGS = StreamSettings(
    detection=replace(DetectionSettings(), timeout_s=5.0),
    output=OutputSettings((320, 180), preset="ultrafast", encoder_threads=1),
    server_wait_s=20.0,
)
#: Encoded pictures with their times, and the tracks.
Made = tuple[list[tuple[Fraction, bytes]], str]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of a real clip with one person: detection and ReID are both asked."""
    path = tmp_path_factory.mktemp("clip") / "start.mkv"
    with av.open(str(paths.clips_dir() / "franck.mp4")) as given, av.open(str(path), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for _, packet in zip(range(FRAMES), given.demux(stream), strict=False):
            packet.stream = copy
            out.mux(packet)
    return path


@pytest.fixture(scope="module")
def one_server(real_models: tuple[EmbeddedModel, ...]) -> Iterator[EmbeddedServer]:
    """For the tests of this file alone: they kill and stop it."""
    with EmbeddedServer(paths.tritonserver_dir(), real_models, EmbeddedOptions(1)) as server:
        yield server


@pytest.fixture
def server(one_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    if not one_server.is_alive():
        one_server.restart()
    yield one_server
    proceed(one_server)


@pytest.fixture(scope="module")
def expected(
    one_server: EmbeddedServer, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """What an undisturbed run makes of the clip."""
    work = Work(one_server, clip, tmp_path_factory.mktemp("reference") / "out.mp4").begin()
    report, made = work.end()
    assert (report.state, report.frames_out) == ("done", FRAMES)
    assert report.reid_frames > 0
    return made


def pause(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    while psutil.Process(server.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)  # a thread may be at work for a moment still


def proceed(server: EmbeddedServer) -> None:
    if server.is_alive():
        os.kill(server.pid, signal.SIGCONT)


def kill(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)


@dataclass
class Work:
    """One file through a worker, in the background."""

    server: EmbeddedServer
    clip: Path
    out: Path
    settings: StreamSettings = SETTINGS
    stop: Stop = field(default_factory=Stop)

    def __post_init__(self) -> None:
        self.jobs = jobs_of_inputs([str(self.clip)], str(self.out))
        self.status: StreamStatus = new_statuses(self.jobs)[0]
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        setup = WorkerSetup(
            self.server.grpc_address, settings=self.settings, tracks=self.out.with_suffix(".txt")
        )
        run_worker(setup, CpuDevice(1), self.jobs, [self.status], self.stop)

    def begin(self) -> Work:
        self.thread.start()
        return self

    def until_frame(self, count: int) -> None:
        while self.status.snapshot().frames_in < count and self.thread.is_alive():
            time.sleep(0.005)

    def end(self) -> tuple[StreamReport, Made]:
        self.thread.join(60.0)
        assert not self.thread.is_alive()
        report = self.status.snapshot()
        packets = media.packets_of(self.out, "video") if report.state == "done" else []
        return report, (packets, self.out.with_suffix(".txt").read_text())


def test_kills_in_the_middle_of_a_file_change_nothing(
    server: EmbeddedServer, clip: Path, expected: Made, tmp_path: Path
) -> None:
    pids = set()
    with ServerRestarter(server) as watch:
        work = Work(server, clip, tmp_path / "out.mp4").begin()
        for at_frame in (8, 20):
            work.until_frame(at_frame)
            pids.add(server.pid)
            kill(server)
        report, made = work.end()
    # Not `restarts == 2`: a server can answer, and be killed, before its start is over.
    assert watch.restarts >= 1
    assert len(pids | {server.pid}) == 3, "the server was not killed twice"
    assert (report.state, report.error, report.frames_out) == ("done", "", FRAMES)
    assert made == expected
    assert report.resends >= 2
    assert any("was restarted" in note for note in report.warnings)


def test_a_server_that_somebody_else_restarts_is_awaited(
    server: EmbeddedServer, clip: Path, expected: Made, tmp_path: Path
) -> None:
    work = Work(server, clip, tmp_path / "out.mp4").begin()
    work.until_frame(8)
    kill(server)
    time.sleep(1.0)
    server.restart()
    report, made = work.end()
    assert (report.state, report.error) == ("done", "")
    assert made == expected


def test_a_paused_server_costs_time_only(
    server: EmbeddedServer, clip: Path, expected: Made, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, detection=replace(SETTINGS.detection, timeout_s=2.0))
    work = Work(server, clip, tmp_path / "out.mp4", settings).begin()
    work.until_frame(8)
    pause(server)
    time.sleep(3.0)
    proceed(server)
    report, made = work.end()
    assert (report.state, report.error) == ("done", "")
    assert made == expected


def test_a_server_that_hangs_for_good_fails_the_stream_in_time(
    server: EmbeddedServer, clip: Path, tmp_path: Path
) -> None:
    settings = replace(
        SETTINGS, detection=replace(SETTINGS.detection, timeout_s=2.0), server_wait_s=0.5
    )
    work = Work(server, clip, tmp_path / "out.mp4", settings).begin()
    work.until_frame(8)
    pause(server)
    report, _ = work.end()
    assert (report.state, report.exit_code) == ("failed", 3)
    assert "did not come back in 0.5 s" in report.error
    assert report.partial_output


def test_a_stop_is_heard_while_the_server_is_awaited(
    server: EmbeddedServer, clip: Path, tmp_path: Path
) -> None:
    work = Work(server, clip, tmp_path / "out.mp4").begin()
    work.until_frame(8)
    kill(server)
    time.sleep(0.5)
    work.stop.ask()
    report, _ = work.end()
    assert (report.state, report.error) == ("stopped", "")
    assert report.partial_output


PAUSED_CLIENT = """
import sys
from dataclasses import replace
from dualface_client.batch.process import process
from dualface_client.settings.stream import DetectionSettings, StreamSettings
settings = StreamSettings(detection=replace(DetectionSettings(), timeout_s=2.0))
print("ready", flush=True)
(report,) = process([sys.argv[1]], sys.argv[2], server=sys.argv[3], settings=settings)
print(report.state, report.frames_out, report.error, flush=True)
"""


def test_a_paused_client_goes_on(server: EmbeddedServer, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    client = subprocess.Popen(
        [sys.executable, "-c", PAUSED_CLIENT, str(clip), str(out), server.grpc_address],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    partial = tmp_path / "out.partial.mp4"
    while not partial.exists() and client.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    client.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    client.send_signal(signal.SIGCONT)
    assert client.communicate(timeout=60)[0] == f"done {FRAMES} \n"


def embed(session: Session, timeout_s: float) -> None:
    with session.lease("face_reid", 1.0) as lease:
        session.input_array("face_reid", lease)[:] = 7
        session.infer_async("face_reid", lease, timeout_s=timeout_s).result()


def test_slots_of_late_requests_come_back_when_the_server_has_let_go(
    server: EmbeddedServer,
) -> None:
    with Session(server.grpc_address, {"face_reid": SlotGroup(1, 2)}) as session:
        embed(session, 5.0)
        pause(server)
        with pytest.raises(InferenceTimeoutError):
            embed(session, 0.2)
        assert session.pool.counts()["face_reid"].quarantined == 1
        assert not session.recovery.renew(), "the server may write into the slot still"
        assert session.pool.counts()["face_reid"].quarantined == 1
        proceed(server)
        time.sleep(2.1)  # renewals are not asked for more often
        embed(session, 5.0)
        assert session.pool.counts()["face_reid"].quarantined == 0
        assert session.pool.region.name in registered_regions(session.connection)
        embed(session, 5.0)


def test_a_slot_that_is_waited_for_comes_back_as_soon_as_the_server_has_let_go(
    server: EmbeddedServer,
) -> None:
    """Where every slot is in quarantine nobody but the one who waits can ask for it."""
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise StoppedError("stopped")

    with Session(server.grpc_address, {"face_reid": SlotGroup(1, 1)}, check=check) as session:
        embed(session, 5.0)
        pause(server)
        with pytest.raises(InferenceTimeoutError):
            embed(session, 0.2)
        assert session.pool.counts()["face_reid"].quarantined == 1
        threading.Timer(1.5, proceed, (server,)).start()
        begin_s = time.monotonic()
        session.lease("face_reid", 20.0).release()
        assert time.monotonic() - begin_s > 1.5
        with session.lease("face_reid", 1.0):
            threading.Timer(0.2, stop.set).start()
            with pytest.raises(StoppedError):
                session.lease("face_reid", 20.0)


def test_a_dead_model_process_is_a_restart_where_the_server_is_ours(
    server: EmbeddedServer,
) -> None:
    groups = {"face_reid": SlotGroup(1, 2)}
    with ServerRestarter(server), Session(server.grpc_address, groups) as session:
        for stub in psutil.Process(server.pid).children():
            stub.kill()
        with pytest.raises(PASSING) as died:
            embed(session, 5.0)
        session.recover(died.value, session.client.epoch)
        embed(session, 5.0)
        assert session.recovery.returns == 1


def test_a_server_that_never_answers_between_its_restarts_is_given_up(
    server: EmbeddedServer,
) -> None:
    """The bound on restarts; nothing is sent in between, so that each of them is in vain."""
    endurance = Endurance(5.0, pause_s=0.01)
    with Session(
        server.grpc_address, {"face_reid": SlotGroup(1, 2)}, endurance=endurance
    ) as session:
        failure = ServerUnreachableError("gone")
        for count in range(6):
            unregister(session.connection, session.pool.region.name)  # as a restart does
            if count == 5:
                with pytest.raises(ServerUnreachableError, match="came back 5 times and answered"):
                    session.recover(failure, session.client.epoch)
            else:
                session.recover(failure, session.client.epoch)
        register(session.connection, session.pool.region)
