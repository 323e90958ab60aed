"""Why streams end early is a value, and an end stays what it was."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from dualface_client.batch.process import process
from dualface_client.cli.run_end import exit_code
from dualface_client.errors import RegionRefusedError, ServerError, SinkError, StoppedError
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.stream.job import ending, new_statuses
from dualface_client.stream.runner import Models, Runner
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from tests.unit.test_stream_loop import (
    FakeDetector,
    FakeDevice,
    FakeEmbedder,
    FakeSink,
    FakeSource,
    job,
)


def test_the_first_reason_to_stop_counts() -> None:
    stop = Stop()
    assert not stop.is_asked
    stop.ask(ServerError("its pools are dry"))
    stop.ask()
    assert stop.is_asked
    assert str(stop.error) == "its pools are dry"


def test_a_stream_that_is_stopped_by_a_fault_has_failed_by_it() -> None:
    stop = Stop()

    class Sink(FakeSink):
        def write(self, frame: object) -> None:
            stop.ask(ServerError("its pools are dry"))

    device = FakeDevice({"a": FakeSource(10**6), "b": FakeSource(5)})
    device.make_sink = Sink
    statuses = new_statuses([job("a"), job("b")])
    runner = Runner(WorkerSetup("a:1"), device, Models(FakeDetector(), FakeEmbedder()))
    runner.run([job("a"), job("b")], statuses, stop)
    ends = [status.snapshot() for status in statuses]
    assert [(end.state, end.error, end.exit_code) for end in ends] == [
        ("failed", "its pools are dry", 3)
    ] * 2
    assert exit_code(ends) == 3


def test_a_state_that_is_final_stays() -> None:
    status = StreamStatus(StreamReport("a", "a.mp4", "b.mp4", "running"))
    status.update(state="stopped", frames_out=3)
    status.update(**ending(ServerError("too late")))
    status.update(frames_out=4)
    end = status.snapshot()
    assert (end.state, end.error, end.exit_code, end.frames_out) == ("stopped", "", 0, 4)


def test_a_late_report_from_another_process_does_not_change_a_final_state() -> None:
    running = StreamReport("a", "a.mp4", "b.mp4", "running", frames_out=3)
    status = StreamStatus(running)
    status.take(replace(running, frames_out=4))
    assert status.snapshot().frames_out == 4
    status.update(state="stopped")  # its worker did not stop in time
    stopped = status.snapshot()
    status.take(running)
    status.take(replace(running, **ending(ServerError("too late"))))
    assert status.snapshot() is stopped


def test_an_error_brings_its_exit_code() -> None:
    refused = ending(RegionRefusedError("forbidden"))
    assert refused == {
        "state": "failed",
        "error": "forbidden",
        "exit_code": 3,
        "failure": "RegionRefusedError",
    }
    assert ending(StoppedError("awaited")) == ending(None) == {"state": "stopped"}
    reports = [StreamReport("a", "a", "b", **ending(SinkError("full")))]
    assert exit_code(reports) == 1
    assert exit_code([*reports, StreamReport("b", "a", "b", **refused)]) == 3


def test_a_callers_event_is_followed_and_never_set(tmp_path: Path) -> None:
    event = threading.Event()
    (report,) = process([tmp_path / "gone.mp4"], None, stop=event)
    assert report.state == "failed"
    assert not event.is_set()
