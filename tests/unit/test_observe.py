from __future__ import annotations

import doctest
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dualface_client.errors import SinkError
from dualface_client.observe import progress
from dualface_client.observe.progress import ProgressDisplay, result_lines
from dualface_client.observe.report import RunSummary, StreamReport, StreamStatus
from dualface_client.observe.stage_clock import StageClock, StageTime
from dualface_client.observe.timeline import SeatingChange, Timeline
from dualface_client.observe.track_log import TrackLog
from dualface_client.types import Person, SeatAssignment
from tests.processes import wait_until


def person(identity: int, x: float, score: float = 0.9) -> Person:
    return Person(identity, np.array([x, 10, x + 40, 60], np.float32), score)


def test_track_rows_are_motchallenge_with_one_based_frames(tmp_path: Path) -> None:
    path = tmp_path / "tracks.txt"
    with TrackLog(path) as log:
        log.add(0, SeatAssignment(person(2, 5.25), person(1, 100)))
        log.add(1, SeatAssignment(person(2, 6), Person(1)))
        log.add(2, SeatAssignment(person(2, 6, score=0.0), Person()))
    assert path.read_text() == (
        "1,1,100.00,10.00,40.00,50.00,0.900,-1,-1,-1\n"
        "1,2,5.25,10.00,40.00,50.00,0.900,-1,-1,-1\n"
        "2,2,6.00,10.00,40.00,50.00,0.900,-1,-1,-1\n"
    )


def test_track_log_in_a_missing_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"nowhere.*cannot write tracks: No such file"):
        TrackLog(tmp_path / "nowhere" / "tracks.txt")


def test_full_disk_while_writing_tracks_is_a_clear_error() -> None:
    log = TrackLog(Path("/dev/full"))
    log.add(0, SeatAssignment(person(1, 0), Person()))
    with pytest.raises(SinkError, match="No space left"):
        log.close()


def test_clock_adds_up_per_stage_and_thread() -> None:
    clock = StageClock()

    def work() -> None:
        for _ in range(3):
            with clock.stage("sleep"):
                time.sleep(0.01)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = clock.totals()["sleep"]
    assert total.calls == 6
    assert total.wall_s >= 0.06
    assert total.cpu_s < total.wall_s / 2


def test_clock_times_the_making_of_each_item() -> None:
    clock = StageClock()

    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.01)
            yield number

    assert list(clock.timed("make", slow())) == [0, 1, 2]
    assert clock.totals()["make"].calls == 4  # three items and the end
    assert clock.totals()["make"].wall_s >= 0.03


def test_clock_counts_a_stage_that_fails() -> None:
    clock = StageClock()
    with pytest.raises(RuntimeError), clock.stage("broken"):
        raise RuntimeError
    assert clock.totals()["broken"].calls == 1


def test_status_changes_are_seen_whole_and_unknown_fields_refused() -> None:
    status = StreamStatus(StreamReport("a", "a.mp4", "b.mp4"))
    status.update(frames_in=3, frames_out=2, elapsed_s=4.0)
    assert status.snapshot().fps == 0.5
    with pytest.raises(TypeError):
        status.update(frames_lost=1)


def test_summary_is_json_with_derived_figures(tmp_path: Path) -> None:
    report = StreamReport(
        "a",
        "a.mp4",
        "b.mp4",
        "done",
        frames_out=200,
        elapsed_s=10,
        reid_frames=3,
        sides={1: "left"},
        stages={"decode": StageTime(1.5, 1.0, 200)},
    )
    path = tmp_path / "summary.json"
    RunSummary("0.1.0", "embedded", (report,), 11.0, {"client": 5}).write(path)
    (stream,) = json.loads(path.read_text())["streams"]
    assert stream["fps"] == 20.0
    assert stream["reid_ratio"] == 0.015
    assert stream["sides"] == {"1": "left"}
    assert stream["stages"]["decode"]["wall_s"] == 1.5
    with pytest.raises(SinkError, match="cannot write the summary"):
        RunSummary("0.1.0", "embedded", (), 0.0, {}).write(tmp_path / "no" / "where.json")


