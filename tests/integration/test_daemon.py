"""The daemon as a process: its API, its file, its signals, and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks.soak.churn import churn, start
from dualface_client.memory.region import SHM_DIR
from tests.daemons import PATIENCE_S, DaemonProcess
from tests.live_servers import free_port, rtsp_server, why_no_rtsp_server
from tests.media import Audio, Clip, make, repeated
from tests.places import kill_for_good
from tests.processes import playable_frames, wait_until


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with start(tmp_path_factory.mktemp("daemon"), seconds=1800, residents=1) as found:
        yield found


def test_streams_are_added_and_removed_while_another_one_runs(daemon: DaemonProcess) -> None:
    """The short form of `benchmarks/soak/churn.py`."""
    found = churn(daemon, cycles=6, residents=1)
    assert [name for name, good in found["checks"].items() if not good] == [], found


def test_a_running_stream_is_steered_and_looked_at(daemon: DaemonProcess) -> None:
    before = daemon.stream("one")["frames_out"]
    assert daemon.done("POST", "/v1/streams/one/swap")["done"].startswith("one: the two have")
    daemon.done("POST", "/v1/streams/one/layout", {"layout": "stacked"})
    code, said = daemon.ask("POST", "/v1/streams/one/hold", {"side": "left", "person": 99})
    assert code == 409
    assert "person 99: is not known" in said["error"]
    code, headers, jpeg = daemon.fetch("GET", "/v1/streams/one/canvas.jpg")
    assert (code, headers["Content-Type"], jpeg[:2]) == (200, "image/jpeg", b"\xff\xd8")
    after = daemon.stream("one")
    assert after["frames_out"] >= before
    assert after["restarts"] == 0
    assert after["settings"]["output.layout"] == "stacked"
    assert after["settings"]["output.size"] == "160x96"


@pytest.mark.skipif(bool(why_no_rtsp_server()), reason=why_no_rtsp_server() or "none")
def test_a_camera_is_killed_and_comes_back_under_the_same_worker(daemon: DaemonProcess) -> None:
    minute = Clip(frames=300, size_wh_px=(160, 96), rate=Fraction(5), options={"g": "5", "bf": "0"})
    minute = replace(minute, audio=(Audio(seconds=60.0),))
    clip = repeated(
        daemon.folder / "camera.mp4", make(daemon.folder / "minute.mp4", minute), times=20
    )
    port, out = free_port(), daemon.folder / "door.mp4"
    settings = {"output.size": "160x96", "tracking.reid": "never", "input.read_timeout_s": 2}
    door = {"name": "door", "input": f"rtsp://127.0.0.1:{port}/camera", "output": str(out)}

    def says(key: str, value: object) -> None:
        wait_until(lambda: daemon.stream("door").get(key) == value, PATIENCE_S, f"{key}: {value}")

    def writes_after(count: int) -> bool:
        return daemon.frames("door") > count + 5

    daemon.done("POST", "/v1/streams", {**door, "settings": settings})
    says("phase", "connecting")
    assert not out.exists()
    for number in range(3):
        before = daemon.frames("door")
        with rtsp_server(port, clip) as server:
            wait_until(partial(writes_after, before), PATIENCE_S, "frames")
            if number == 1:  # gone without a goodbye
                server.send_signal(signal.SIGSTOP)
                says("phase", "connecting")
        says("phase", "connecting")
    stream = daemon.stream("door")
    assert (stream["reconnects"], stream["restarts"], stream["state"]) == (2, 0, "running")
    assert daemon.metric("dualface_worker_restarts_total") == 0
    assert len(daemon.pids()) == 3  # the daemon, its server, one worker
    assert daemon.done("DELETE", "/v1/streams/door")["done"] == "door: removed"
    assert playable_frames(out) >= stream["frames_out"] > 15


def test_sighup_reads_the_file_again_and_leaves_the_rest_alone(daemon: DaemonProcess) -> None:
    text = daemon.streams_file.read_text()
    extra = text.splitlines()[1].replace("name: one", "name: more").replace("one.mp4", "more.mp4")
    daemon.streams_file.write_text(f"{text}{extra}\n")
    daemon.process.send_signal(signal.SIGHUP)

    def names() -> set[str]:
        return {each["name"] for each in daemon.done("GET", "/v1/streams")}

    wait_until(lambda: names() == {"one", "more"}, PATIENCE_S, "it is added")
    daemon.streams_file.write_text("streams: [oops\n")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "nothing was changed" in daemon.log(), PATIENCE_S, "the mistake is told")
    assert names() == {"one", "more"}
    daemon.streams_file.write_text(text)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: names() == {"one"}, PATIENCE_S, "it is removed")
    assert daemon.stream("one")["restarts"] == 0


def test_sigterm_leaves_playable_files_and_a_state_that_the_next_start_goes_on_with(
    daemon: DaemonProcess,
) -> None:
    outputs = {"input": str(daemon.folder / "long.mp4"), "output": str(daemon.folder / "api.mp4")}
    settings = {"output.size": "160x96", "tracking.reid": "never", "input.realtime": True}
    daemon.done("POST", "/v1/streams", {"name": "api", **outputs, "settings": settings})
    wait_until(lambda: daemon.frames("api") > 2, PATIENCE_S, "it runs")
    kept = daemon.stream("one")["settings"]
    pids = daemon.pids()
    assert daemon.end() == 0
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    left = {name for name in os.listdir(SHM_DIR) for pid in pids.values() if f"-{pid}-" in name}
    assert left == set()
    for name in ("one", "api"):
        (file,) = daemon.folder.glob(f"{name}*.mp4")
        assert playable_frames(file) > 0
    tiny = [daemon.folder / f"{name}.onnx" for name in ("face_detect", "face_reid")]
    options: list[str | Path] = ["--detector-onnx", tiny[0], "--reid-onnx", tiny[1]]
    with DaemonProcess(daemon.folder, *options) as again:
        assert [each["name"] for each in again.done("GET", "/v1/streams")] == ["one", "api"]
        assert again.stream("one")["settings"] == kept
        assert again.token == daemon.token
        assert again.end() == 0


def test_a_mistake_in_the_file_or_a_setting_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "streams.yaml").write_text("streams:\n- {name: a, input: a.mp4, colour: red}\n")
    with pytest.raises(AssertionError, match="colour: unknown key"):
        DaemonProcess(tmp_path)


def test_a_server_that_does_not_come_back_ends_it_for_the_service_manager(tmp_path: Path) -> None:
    with start(tmp_path, seconds=300, residents=1) as daemon:
        pids = daemon.pids()
        kill_for_good(pids["server"])
        assert daemon.process.wait(PATIENCE_S) == 3
        assert "it is no longer restarted" in daemon.log()
        assert not any(psutil.pid_exists(pid) for pid in pids.values())
        (file,) = tmp_path.glob("one*.mp4")
        assert playable_frames(file) > 2
