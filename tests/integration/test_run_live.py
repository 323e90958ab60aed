"""`dualface-client run` on live streams of real servers, which are killed, paused and restarted."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import pytest

from dualface_client.triton.embedded import EmbeddedServer
from tests.live_servers import free_port, rtsp_server, tcp_camera, why_no_rtsp_server
from tests.media import Audio, Clip, make, repeated
from tests.processes import CLI, launch, wait_until

#: They bound a hang: a loaded machine takes many times what an idle one does.
PATIENCE_S = 300.0
#: Pictures of a loaded machine are seconds behind their sound when it is stopped.
ON_THE_WAY_S = 10.0
pytestmark = pytest.mark.timeout(3 * PATIENCE_S)
SECONDS = tuple(range(1, 60))
CAMERA = Clip(
    frames=1500,
    size_wh_px=(160, 120),
    options={"g": "10", "bf": "0"},
    audio=(Audio(seconds=60.0, beeps_s=SECONDS),),
    flashes_s=SECONDS,
)
needs_rtsp = pytest.mark.skipif(bool(why_no_rtsp_server()), reason=why_no_rtsp_server() or "none")


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flash and a beep in every second, for longer than any test takes."""
    folder = tmp_path_factory.mktemp("camera")
    return repeated(folder / "camera.mp4", make(folder / "minute.mp4", CAMERA), times=20)


@dataclass
class Running:
    process: subprocess.Popen[str]
    state: Path

    def stream(self) -> dict[str, Any]:
        try:
            (stream,) = json.loads(self.state.read_text())["streams"]
        except FileNotFoundError:  # not yet
            return {"frames_out": 0, "reconnects": 0, "state": "waiting"}
        return dict(stream)

    def wait_for(self, true: Callable[[dict[str, Any]], object], what: str) -> None:
        def holds() -> object:
            assert self.process.poll() is None, self.process.communicate()[1]
            return true(self.stream())

        wait_until(holds, PATIENCE_S, what)

    def wait_to_exceed(self, figure: str, value: int) -> None:
        self.wait_for(lambda stream: stream[figure] > value, f"{figure} above {value}")

    def stop(self) -> tuple[dict[str, Any], str]:
        self.process.send_signal(signal.SIGINT)
        _, told = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 130, told
        return self.stream(), told