def shown(statuses: list[StreamStatus], *, terminal: bool, quiet: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    display = ProgressDisplay(statuses, console, quiet=quiet, interval_s=0.02, line_interval_s=0.02)
    deadline_s = time.monotonic() + 10.0
    while not quiet and "50/100" not in text.getvalue() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    statuses[0].update(state="done", frames_out=90, elapsed_s=9.0)
    time.sleep(0.1)
    display.close()
    display.close()
    return text.getvalue()


def new_statuses() -> list[StreamStatus]:
    running = StreamReport(
        "first",
        "a.mp4",
        "b.mp4",
        "running",
        100,
        50,
        50,
        5.0,
        sides={1: "left"},
        warnings=("odd size",),
    )
    failed = StreamReport("second", "c.mp4", "d.mp4", "failed", error="c.mp4: [red] is no video")
    return [StreamStatus(running), StreamStatus(failed), StreamStatus(StreamReport("z", "", ""))]


def test_plain_lines_where_there_is_no_terminal() -> None:
    lines = shown(new_statuses(), terminal=False).splitlines()
    assert lines[0] == "first: 50/100 frames, 10.0 fps, 5 s left"
    assert lines.count("second: failed: c.mp4: [red] is no video") == 1
    done = "first: done, 90 frames in 9.0 s (10.0 fps)"
    assert lines.count(done) == 1
    assert "  note: odd size" in lines
    assert "  -> b.mp4" in lines
    assert not any(line.startswith("z") for line in lines)


def test_bars_on_a_terminal() -> None:
    text = shown(new_statuses(), terminal=True)
    assert "50/100" in text
    at_the_end = text[text.rindex("videos ") :]
    assert "2/3" in at_the_end
    assert "first" not in at_the_end  # its line stays above, its bar does not
    assert "second: failed: c.mp4: [red] is no video" in text
    assert "0/?" not in text


def test_videos_that_were_stopped_do_not_fill_the_bar() -> None:
    text = shown(
        [status("a", "done"), status("b", "stopped"), status("c", "stopped")], terminal=True
    )
    assert text[text.rindex("videos ") :].count("1/3") == 1


def status(name: str, state: str) -> StreamStatus:
    return StreamStatus(StreamReport(name, f"{name}.mp4", f"{name}.out.mp4", state))


class Narrowing:
    """A terminal of 100 columns whose bars have been drawn, and that now has 30."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        console = Console(file=self.out, force_terminal=True, width=100, height=20)
        running = StreamReport("first", "a.mp4", "b.mp4", "running", 100, 50, 50, 5.0)
        statuses = [StreamStatus(running), status("second", "waiting")]
        with ProgressDisplay(statuses, console, interval_s=0.01):
            wait_until(lambda: "50/100" in self.out.getvalue())
            console.width = 30
            before = len(self.out.getvalue())
            wait_until(lambda: "videos" in self.out.getvalue()[before:])
            self.drawn_anew = self.out.getvalue()[before:]


CLEAR = "\x1b[2K\x1b[1A"


def test_a_terminal_that_was_made_narrower_keeps_no_half_bars() -> None:
    """It has wrapped two bars of about 60 columns to two rows each: two more than Rich clears."""
    anew = Narrowing().drawn_anew
    assert anew.startswith(f"{CLEAR}{CLEAR}\r")
    rich, _, _ = anew.partition("videos")
    assert rich.count("\x1b[1A") == 3  # to the first of four rows


def test_who_sits_where_is_told_for_people_and_figures_only_on_request() -> None:
    seatings = (
        SeatingChange(2.0, 2, 1),
        SeatingChange(14.5, 2, 0),
        SeatingChange(20.0, 2, 3),
        SeatingChange(21.0, 2, 1),
    )
    report = StreamReport(
        "a", "a.mp4", "b.mp4", "done", 90, 90, 90, 9.0, reid_frames=9, timeline=Timeline(seatings)
    )
    assert result_lines(report) == [
        "a: done, 90 frames in 9.0 s (10.0 fps)",
        "  left: person 2, from 0:02. right: person 1, from 0:02; person 3, from 0:20; person 1, "
        "from 0:21",
        "  -> b.mp4",
    ]
    more = result_lines(report, verbose=True)
    assert more[0] == "a: done, 90 frames in 9.0 s (10.0 fps), ReID on 10.0% of frames"
    assert result_lines(replace(report, timeline=Timeline()))[1] == "  nobody was seen"
    often = Timeline(tuple(SeatingChange(float(n), 1 + n % 2, 0) for n in range(9)))
    (line,) = [text for text in result_lines(replace(report, timeline=often)) if "left" in text]
    assert line.endswith("person 1, from 0:02; 6 more changes")


def test_a_partial_output_is_named() -> None:
    report = StreamReport("a", "a.mp4", "b.mp4", "stopped", partial_output="b.partial.mp4")
    assert result_lines(report)[-1] == "  the part so far: b.partial.mp4"


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_the_outputs_of_a_live_stream_are_named_once_there_is_something_in_them(
    state: str,
) -> None:
    report = StreamReport("door", "rtsp://camera/door", "d/", state, live=True)
    assert not any("->" in line for line in result_lines(report))
    assert result_lines(replace(report, frames_out=1))[-1] == "  -> d/"


def test_a_video_that_never_started_has_no_figures() -> None:
    assert result_lines(StreamReport("a", "a.mp4", "b.mp4", "stopped")) == [
        "a: stopped before its first frame"
    ]


def test_names_cannot_break_lines_or_steer_the_terminal() -> None:
    evil = "a\nb\x1b[2J\udcff"
    report = StreamReport(evil, f"{evil}.mp4", f"{evil}.out.mp4", "running", 100, 50, 50, 5.0)
    failed = StreamReport("f", "f", "", "failed", error="\x1b]0;title\x07\nlast log line")
    text = shown([StreamStatus(report), StreamStatus(failed)], terminal=False)
    assert r"a\nb\x1b[2J\udcff: done, " in text
    assert r"  -> a\nb\x1b[2J\udcff.out.mp4" in text
    assert "\x1b" not in text
    assert "last log line" in text.splitlines()  # an error may have several


def test_quiet_says_nothing() -> None:
    assert shown(new_statuses(), terminal=False, quiet=True) == ""


def test_progress_doctest() -> None:
    assert doctest.testmod(progress).failed == 0
