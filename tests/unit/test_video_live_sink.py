from __future__ import annotations

import re
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from dualface_client.errors import UsageError
from dualface_client.types import Frame, Nv12Image, VideoInfo
from dualface_client.video.integrity import mp4_boxes
from dualface_client.video.live_encoded import Encoded, Target, Templates
from dualface_client.video.live_outputs import LiveOutput
from dualface_client.video.live_sink import LiveSink
from dualface_client.video.live_sound import LiveSound
from dualface_client.video.live_targets import FileTarget, HlsTarget, TargetOptions, target_of
from dualface_client.video.live_times import TIME_BASE, UNITS_PER_S
from tests.connections import Tones
from tests.processes import wait_until

WH = (64, 48)
INFO = VideoInfo(*WH, Fraction(25), TIME_BASE)


def frames(count: int, start: int = 0) -> Iterator[Frame]:
    for index in range(start, start + count):
        luma = np.full((WH[1], WH[0]), index % 256, np.uint8)
        chroma = np.full((WH[1] // 2, WH[0] // 2, 2), 128, np.uint8)
        yield Frame(index, index * UNITS_PER_S // 25, TIME_BASE, Nv12Image(luma, chroma))


def top_boxes(path: Path) -> set[str]:
    with path.open("rb") as file:
        size = path.stat().st_size
        return {name for name, _ in mp4_boxes(file, size, limit=None)}


def pictures_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def sink_to(*targets: Target, **options: Any) -> LiveSink:
    return LiveSink(targets, INFO, WH, None, lambda text: None, **options)


def test_one_encoding_goes_to_every_output_and_each_is_whole(tmp_path: Path) -> None:
    options = TargetOptions(segment_s=4.0, hls_window_s=6.0)
    names = [f"{tmp_path}/", str(tmp_path / "one.mkv"), str(tmp_path / "live.m3u8")]
    clock = iter(range(10**9, 2 * 10**9))
    sink = sink_to(
        *(target_of(name, name, "cam", options) for name in names),
        unix_s=lambda: next(clock) / 10,
    )
    for frame in frames(250):
        sink.write(frame)
    assert sink.close()
    segments = sorted(tmp_path.glob("cam_*.mp4"))
    assert [pictures_in(path) for path in segments] == [100, 100, 50]
    assert all(re.fullmatch(r"cam_\d{8}T\d{6}Z(-\d)?\.mp4", path.name) for path in segments)
    assert top_boxes(segments[0]) == {"ftyp", "free", "mdat", "moov"}  # no fragments
    assert not list(tmp_path.glob("*.partial.*"))
    assert pictures_in(tmp_path / "one.mkv") == 250
    playlist = (tmp_path / "live.m3u8").read_text()
    listed = re.findall(r"live_\d+\.ts", playlist)
    assert len(listed) == 3  # six seconds of two each
    assert "#EXT-X-PROGRAM-DATE-TIME" in playlist
    # FFmpeg keeps one segment more than are listed, for players that are late.
    assert 3 <= len(list(tmp_path.glob("live_*.ts"))) <= 5
    with av.open(str(segments[1])) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert min(stamp for stamp in stamps if stamp is not None) == 0
    assert [(output.failures, output.lost) for output in sink.outputs] == [(0, 0)] * 3


def span_s(path: Path, kind: str) -> tuple[float, float]:
    """Where the packets of a file's picture or sound begin and end."""
    with av.open(str(path)) as container:
        packets: list[Any] = [
            packet for packet in container.demux(**{kind: 0}) if packet.size and packet.duration
        ]
        begin = min(packet.pts * packet.time_base for packet in packets)
        end = max((packet.pts + packet.duration) * packet.time_base for packet in packets)
        return float(begin), float(end)


@pytest.mark.parametrize("late_s", [0.5, 2.0])
def test_each_segment_has_the_sound_of_its_pictures_however_late_they_are(
    tmp_path: Path, late_s: float
) -> None:
    options = TargetOptions(segment_s=4.0)
    clock = iter(range(10**9, 2 * 10**9))
    tones, came_s = Tones(), [0.0]
    names = [f"{tmp_path}/", str(tmp_path / "one.mkv")]
    targets = [target_of(name, name, "cam", options) for name in names]
    sink = LiveSink(
        targets,
        INFO,
        WH,
        LiveSound(lambda: tones.up_to(came_s[0])),
        lambda text: None,
        unix_s=lambda: next(clock) / 10,
    )
    for frame in frames(300):
        came_s[0] = frame.time_s + late_s
        sink.write(frame)
    assert sink.close()
    assert (sink.sound_corrected_s, sink.warnings) == (0.0, ())
    *whole, last = sorted(tmp_path.glob("cam_*.mp4"))
    assert len(whole) == 2
    for path in (*whole, last):
        assert span_s(path, "video") == pytest.approx((0.0, 4.0), abs=0.001)
        assert span_s(path, "audio")[0] == pytest.approx(0.0, abs=0.05)
    # Nothing is lost in between, and nothing at the end.
    begins_s, ends_s = zip(*(span_s(path, "audio") for path in (*whole, last)), strict=True)
    assert [end_s - 4.0 for end_s in ends_s[:-1]] == pytest.approx(begins_s[1:], abs=0.005)
    assert ends_s[-1] == pytest.approx(4.0 + late_s - 0.04, abs=0.05)
    assert span_s(tmp_path / "one.mkv", "audio") == pytest.approx((0.0, 11.96 + late_s), abs=0.05)


def test_segments_end_by_size_too(tmp_path: Path) -> None:
    target = target_of(str(tmp_path), str(tmp_path), "cam", TargetOptions(segment_bytes=1))
    sink = sink_to(target)
    for frame in frames(150):
        sink.write(frame)
    sink.abort()
    assert [pictures_in(path) for path in sorted(tmp_path.glob("*.mp4"))] == [50, 50, 50]


class Failing:
    """An output that fails until it is mended."""

    def __init__(self) -> None:
        self.mended = threading.Event()
        self.shown = "rtmp://gone/live"
        self.begun_with: list[Encoded] = []
        self.taken: list[Encoded] = []
        self.is_open = False

    def write(self, packet: Encoded, templates: Templates) -> None:
        if not self.mended.is_set():
            raise OSError(111, "Connection refused")
        if not self.is_open:
            self.begun_with.append(packet)
        self.is_open = True
        self.taken.append(packet)

    def finish(self) -> None:
        self.is_open = False

    def abandon(self) -> None:
        self.is_open = False


def packet(number: int, *, key: bool = False, size: int = 10) -> Encoded:
    return Encoded(True, bytes(size), number, number, 1, Fraction(1, 25), key, 0.0)


def test_an_output_that_fails_leaves_the_others_alone_and_begins_again_at_a_key_frame(
    tmp_path: Path,
) -> None:
    failing = Failing()
    target = target_of(str(tmp_path / "a.mp4"), "", "cam", TargetOptions())
    told: list[str] = []
    sink = LiveSink([failing, target], INFO, WH, None, told.append)
    for frame in frames(60):
        sink.write(frame)
    bad, _good = sink.outputs
    wait_until(lambda: bad.failures)
    assert bad.error == "Connection refused"
    failing.mended.set()
    wait_until(lambda: not sink.close() or not bad.error)
    assert pictures_in(tmp_path / "a.mp4") == 60
    assert told[0] == ("rtmp://gone/live: the output fails and is tried again (Connection refused)")


def test_an_output_is_tried_again_with_a_pause_and_from_a_key_frame_on() -> None:
    failing = Failing()
    output = LiveOutput(failing, Templates(None, None), lambda text: None)
    output.put(packet(0, key=True))
    wait_until(lambda: output.failures == 1)
    failing.mended.set()
    number = 1

    def offered() -> bool:
        nonlocal number
        output.put(packet(number))
        output.put(packet(number + 1, key=True))
        number += 2
        return bool(failing.taken)

    wait_until(offered)
    output.close(10)
    assert all(begin.is_key for begin in failing.begun_with)
    assert output.written + output.lost == number
    assert output.failures == 1


def test_an_output_that_takes_nothing_keeps_little_memory_and_no_stream_waits() -> None:
    hold, entered = threading.Event(), threading.Event()

    class Stuck(Failing):
        def write(self, packet: Encoded, templates: Templates) -> None:
            entered.set()
            hold.wait()
            self.taken.append(packet)

    stuck = Stuck()
    output = LiveOutput(stuck, Templates(None, None), lambda text: None)
    output.put(packet(0, key=True))
    assert entered.wait(10)
    for number in range(1, 200):
        output.put(packet(number, key=number % 50 == 0, size=1 << 20))
    assert output.lost > 100
    assert not output.close(0.01)
    for number in range(200, 210):
        output.put(packet(number, key=number == 203))
    hold.set()
    assert output.close(10)
    assert [each.pts for each in stuck.taken] == [0, *range(203, 210)]
    assert output.written + output.lost == 210


def recorded(target: Target, count: int) -> LiveSink:
    """A sink that has written so many frames."""
    sink = sink_to(target)
    for frame in frames(count):
        sink.write(frame)
    (output,) = sink.outputs
    wait_until(lambda: output.written == count)
    return sink


def test_what_was_recorded_before_a_failure_stays_beside_what_came_after(tmp_path: Path) -> None:
    target = target_of(str(tmp_path / "a.mp4"), "", "cam", TargetOptions())
    assert isinstance(target, FileTarget)
    for count in (100, 60, 70):
        sink = recorded(target, count)
        if count == 70:
            assert sink.close()
        else:
            target.abandon()  # as after a full disk, or where the worker has ended
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "a.mp4",
        "a.part1.mp4",
        "a.part2.mp4",
    ]
    assert pictures_in(tmp_path / "a.mp4") == 70
    assert pictures_in(tmp_path / "a.part1.mp4") == 100
    assert pictures_in(tmp_path / "a.part2.mp4") == 60


def test_a_directory_that_vanishes_is_an_output_that_fails(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    target = target_of(f"{there}/", "", "cam", TargetOptions(segment_s=2.0))
    sink = sink_to(target)
    for frame in frames(40):
        sink.write(frame)
    (output,) = sink.outputs
    wait_until(lambda: output.written == 40)
    for path in there.iterdir():
        path.unlink()
    there.rmdir()
    for frame in frames(40, 40):
        sink.write(frame)
    wait_until(lambda: output.failures)
    assert not sink.close()
    assert "failed" in sink.warnings[0]


def test_what_cannot_be_written_to_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"ftp://a/b: cannot be written to; expected a directory"):
        target_of("ftp://a/b", "ftp://ann:pw@a/b", "cam", TargetOptions())
    pushed = target_of("rtmp://a/b", "rtmp://ann:pw@a/b", "cam", TargetOptions())
    assert "pw" not in repr(pushed)


def test_a_server_that_says_nothing_holds_up_nobody_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # it accepts, and never answers
        url = f"rtmp://127.0.0.1:{frozen.getsockname()[1]}/live/key"
        targets = [target_of(to, to, "cam", TargetOptions()) for to in (url, f"{tmp_path}/a.mp4")]
        sink = sink_to(*targets)
        for frame in frames(100):
            sink.write(frame)
        pushed, recorded = sink.outputs
        wait_until(lambda: recorded.written == 100)
        assert pushed.error == ""
    assert not sink.close()  # its connection was reset with the socket
    assert pushed.error
    assert pictures_in(tmp_path / "a.mp4") == 100


def test_why_a_server_takes_nothing_is_told_and_it_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"rtmp://127.0.0.1:{gone.getsockname()[1]}/live/key"
    sink = sink_to(target_of(url, url, "cam", TargetOptions()))
    (output,) = sink.outputs
    written = iter(frames(100_000))

    def failed_twice() -> bool:
        sink.write(next(written))
        return output.failures > 1

    wait_until(failed_twice)
    assert output.error == "Connection refused"
    sink.abort()


def test_what_cannot_be_begun_leaves_no_process_behind() -> None:
    url = "rtmp://127.0.0.1:1/live/key"
    target = target_of(url, url, "cam", TargetOptions())
    before = set(psutil.Process().children())
    with pytest.raises((AttributeError, TypeError)):
        target.write(packet(0, key=True), Templates(None, None))
    assert set(psutil.Process().children()) == before


def test_hls_without_room_fails_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    target = target_of(str(tmp_path / "live.m3u8"), "", "cam", TargetOptions())
    assert isinstance(target, HlsTarget)
    assert target.free_bytes is not None
    assert target.free_bytes() > 0
    room = [0]
    target.free_bytes = lambda: room[0]
    sink = sink_to(target)
    (output,) = sink.outputs
    for frame in frames(50):
        sink.write(frame)
    wait_until(lambda: output.failures)
    assert output.error == "No space left on device"
    assert not list(tmp_path.glob("*.ts"))
    room[0] = 1 << 30
    written = iter(frames(100_000, 50))

    def goes_on() -> bool:
        sink.write(next(written))
        return output.written > 0

    wait_until(goes_on)
    sink.abort()
    assert (tmp_path / "live.m3u8").exists()


def test_a_file_that_took_nothing_is_not_left_behind(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    target = target_of(f"{there}/", "", "cam", TargetOptions())
    sink = sink_to(target)
    (output,) = sink.outputs
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
        for frame in frames(60):
            sink.write(frame)
        wait_until(lambda: output.failures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    assert list(there.iterdir()) == []
    sink.abort()
