"""JSON logs, the state file, the health page and the report of a run."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dualface_client.errors import SinkError, UsageError
from dualface_client.histogram import HistogramMeter
from dualface_client.observe import axes, html
from dualface_client.observe.axes import nice_ticks
from dualface_client.observe.health import HealthServer, answer
from dualface_client.observe.html import RunRecord, Thumbnail, html_page, write_html
from dualface_client.observe.latency import LatencyMeter
from dualface_client.observe.progress import progress_line
from dualface_client.observe.report import OutputReport, RunSummary, StreamReport, StreamStatus
from dualface_client.observe.run_log import Event, log_event, run_log
from dualface_client.observe.run_state import RunState, SlotFigures, WorkerState
from dualface_client.observe.samples import Sample, Sampler, StreamSample, thin
from dualface_client.observe.stage_clock import StageTime
from dualface_client.observe.state_file import StateFile, read_state, write_state
from dualface_client.observe.stream_events import StreamEvents
from dualface_client.observe.timeline import LayoutChange, SeatingChange, Timeline, TimelineRecorder
from dualface_client.types import Person, SeatAssignment
from tests.processes import wait_until


def status(name: str = "a", **fields: Any) -> StreamStatus:
    return StreamStatus(StreamReport(name, f"{name}.mp4", f"out/{name}.mp4", **fields))


def test_json_lines_have_time_level_stream_and_event() -> None:
    lines: list[str] = []
    with run_log("json", lines.append) as recorder:
        log_event("worker_died", "worker 1 died", stream="a", level=logging.WARNING, pid=7)
        logging.getLogger("dualface_client.triton").error("no %s", "answer")
        log_event("odd", "a path", place=Path("x"), time="must not replace the record's")
    log_event("after", "the run is over")
    first, second, third = (json.loads(line) for line in lines)
    assert first | {"time": ""} == {
        "time": "",
        "level": "warning",
        "stream": "a",
        "event": "worker_died",
        "text": "worker 1 died",
        "pid": 7,
    }
    assert first["time"].endswith("Z")
    assert second["event"] == "log"
    assert second["text"] == "no answer"
    assert third["place"] == "x"
    assert "must not" not in third["time"]
    assert [event.event for event in recorder.events] == ["worker_died", "log", "odd"]


def test_a_line_break_in_a_name_stays_inside_its_json_line() -> None:
    lines: list[str] = []
    with run_log("json", lines.append):
        log_event("stream_failed", "odd\nname", stream="a\nb")
    assert "\n" not in lines[0]
    assert json.loads(lines[0])["stream"] == "a\nb"


def test_text_has_warnings_alone_because_progress_is_shown_otherwise() -> None:
    lines: list[str] = []
    with run_log("text", lines.append) as recorder:
        log_event("stream_started", "a: started")
        log_event("worker_died", "worker 1 died", level=logging.WARNING)
    assert lines == ["worker 1 died"]
    assert len(recorder.events) == 2


def test_streams_are_told_from_start_to_end_once() -> None:
    lines: list[str] = []
    one, two = status("a"), status("b", state="failed", error="b.mp4: is empty")
    with run_log("json", lines.append):
        with StreamEvents([one, two], interval_s=0.01, progress_s=0.02):
            one.update(state="running", warnings=("odd size",), frames_out=3)
            wait_until(lambda: sum("stream_progress" in line for line in lines) >= 2)
            one.update(state="done", frames_out=9, warnings=("odd size", "late note"))
        told = [json.loads(line) for line in lines]
    of_a = [record["event"] for record in told if record["stream"] == "a"]
    assert of_a[:2] == ["stream_started", "stream_note"]
    assert of_a.count("stream_progress") >= 2
    assert of_a[-2:] == ["stream_note", "stream_done"]
    assert of_a.count("stream_note") == 2
    (end,) = [r for r in told if r["stream"] == "b" and r["event"] == "stream_failed"]
    assert end["level"] == "error"
    assert end["text"] == "b: b.mp4: is empty"


def test_the_trace_of_an_unexpected_error_stands_in_json_and_not_on_the_console() -> None:
    for log_format in ("json", "text"):
        lines: list[str] = []
        failed = status("b", state="failed", error="b.mp4: unexpected", trace="File x, line 7")
        with run_log(log_format, lines.append), StreamEvents([failed], interval_s=0.01):
            pass
        shown = [line for line in lines if "unexpected" in line]
        assert len(shown) == 1
        assert ("File x, line 7" in shown[0]) == (log_format == "json")
    assert shown == ["b: b.mp4: unexpected"]


def test_state_file_is_whole_at_every_moment_and_ends_with_the_last_state(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    one = status("a")
    state = RunState("0.1", [one], {"a": {"size_bytes": 5}})
    stop = threading.Event()
    broken: list[str] = []

    def read_on() -> None:
        while not stop.is_set():
            try:
                read_state(path)
            except UsageError as error:
                broken.append(str(error))

    with StateFile(path, state, interval_s=0.001):
        reader = threading.Thread(target=read_on)
        reader.start()
        for count in range(200):
            one.update(frames_out=count)
            time.sleep(0.001)
        stop.set()
        reader.join()
        state.set_phase("ended")
        state.set_worker(WorkerState(1, 42, 2, ("a",)))
    assert broken == []
    final = read_state(path)
    assert (final["phase"], final["streams"][0]["frames_out"]) == ("ended", 199)
    assert final["streams"][0]["source"] == {"size_bytes": 5}
    assert final["workers"] == [{"number": 1, "pid": 42, "restarts": 2, "streams": ["a"]}]
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_state_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none.json") == {}
    path = tmp_path / "state.json"
    for text in ("{", "[]", '{"state_version": 99, "streams": []}', '{"state_version": 1}'):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"state\.json"):
            read_state(path)
    with pytest.raises(SinkError, match="cannot write the state"):
        StateFile(tmp_path / "no" / "state.json", RunState("0.1", []))


def test_a_state_file_that_cannot_be_written_any_more_is_said_once(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    lines: list[str] = []
    state = RunState("0.1", [])
    with run_log("text", lines.append), StateFile(place / "s.json", state, interval_s=0.01):
        place.rename(tmp_path / "elsewhere")
        wait_until(lambda: lines)  # and closing fails once more
    assert len(lines) == 1
    assert "cannot write the state: No such file" in lines[0]


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_readiness_follows_the_phase_and_health_does_not() -> None:
    state = RunState("0.1", [status("a", state="running", frames_out=4)])
    with HealthServer(state) as server:
        assert server.address.startswith("127.0.0.1:")
        code, text = get(server.address, "/readyz")
        assert (code, json.loads(text)["ok"]) == (503, False)
        state.set_phase("running")
        code, text = get(server.address, "/readyz?verbose=1")
        assert code == 200
        assert json.loads(text)["streams"][0]["frames_out"] == 4
        state.set_phase("stopping")
        assert get(server.address, "/readyz")[0] == 503
        assert get(server.address, "/healthz")[0] == 200
        assert get(server.address, "/secrets")[0] == 404
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(server.address.split(":")[1])), 1)


def test_a_stalled_stream_makes_the_run_unhealthy_until_it_moves() -> None:
    one, waiting = status("a", state="running"), status("b")
    state = RunState("0.1", [one, waiting], stall_s=10)
    state.set_phase("running")
    assert state.stalled(now_s=100) == ()
    assert state.stalled(now_s=109) == ()
    assert state.stalled(now_s=111) == ("a",)
    one.update(frames_in=1)
    assert state.stalled(now_s=112) == ()
    stuck = RunState("0.1", [one], stall_s=-1)
    assert answer(stuck, "/healthz")[0] == 200  # the first look sees it for the first time
    code, _, body = answer(stuck, "/healthz")
    assert (code, json.loads(body)["stalled"]) == (503, ["a"])


def test_a_run_that_awaits_its_server_is_well_and_not_ready() -> None:
    one = status("a", state="running")
    state = RunState("0.1", [one])
    state.set_phase("running")
    assert answer(state, "/readyz")[0] == 200
    state.await_server(wait_s=1e6)
    assert answer(state, "/readyz")[0] == 503
    code, _, body = answer(state, "/healthz")
    assert (code, json.loads(body)["server_awaited"]) == (200, True)


def test_time_in_which_the_server_is_awaited_is_no_stall() -> None:
    one = status("a", state="running")
    state = RunState("0.1", [one], stall_s=120)
    state.set_phase("running")
    assert state.stalled(now_s=1000) == ()
    state.await_server(300, now_s=1010)
    one.update(frames_out=1)  # answered before
    assert state.stalled(now_s=1011) == ()
    assert state.server_awaited
    assert state.stalled(now_s=1310 + 119) == ()
    assert state.stalled(now_s=1310 + 121) == ("a",)
    one.update(frames_out=2)
    assert state.stalled(now_s=1500) == ()
    assert state.is_ready
    assert state.stalled(now_s=1621) == ("a",)


def test_silent_clients_do_not_block_the_next_one() -> None:
    with HealthServer(RunState("0.1", [])) as server, ExitStack() as silent:
        host, port = server.address.split(":")
        for _ in range(10):  # one after the other they would take 20 s
            silent.enter_context(socket.create_connection((host, int(port))))
        with urllib.request.urlopen(f"http://{server.address}/healthz", timeout=10) as reply:
            assert reply.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_visitors_can_only_look(method: str) -> None:
    with HealthServer(RunState("0.1", [])) as server:
        host, port = server.address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request(method, "/healthz", b"x")
        assert connection.getresponse().status == 501
        connection.close()


def test_a_probe_that_resets_its_connection_leaves_no_trace(
    capfd: pytest.CaptureFixture[str],
) -> None:
    # Large enough that the answer is still being written when the reset comes.
    state = RunState("0.1", [status("n" * 100 + str(i)) for i in range(20_000)])
    with HealthServer(state) as server:
        host, port = server.address.split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert get(server.address, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_a_clear_error() -> None:
    with HealthServer(RunState("0.1", [])) as server:
        port = int(server.address.split(":")[1])
        with pytest.raises(UsageError, match=f"--health-port {port}: cannot listen"):
            HealthServer(RunState("0.1", []), port=port)


def test_metrics_are_prometheus_text() -> None:
    earlier = status("d", state="incomplete", frames_out=90, resumed=True)
    state = RunState("0.1", [status('a"b', frames_out=7), status("c", state="done"), earlier])
    state.set_worker(WorkerState(1, 42, 3, ()))
    text = answer(state, "/metrics")[2].decode()
    assert 'dualface_frames_out_total{stream="a\\"b"} 7.0\n' in text
    assert 'dualface_streams{state="done"} 1.0\n' in text
    assert 'dualface_frames_out_total{stream="d"}' not in text  # another run's work
    assert "dualface_worker_restarts_total 3.0\n" in text
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation.endswith(".") for family in families)


def test_metrics_have_the_times_of_frames_and_requests_and_the_slots() -> None:
    meter = HistogramMeter()
    for seconds in (0.001, 0.2, 99.0):
        meter.add(seconds)
    times = meter.histogram()
    state = RunState("0.1", [status("a", latency=times, queue=times)])
    state.set_worker(WorkerState(1, 42, 0, ("a",)))
    state.set_figures(1, {"face_reid": SlotFigures(4, 2, 1, 0.5)}, {"face_detect": times})
    state.set_worker(WorkerState(1, 42, 0, ()))  # the figures stay
    text = answer(state, "/metrics")[2].decode()
    for labels in ('stream="a"', 'model="face_detect",worker="1"'):
        name = "dualface_frame_latency" if "stream" in labels else "dualface_request"
        assert f"{name}_seconds_bucket{{{bucket('0.002', labels)}}} 1.0" in text
        assert f"{name}_seconds_bucket{{{bucket('+Inf', labels)}}} 3.0" in text
        assert f"{name}_seconds_sum{{{labels}}} 99.201" in text
    assert 'dualface_slots{model="face_reid",state="quarantined",worker="1"} 1.0' in text
    state.set_worker(WorkerState(1, 43, 1, ()))  # another process: its memory is another one
    assert 'model="face_reid"' not in answer(state, "/metrics")[2].decode()


def bucket(bound: str, labels: str) -> str:
    return f'le="{bound}",{labels}'


def test_failures_are_counted_by_class_also_of_streams_that_are_forgotten() -> None:
    failed = status("a", state="failed", failure="SourceError")
    state = RunState("0.1", [failed])
    assert state.errors() == {"SourceError": 1}
    state.add_error("SourceError")
    state.set_streams([])
    assert state.errors() == {"SourceError": 1}
    assert 'dualface_errors_total{class="SourceError"} 1.0' in answer(state, "/metrics")[2].decode()


def test_the_space_for_outputs_is_told_by_directory(tmp_path: Path) -> None:
    outputs = (tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "gone" / "c.mp4", "")
    statuses = [
        StreamStatus(StreamReport(str(n), "in.mp4", str(path))) for n, path in enumerate(outputs)
    ]
    state = RunState("0.1", statuses)
    (row,) = [
        line
        for line in answer(state, "/metrics")[2].decode().splitlines()
        if line.startswith("dualface_output_free_bytes")
    ]
    assert row.startswith(f'dualface_output_free_bytes{{directory="{tmp_path}"}} ')
    assert float(row.rpartition(" ")[2]) > 0


def test_the_space_for_a_live_stream_is_told_for_each_place_that_it_writes_to(
    tmp_path: Path,
) -> None:
    (tmp_path / "rec").mkdir()
    targets = (f"{tmp_path}/rec/cam_*.mp4", f"{tmp_path}/live.m3u8", "rtmp://host/app/{key}")
    outputs = tuple(map(OutputReport, targets))
    report = StreamReport("cam", "in", ", ".join(targets), live=True, outputs=outputs)
    assert set(RunState("0.1", [StreamStatus(report)]).output_space()) == {
        str(tmp_path),
        f"{tmp_path}/rec",
    }


def seated(left: int, right: int, *, reid: bool = False) -> SeatAssignment:
    return SeatAssignment(Person(left), Person(right), reid_ran=reid)


def test_timeline_keeps_changes_and_counts_reid() -> None:
    recorder = TimelineRecorder()
    for index in range(100):
        pair = seated(1, 2 if index < 50 else 3, reid=index in (0, 50, 51))
        recorder.add(5 + index / 25, pair, "solo" if index < 25 else "pair")
    timeline = recorder.timeline()
    assert timeline.seatings == (SeatingChange(5.0, 1, 2), SeatingChange(7.0, 1, 3))
    assert timeline.layouts == (LayoutChange(5.0, "solo"), LayoutChange(6.0, "pair"))
    assert sum(timeline.reid_frames) == 3
    assert timeline.reid_frames[int(2 / timeline.bin_s)] == 2
    assert timeline.end_s == pytest.approx(8.96)


def test_timeline_of_a_day_stays_small() -> None:
    recorder = TimelineRecorder()
    for second in range(0, 86_400, 7):
        recorder.add(float(second), seated(second % 5, 2, reid=True), str(second))
    timeline = recorder.timeline()
    assert len(timeline.reid_frames) <= 240
    assert sum(timeline.reid_frames) == len(range(0, 86_400, 7))
    assert len(timeline.seatings) <= 2000
    assert len(timeline.layouts) <= 2000


def test_latency_is_measured_between_enter_and_leave() -> None:
    meter = LatencyMeter()
    assert meter.quantiles_s() == (0.0, 0.0, 0.0)
    for index in range(3):
        meter.enter(index)
    time.sleep(0.05)
    for index in range(3):
        meter.leave(index)
    meter.leave(99)
    p50_s, p95_s, p99_s = meter.quantiles_s()
    assert 0.05 <= p50_s <= p95_s <= p99_s


def stream_sample(frames: int, *, running: bool = True) -> StreamSample:
    return StreamSample(frames, frames // 10, 0, 0.05, 0.08, running)


def samples(count: int = 20) -> tuple[Sample, ...]:
    return tuple(
        Sample(0.5 * i, {"a": stream_sample(10 * i)}, {"client": 100 << 20}) for i in range(count)
    )


def test_sampler_sees_frames_and_memory() -> None:
    import os

    one = status("a", state="running")
    with Sampler([one], lambda: {"client": os.getpid()}, interval_s=0.02) as sampler:
        wait_until(lambda: sampler.samples)
        one.update(frames_out=5)
    assert sampler.samples[0].streams["a"].frames_out == 0
    assert sampler.samples[-1].streams["a"].frames_out == 5
    assert sampler.samples[-1].memory_bytes["client"] > 1 << 20
    assert thin(list(samples(9)), limit=8) == (list(samples(9))[::2], True)
    assert thin(list(samples(8)), limit=8)[1] is False


def test_a_sampler_that_fails_is_said_once_and_ends_no_run() -> None:
    def roots() -> dict[str, int]:
        raise KeyError("gone")

    lines: list[str] = []
    with run_log("json", lines.append), Sampler([status("a")], roots, interval_s=0.0):
        pass
    (said,) = map(json.loads, lines)
    assert (said["event"], said["level"]) == ("helper_failed", "error")
    assert said["text"] == "the sampling of figures ended: KeyError('gone')"
    assert "in roots" in said["trace"]


class Page(HTMLParser):
    """Collects what a page refers to, and complains where tags are not balanced."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def record(*reports: StreamReport, events: tuple[Event, ...] = ()) -> RunRecord:
    summary = RunSummary("0.1.0", "embedded", reports, 10.0, {"client": 200 << 20})
    thumbs = {"a": [Thumbnail(1.5, b"\xff\xd8jpeg")]}
    return RunRecord(summary, samples(), events, thumbs, 1_800_000_000.0)


