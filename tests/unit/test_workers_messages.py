from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.memory.figures import Leak, PoolReport, SlotCounts
from dualface_client.observe.report import StreamReport
from dualface_client.observe.stage_clock import StageTime
from dualface_client.observe.timeline import Seating, Timeline
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.job import Job
from dualface_client.stream.setup import WorkerSetup
from dualface_client.workers.messages import (
    LINE_LIMIT_BYTES,
    ProtocolError,
    build,
    decode,
    encode,
    plain,
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
    timeline=Timeline((Seating(0.0, 1, 2), Seating(1.5, 1, 0)), (0, 3), 0.25, 0.0, 4.0),
)
POOL = PoolReport(
    "dualface-x",
    4096,
    {"face_detect": SlotCounts(3, 0, 0, 3, 90, 87, 1, 0.5)},
    (Leak("face_reid", "stream a", 3.0, 0),),
)


@pytest.mark.parametrize(
    "value",
    [
        WorkerSetup("h:1", "cpu", StreamSettings(), 4, Path("tracks")),
        WorkerSetup("h:1", "cuda", StreamSettings(output=OutputSettings((640, 360))), 1),
        Job("a", Path("in.mp4"), None, "a problem"),
        Job("a", Path("in.mp4"), Path("o.mp4"), settings=StreamSettings(reid_timeout_s=3.5)),
        REPORT,
        POOL,
    ],
)
def test_what_is_sent_arrives_as_it_was(value: object) -> None:
    line = encode("any", value=value)
    assert line.count(b"\n") == 1
    assert build(type(value), decode(line)["value"]) == value


def test_every_setting_travels() -> None:
    """A changed value of each leaf arrives: no field is quietly replaced by its default."""
    settings = StreamSettings()
    text = json.dumps(plain(settings))
    changed = json.loads(text, parse_float=lambda number: float(number) + 0.5)
    assert plain(build(StreamSettings, changed)) == changed != json.loads(text)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"kind": "job"}', b'{"v": 2, "kind": "x"}'])
def test_other_versions_and_noise_are_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        decode(line)


def test_a_message_is_bounded() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        encode("log", text="x" * LINE_LIMIT_BYTES)
    day = Timeline(tuple(Seating(i / 3, 1_000_000, 2) for i in range(2000)), (9999,) * 240)
    assert len(encode("ended", report=replace(REPORT, timeline=day))) < LINE_LIMIT_BYTES / 10


def test_data_of_another_class_are_refused() -> None:
    with pytest.raises(ProtocolError, match="not a Job"):
        build(Job, {"name": "a", "colour": "red"})
