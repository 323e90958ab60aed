from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.histogram import Histogram
from dualface_client.memory.figures import Leak, PoolReport, SlotCounts
from dualface_client.observe.report import StreamReport
from dualface_client.observe.stage_clock import StageTime
from dualface_client.observe.timeline import LayoutChange, SeatingChange, Timeline
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.job import Job
from dualface_client.stream.preview import Preview, SeenPerson
from dualface_client.stream.setup import WorkerSetup
from dualface_client.workers.messages import (
    LINE_LIMIT_BYTES,
    Beat,
    Begin,
    Closed,
    End,
    Figures,
    LogLine,
    Message,
    Progress,
    ProtocolError,
    Ready,
    Refused,
    ServerAwaited,
    Shown,
    Steered,
    SteerStream,
    StopJobs,
    StopStream,
    TakeJob,
    WatchStream,
    encode,
    heard_by_supervisor,
    heard_by_worker,
)

REPORT = StreamReport(
    "a\nb",
    "a.mp4",
    "b.mp4",
    "done",
    100,
    99,
    98,
    4.5,
    sides={1: "left", 2: "right"},
    warnings=("one", "two"),
    stages={"decode": StageTime(1.5, 1.0, 99)},
    timeline=Timeline(
        (SeatingChange(0.0, 1, 2), SeatingChange(1.5, 1, 0)),
        (LayoutChange(0.0, "pair"),),
        (0, 3),
        0.25,
        0.0,
        4.0,
    ),
)
POOL = PoolReport(
    "dualface-x",
    4096,
    {"face_detect": SlotCounts(3, 0, 0, 3, 90, 87, 1, 0.5)},
    (Leak("face_reid", "stream a", 3.0, 0),),
)


#: As the file system gives a name that is not UTF-8.
ODD = "a\udcff.mp4"


@pytest.mark.parametrize(
    "message",
    [
        Begin(WorkerSetup("h:1", "cpu", StreamSettings(), 4, Path("tracks"))),
        Begin(WorkerSetup("h:1", "cuda", StreamSettings(output=OutputSettings((640, 360))), 1)),
        TakeJob(Job("a", Path(ODD), None, "a problem")),
        TakeJob(Job("a", Path("i.mp4"), Path("o.mp4"), settings=StreamSettings(server_wait_s=3.5))),
        StopJobs("its pools are dry", 3),
        StopStream("a"),
        WatchStream("a", 2.5),
        SteerStream("a", 7, "hold", "right", 3),
        SteerStream("a", 8, "layout", layout="stacked", gap_px=8),
        End(),
    ],
)
def test_what_a_worker_is_told_arrives_as_it_was(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert heard_by_worker(line) == message


@pytest.mark.parametrize(
    "message",
    [
        Ready(),
        Refused("no shared memory", 1),
        ServerAwaited(),
        Progress(REPORT),
        Progress(replace(REPORT, input=ODD, elapsed_s=math.inf)),
        Beat(),
        LogLine(20, "note", "a", "a\nb", ""),
        Shown("a", Preview(b"\xff\xd8", b"", (SeenPerson(1, "left", (0.1, 0.2, 0.3, 0.4)),))),
        Steered(7, "person 3: is not known; known are 1, 2"),
        Figures(POOL, {"face_detect": Histogram((1, 0), 0.001)}),
        Closed(POOL),
    ],
)
def test_what_a_worker_says_arrives_as_it_was(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert heard_by_supervisor(line) == message


def test_every_setting_travels() -> None:
    """A changed value of each leaf arrives: no field is quietly replaced by its default."""
    line = encode(Begin(WorkerSetup("h:1")))
    changed = json.loads(line, parse_float=lambda number: float(number) + 0.5)
    arrived = heard_by_worker(json.dumps(changed).encode())
    assert json.loads(encode(arrived)) == changed != json.loads(line)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"kind": "End"}', b'{"v": 2, "kind": "End"}'])
def test_other_versions_and_noise_are_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        heard_by_worker(line)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "Ready"}, "Ready"),  # not for a worker
        ({"colour": "red"}, "colour"),
        ({"job": {"name": "a"}}, "input"),
        ({"job": {"name": 7, "input": "a.mp4", "output": None}}, "name"),
        ({"kind": "StopJobs", "error": "dry", "exit_code": "3"}, "exit_code"),
        ({"job": {"name": "a", "input": 7, "output": None}}, "input"),
    ],
)
def test_a_message_that_differs_is_refused_by_its_field(
    change: dict[str, object], why: str
) -> None:
    fields = json.loads(encode(TakeJob(Job("a", Path("a.mp4"), None))))
    if "kind" in change:
        del fields["job"]
    with pytest.raises(ProtocolError, match=f"not a message: .*{why}"):
        heard_by_worker(json.dumps(fields | change).encode())


def test_a_message_is_bounded() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        encode(LogLine(20, "note", "", "x" * LINE_LIMIT_BYTES, ""))
    day = Timeline(
        tuple(SeatingChange(i / 3, 1_000_000, 2) for i in range(2000)),
        tuple(LayoutChange(i / 3, "together") for i in range(2000)),
        (9999,) * 240,
    )
    assert len(encode(Progress(replace(REPORT, timeline=day)))) < LINE_LIMIT_BYTES / 10