def test_report_is_one_page_without_any_outside_resource(tmp_path: Path) -> None:
    history = Timeline(
        (SeatingChange(0.0, 1, 2), SeatingChange(4.0, 1, 3)), (), (1, 0, 2), 0.5, 0.0, 8.0
    )
    done = StreamReport(
        "a", "a.mp4", "out/a.mp4", "done", 200, 200, 200, 9.5, reid_frames=3, timeline=history
    )
    evil = StreamReport(
        "b<script>", "b.mp4", "", "failed", error="<img src=http://x>", trace="File <b>, line 7"
    )
    failed = Event(1_800_000_003.5, "error", "b", "stream_failed", "b & co failed")
    path = tmp_path / "report.html"
    write_html(record(done, evil, events=(failed,)), path)
    page = Page(path.read_text())
    assert len(page.links) == 1
    assert page.links[0].startswith("data:image/jpeg;base64,")
    assert "script" not in page.tags
    assert page.tags.count("svg") == 5  # four plots and one seating
    for text in (
        "1 of 2",
        "200 frames in 9.5 s",
        "<img src=http://x>",
        "3.5 s",
        "b & co failed",
        "<b>, line 7",
    ):
        assert text in page.text
    assert "url(" not in path.read_text()
    with pytest.raises(SinkError, match="cannot write the report"):
        write_html(record(done), tmp_path / "no" / "r.html")


