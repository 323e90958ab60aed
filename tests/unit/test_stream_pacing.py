"""What holds streams back, and streams with settings of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dualface_client.observe.alerts import HardwareSample
from dualface_client.observe.hardware import HardwareMonitor
from dualface_client.observe.host import HostSample
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.observe.stage_clock import StageClock
from dualface_client.settings.program import MonitorSettings
from dualface_client.settings.stream import DetectionSettings, OutputSettings, StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.loop import StreamLoop, StreamParts
from dualface_client.stream.pacing import Unpaced
from dualface_client.stream.runner import Models, Runner
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.types import Frame, VideoInfo
from dualface_client.video.disk_wait import DiskWait
from dualface_client.workers.messages import Begin, TakeJob, encode, heard_by_worker
from tests.processes import wait_until
from tests.unit.test_stream_loop import (
    FakeDetector,
    FakeDevice,
    FakeEmbedder,
    FakeImaging,
    FakeSink,
    FakeSource,
    job,
)


def at_limit(*, full: bool) -> HardwareSample:
    return HardwareSample(HostSample(0.99 if full else 0.1, 0, 10, 1000))


def fed() -> HardwareMonitor:
    """A monitor that only looks when it is told."""
    return HardwareMonitor(MonitorSettings(interval_s=0), lambda alert: None)


class Held(FakeSource):
    """A source whose frames wait for a permission."""

    def __init__(self, frames: int, go: threading.Event) -> None:
        super().__init__(frames)
        self._go = go

    def __iter__(self) -> Iterator[Frame]:
        self._go.wait(20)
        return super().__iter__()


def test_a_machine_at_its_limit_runs_one_stream_after_the_other() -> None:
    monitor, go = fed(), threading.Event()
    monitor.take(at_limit(full=True))
    device = FakeDevice({name: Held(3, go) for name in "abc"})
    jobs = [job(name) for name in "abc"]
    statuses = new_statuses(jobs)
    runner = Runner(
        WorkerSetup("a:1", streams=3), device, Models(FakeDetector(), FakeEmbedder()), monitor
    )
    run = threading.Thread(target=runner.run, args=(jobs, statuses, Stop()))
    run.start()
    wait_until(lambda: any(status.snapshot().state == "running" for status in statuses))
    wait_until(lambda: sum(bool(status.snapshot().warnings) for status in statuses) == 2)
    states = sorted(status.snapshot().state for status in statuses)
    assert states == ["running", "waiting", "waiting"]
    monitor.take(at_limit(full=False))
    wait_until(lambda: all(status.snapshot().state == "running" for status in statuses))
    go.set()
    run.join(20)
    reports = [status.snapshot() for status in statuses]
    assert [report.state for report in reports] == ["done"] * 3
    assert sum("at its limit" in "".join(report.warnings) for report in reports) == 2


def test_a_machine_that_stays_at_its_limit_finishes_everything() -> None:
    monitor = fed()
    monitor.take(at_limit(full=True))
    device = FakeDevice({name: FakeSource(3) for name in "abc"})
    jobs = [job(name) for name in "abc"]
    statuses = new_statuses(jobs)
    runner = Runner(
        WorkerSetup("a:1", streams=3), device, Models(FakeDetector(), FakeEmbedder()), monitor
    )
    runner.run(jobs, statuses, Stop())
    assert [status.snapshot().state for status in statuses] == ["done"] * 3


def test_streams_that_are_held_back_can_be_stopped() -> None:
    monitor, go, stop = fed(), threading.Event(), Stop()
    monitor.take(at_limit(full=True))
    device = FakeDevice({"a": Held(3, go), "b": FakeSource(3)})
    jobs = [job("a"), job("b")]
    statuses = new_statuses(jobs)
    runner = Runner(
        WorkerSetup("a:1", streams=2), device, Models(FakeDetector(), FakeEmbedder()), monitor
    )
    run = threading.Thread(target=runner.run, args=(jobs, statuses, stop))
    run.start()
    wait_until(lambda: any(status.snapshot().warnings for status in statuses))
    stop.ask()
    go.set()
    run.join(20)
    assert [status.snapshot().state for status in statuses] == ["stopped"] * 2


class Slow(Unpaced):
    """One request under way, with half as many frames from the second one on."""

    def __init__(self, detector: FakeDetector) -> None:
        self.detector = detector
        self.asked: set[tuple[int, int]] = set()

    def requests(self, in_flight: int, frames: int) -> tuple[int, int]:
        self.asked.add((in_flight, frames))
        return 1, frames // 2 if self.detector.batches else frames


def test_the_guard_decides_about_every_request() -> None:
    sink, detector = FakeSink(), FakeDetector()
    pacing = Slow(detector)
    parts = StreamParts(
        FakeSource(10), sink, FakeImaging(), detector, FakeEmbedder(), pacing=pacing
    )
    status = StreamStatus(StreamReport("s", "i", "o"))
    settings = StreamSettings(detection=DetectionSettings(frames_per_request=4, every=1))
    StreamLoop(parts, settings, status, threading.Event(), StageClock()).run()
    assert len(sink.frames) == 10
    assert pacing.asked == {(2, 4)}
    assert detector.batches == [4, 2, 2, 2]


def test_a_stream_may_have_settings_of_its_own() -> None:
    seen: dict[str, OutputSettings] = {}

    class Device(FakeDevice):
        def open_sink(
            self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
        ) -> FakeSink:
            seen[job.name] = output
            return super().open_sink(job, info, output, disk_wait)

    own = replace(StreamSettings(), output=OutputSettings(crf=33))
    jobs = [job("a"), replace(job("b"), settings=own)]
    device = Device({"a": FakeSource(2), "b": FakeSource(2)})
    statuses = new_statuses(jobs)
    runner = Runner(WorkerSetup("a:1"), device, Models(FakeDetector(), FakeEmbedder()))
    runner.run(jobs, statuses, Stop())
    assert (seen["a"].crf, seen["b"].crf) == (20, 33)


def test_workers_are_told_settings_of_streams_and_of_the_monitor() -> None:
    own = TakeJob(replace(job("b"), settings=StreamSettings(output=OutputSettings(crf=33))))
    assert heard_by_worker(encode(own)) == own
    monitor = MonitorSettings(interval_s=3.0)
    setup = Begin(WorkerSetup("a:1", "cpu", StreamSettings(), 4, Path("t"), monitor=monitor))
    assert heard_by_worker(encode(setup)) == setup