@pytest.fixture
def start(triton_server: EmbeddedServer, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts the command on the shared server."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str) -> Running:
        state = tmp_path / "state.json"
        command = [*CLI, "run", *arguments, "--server", triton_server.grpc_address]
        command += ["--size", "320x180", "--preset", "ultrafast", "--state", str(state)]
        started.append(launch(tmp_path, *command))
        return Running(started[-1], state)

    yield call
    for process in started:
        process.kill()
        process.communicate()


def check_figures(stream: dict[str, Any]) -> None:
    assert stream["frames_in"] == stream["frames_out"] + sum(stream["dropped"].values())


def check_whole(path: Path) -> None:
    """Picture and sound, of the same length but for what was on its way at the end."""
    with av.open(str(path)) as container:
        ends: dict[str, float] = {}
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                kind = packet.stream.type
                ends[kind] = max(ends.get(kind, 0.0), float(packet.pts * packet.time_base))
    assert set(ends) == {"video", "audio"}
    assert abs(ends["video"] - ends["audio"]) < ON_THE_WAY_S, ends


def test_a_camera_is_killed_paused_and_replaced_and_the_output_goes_on(
    start: Callable[..., Running], tmp_path: Path, camera: Path
) -> None:
    port, out = free_port(), tmp_path / "out.mp4"
    larger = make(tmp_path / "larger.mp4", replace(CAMERA, size_wh_px=(320, 160)))
    address = f"tcp://127.0.0.1:{port}"
    with tcp_camera(port, camera):
        options = ("--input-schemes", "tcp", "--input-read-timeout-s", "1")
        running = start(address, "-o", str(out), *options)
        running.wait_for(lambda s: s["frames_out"] > 10, "frames")
    for reconnects, clip, pause in ((1, larger, False), (2, camera, True), (3, camera, False)):
        with tcp_camera(port, clip) as server:
            running.wait_to_exceed("reconnects", reconnects - 1)
            running.wait_to_exceed("frames_out", running.stream()["frames_out"] + 10)
            if pause:
                server.send_signal(signal.SIGSTOP)
                running.wait_for(lambda s: s["phase"] == "connecting", "the stall was noticed")
    stream, told = running.stop()
    assert stream["reconnects"] == 3
    assert stream["state"] == "stopped"
    check_figures(stream)
    check_whole(out)
    assert told.count("the connection was lost") + told.count("the server ended it") >= 3


@needs_rtsp
def test_an_rtsp_camera_with_a_login_goes_to_every_output_and_no_secret_leaks(
    start: Callable[..., Running], tmp_path: Path, camera: Path
) -> None:
    port, out = free_port(), tmp_path / "out"
    login = tmp_path / "login.txt"
    login.write_text("ann:s3cret\n")
    summary, report = tmp_path / "summary.json", tmp_path / "report.html"
    with rtsp_server(port, camera, "ann:s3cret"):
        running = start(
            *(f"rtsp://127.0.0.1:{port}/camera", "-o", f"{out}/", "-o", f"{out}/live.m3u8"),
            *("--input-credentials", str(login), "--segment-s", "2", "--log-format", "json"),
            *("--summary", str(summary), "--report", str(report)),
        )
        running.wait_for(lambda s: len(list(out.glob("*.mp4"))) > 2, "segments")
        told_to_all = Path(f"/proc/{running.process.pid}/cmdline").read_text()
        stream, told = running.stop()
    check_figures(stream)
    whole = [path for path in out.glob("*.mp4") if ".partial" not in path.name]
    assert len(whole) > 2
    for path in whole[:-1]:
        check_whole(path)
    assert "live_" in (out / "live.m3u8").read_text()
    for text in (told_to_all, told, summary.read_text(), report.read_text(), str(stream)):
        assert "s3cret" not in text


@needs_rtsp
def test_a_wrong_login_is_told_and_tried_again(
    start: Callable[..., Running], tmp_path: Path, camera: Path
) -> None:
    port, login = free_port(), tmp_path / "login.txt"
    login.write_text("ann:wr0ng\n")
    with rtsp_server(port, camera, "ann:s3cret"):
        running = start(
            *(f"rtsp://127.0.0.1:{port}/camera", "-o", str(tmp_path / "out.mp4")),
            *("--input-credentials", str(login), "--reconnect", "1"),
        )
        _, told = running.process.communicate(timeout=PATIENCE_S)
    assert running.process.returncode == 1
    assert "401 Unauthorized" in told
    assert "wr0ng" not in told


def test_what_is_sent_by_rtmp_arrives_and_a_server_that_goes_is_tried_again(
    start: Callable[..., Running], tmp_path: Path, camera: Path
) -> None:
    port, kept = free_port(), tmp_path / "kept.mp4"
    key = tmp_path / "key.txt"
    key.write_text("s3cret")
    running = start(
        *(
            str(camera),
            "--realtime",
            "-o",
            str(kept),
            "-o",
            f"rtmp://127.0.0.1:{port}/live/{{key}}",
        ),
        *("--push-credentials", str(key)),
    )
    running.wait_for(lambda s: s["frames_out"] > 5, "frames")
    for number in range(2):
        received = tmp_path / f"received{number}.mkv"
        with receiver(port, received):
            wait_until(functools.partial(has_bytes, received, 20_000), PATIENCE_S)
    stream, told = running.stop()
    sent = {output["target"].partition(":")[0]: output for output in stream["outputs"]}
    assert sent["rtmp"]["failures"] >= 2
    kept_output = next(o for o in stream["outputs"] if o["target"] == str(kept))
    assert (kept_output["failures"], kept_output["lost_packets"]) == (0, 0)
    check_whole(kept)
    assert "s3cret" not in told + str(stream)


def has_bytes(path: Path, least: int) -> bool:
    return path.exists() and path.stat().st_size > least


@contextmanager
def receiver(port: int, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An RTMP server that writes what the first client sends."""
    script = (
        "import sys, av\n"
        "source = av.open(sys.argv[1], options={'listen': '1'})\n"
        "target = av.open(sys.argv[2], 'w', options={'flush_packets': '1'})\n"
        "streams = {s.index: target.add_stream_from_template(s) for s in source.streams}\n"
        "for packet in source.demux():\n"
        "    if packet.size:\n"
        "        packet.stream = streams[packet.stream.index]\n"
        "        target.mux(packet)\n"
    )
    address = f"rtmp://127.0.0.1:{port}/live/s3cret"
    process = subprocess.Popen([sys.executable, "-c", script, address, str(path)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