def test_the_report_counts_only_what_this_run_has_done() -> None:
    own = StreamReport("a", "a.mp4", "b.mp4", "done", 200, 200, 200, 8.0, reid_frames=50)
    earlier = replace(own, name="b", frames_out=900, elapsed_s=30.0, reid_frames=9, resumed=True)
    unknown = StreamReport("c", "c.mp4", "d.mp4", "done", 70, 70, 70, resumed=True)
    text = " ".join(Page(html_page(record(own, earlier, unknown))).text.split())
    assert "3 of 3" in text
    assert "200frames written 10.0 sduration 20.0frames per second" in text
    assert "25.0%" in text
    assert "Done by an earlier run 900 frames in 30.0 s (30.0 fps), ReID on 1.0% of frames" in text
    assert "Done by an earlier run, of which there is no record: 70 frames" in text
    assert "ReID on 0.0%" not in text


def test_report_names_files_whose_names_are_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html(record(StreamReport("a\udcff", "a\udcff.mp4", "", "done")), path)
    assert r"a\udcff.mp4" in path.read_text()


def test_report_of_a_run_that_did_nothing_is_a_page_too() -> None:
    empty = RunRecord(RunSummary("0.1.0", "none", (), 0.0, {}), (), (), {}, 0.0)
    page = Page(html_page(empty))
    assert "0 of 0" in page.text
    assert "Nothing went wrong." in page.text
    assert page.text.count("the run was too short") == 4


#: It would end the tag, the attribute, the drawing, the style sheet or the page that it stands in.
HOSTILE = (
    """x"'></title></svg></style><script>alert(1)</script><img src=//x onerror=a()>{{ 7 * 7 }}"""
)


def test_hostile_names_stay_text_wherever_they_stand() -> None:
    """In headings, legends, tooltips, classes, tables: the tags are those of a tame page."""

    def page_of(name: str) -> Page:
        bad = StreamReport(
            name,
            f"{name}.mp4",
            f"{name}/tiles.mp4",
            name,
            frames_out=9,
            error=name,
            trace=name,
            partial_output=name,
            warnings=(name,),
            stages={name: StageTime(1.0, 1.0, 1)},
        )
        summary = RunSummary(name, name, (bad,), 10.0, {name: 1 << 20})
        seen = [Sample(float(i), {name: stream_sample(i)}, {name: i}) for i in range(3)]
        told = Event(0.0, name, name, "stream_failed", name)
        return Page(html_page(RunRecord(summary, tuple(seen), (told,), {}, 0.0)))

    tame, hostile = page_of("tame-name"), page_of(HOSTILE)
    assert hostile.tags == tame.tags
    assert hostile.attributes == tame.attributes
    assert hostile.text.count(HOSTILE) == tame.text.count("tame-name") == 22


def svgs(report: RunRecord) -> list[ET.Element]:
    """The drawings of the report."""
    drawings = re.findall("<svg .*?</svg>", html_page(report), re.DOTALL)
    return [ET.fromstring(drawing) for drawing in drawings]  # noqa: S314 - our own text


def test_plots_put_values_where_their_axes_say() -> None:
    seen = [Sample(5.0 * i, {}, {"client": (50 * i) << 20}) for i in range(3)]
    summary = RunSummary("0.1.0", "none", (), 10.0, {})
    (plot,) = svgs(RunRecord(summary, tuple(seen), (), {}, 0.0))
    (curve,) = plot.findall("polyline")
    points = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
    ((x0, y0), (x1, y1), (x2, y2)) = points
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(y1 - y2)
    texts = {t.text: t.attrib for t in plot.findall("text")}
    assert float(texts["100"]["y"]) == pytest.approx(y2 + 4, abs=0.1)
    assert float(texts["10 s"]["x"]) == pytest.approx(x2, abs=0.1)


@pytest.mark.parametrize("highest", [0.003, 0.9, 1.0, 7.0, 87.0, 1e4, 123_456.0])
def test_ticks_are_few_round_and_reach_the_highest(highest: float) -> None:
    ticks = nice_ticks(highest)
    assert 2 <= len(ticks) <= 6
    assert ticks[-2] < highest <= ticks[-1]
    assert nice_ticks(0.0) == nice_ticks(float("nan")) == [0.0, 1.0]


def test_seating_strip_spans_the_lane_without_gaps() -> None:
    history = Timeline(
        (SeatingChange(2.0, 1, 0), SeatingChange(4.0, 2, 1)), (), (0, 5), 1.0, 2.0, 10.0
    )
    *_, strip = svgs(record(StreamReport("a", "a.mp4", "", timeline=history)))
    rects = strip.findall("rect")
    left = [r for r in rects if "left:" in (r.findtext("title") or "")]
    ends = [float(r.attrib["x"]) + float(r.attrib["width"]) for r in left]
    assert ends[0] == pytest.approx(float(left[1].attrib["x"]), abs=0.11)
    assert (ends[0] - float(left[0].attrib["x"])) * 3 == pytest.approx(
        ends[1] - float(left[1].attrib["x"]), abs=0.5
    )
    assert "nobody yet" in (rects[2].findtext("title") or "")
    assert left[0].attrib["fill"] != left[1].attrib["fill"]


def test_the_strip_shows_what_the_canvas_was() -> None:
    layouts = LayoutChange(0.0, "solo"), LayoutChange(3.0, "pair")
    history = Timeline((SeatingChange(0.0, 1, 2),), layouts, (), 1.0, 0.0, 10.0)
    *_, strip = svgs(record(StreamReport("a", "a.mp4", "", timeline=history)))
    titles = [r.findtext("title") or "" for r in strip.findall("rect")]
    assert "solo: 0.00 s to 3.00 s" in titles
    assert "pair: 3.00 s to 10.00 s" in titles


@pytest.mark.parametrize(
    ("state", "shown"), [("done", True), ("incomplete", True), ("failed", False)]
)
def test_an_output_that_is_there_is_named(state: str, shown: bool) -> None:
    page = html_page(record(StreamReport("a", "a.mp4", "a_tiles.mp4", state=state)))
    assert ("a_tiles.mp4" in page) == shown


def test_report_doctests() -> None:
    import doctest

    assert doctest.testmod(axes).failed == doctest.testmod(html).failed == 0


def test_report_of_a_live_stream_says_where_its_frames_are() -> None:
    outputs = OutputReport("rtmp://a/b", "Connection refused", 3, 120), OutputReport("out/")
    report = StreamReport(
        *("camera", "rtsp://camera/a", "out/, rtmp://a/b"),
        state="stopped",
        frames_in=1010,
        frames_out=1000,
        elapsed_s=40.0,
        live=True,
        dropped={"behind": 7, "undecodable": 0, "lost_in_network": 2, "stopped": 1},
        reconnects=4,
        outputs=outputs,
        latency_p50_s=0.05,
        latency_p99_s=0.21,
    )
    text = " ".join(Page(html_page(record(report))).text.split())
    assert (
        "Live: 1,010 frames came, 1,000 were written, 7 behind, 2 lost in network, 1 stopped; "
        "connected again 4 times; decoded to encoded 50 ms (99 %: 210 ms)"
    ) in text
    assert "rtmp://a/b: failed 3 times, 120 packets were lost; last: Connection refused" in text
    assert "out/: failed" not in text
    assert progress_line(replace(report, state="running")).endswith(
        "50 ms from decoded to encoded, 7 dropped, 2 lost in network, 1 stopped, 4 reconnects"
    )
    state = RunState("1", [StreamStatus(report)]).as_dict()["streams"][0]
    assert state["dropped"] == report.dropped
    assert state["outputs"][0]["failures"] == 3
    assert (state["latency_p50_s"], state["latency_p99_s"]) == (0.05, 0.21)


def test_summary_and_state_are_written_piece_by_piece_as_one_object(tmp_path: Path) -> None:
    reports = [StreamReport(f"v{n}", f"a/v{n}.mp4", "line\nbreak.mp4") for n in range(3)]
    summary = RunSummary("1", "none", tuple(reports), 2.0, {"client": 5})
    summary.write(tmp_path / "summary.json")
    whole = {
        **{"version": "1", "server": "none", "elapsed_s": 2.0, "peak_memory_bytes": {"client": 5}},
        **{"region": {}, "hardware": {}, "streams": [report.as_dict() for report in reports]},
    }
    assert (tmp_path / "summary.json").read_text() == json.dumps(whole, indent=2) + "\n"
    state = RunState("1", [StreamStatus(report) for report in reports])
    write_state(tmp_path / "state.json", state)
    assert [s["output"] for s in read_state(tmp_path / "state.json")["streams"]] == (
        ["line\nbreak.mp4"] * 3
    )
