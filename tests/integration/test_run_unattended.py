"""Runs that nobody watches: killed and resumed, asked for their health, read by machines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.video.check import readable_frames
from tests.media import Clip, make
from tests.processes import left_by

CLI = [sys.executable, "-m", "dualface_client"]
SMALL = ["--size", "128x72", "--preset", "ultrafast", "--device", "cpu"]


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CLI, "run", *map(str, arguments), *SMALL], stderr=subprocess.PIPE, text=True, cwd=folder
    )


def videos(folder: Path, count: int, frames: int) -> Path:
    (folder / "in").mkdir()
    first = make(folder / "in" / "v0.mp4", Clip(frames=frames))
    for number in range(1, count):
        (folder / "in" / f"v{number}.mp4").write_bytes(first.read_bytes())
    return folder / "in"


def finished(folder: Path) -> dict[str, int]:
    """Finished outputs and when they were written."""
    outputs = sorted(folder.glob("out/v*_dualface.mp4"))
    return {p.name: p.stat().st_mtime_ns for p in outputs}


def test_after_kill_of_everything_resume_does_the_rest_and_nothing_twice(tmp_path: Path) -> None:
    videos(tmp_path, 6, frames=20)
    command = ["in", "-o", "out", "--workers", "2", "--streams", "2", "--state", "state.json"]
    process = start(tmp_path, *command)
    deadline = time.monotonic() + 120
    try:
        while len(finished(tmp_path)) < 3 or not list(tmp_path.glob("out/*.partial.mp4")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
    finally:
        process.kill()
    for one in family:
        if one.is_running():
            one.kill()
    process.communicate(timeout=10)
    before = finished(tmp_path)
    halves = {p.name.replace(".partial", "") for p in tmp_path.glob("out/*.partial.mp4")}
    assert 3 <= len(before) < 6
    assert halves - set(before)
    resumed = start(tmp_path, *command, "--resume", "--summary", "s.json")
    _, errors = resumed.communicate(timeout=150)
    assert resumed.returncode == 0, errors
    after = finished(tmp_path)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert not list(tmp_path.glob("out/*.partial.mp4"))
    assert [readable_frames(tmp_path / "out" / name) for name in after] == [20] * 6
    streams = json.loads((tmp_path / "s.json").read_text())["streams"]
    assert sum(stream["resumed"] for stream in streams) == len(before)
    assert errors.count("done by an earlier run, 20 frames, verified") == len(before)
    assert left_by(*(one.pid for one in family)) == set()


def outcome(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    return errors


def test_shards_at_the_same_time_make_every_output_once_and_resume_each_other(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    videos(tmp_path, 5, frames=8)
    record = ["--state", "s.json", "--summary", "sum.json", "--report", "r.html"]
    command = ["in", "-o", "out", "--server", triton_server.grpc_address, *record]
    both = [start(tmp_path, *command, "--shard", f"{index}/2") for index in (1, 2)]
    for process in both:
        outcome(process)
    made = finished(tmp_path)
    assert len(made) == 5
    shares = [
        {s["name"] for s in json.loads((tmp_path / f"sum.{i}-of-2.json").read_text())["streams"]}
        for i in (1, 2)
    ]
    assert shares[0] | shares[1] == {f"v{number}" for number in range(5)}
    assert not shares[0] & shares[1]
    assert all(shares)
    assert not (tmp_path / "s.json").exists()
    (tmp_path / "out" / "v3_dualface.mp4").unlink()
    said = [
        outcome(start(tmp_path, *command, "--resume", "--shard", f"{index}/9"))
        for index in range(1, 10)
    ]
    assert [text.count("done by an earlier run") for text in said].count(0) >= 4  # nothing to do
    assert sum(text.count("done by an earlier run, 8 frames, verified") for text in said) == 4
    again = finished(tmp_path)
    assert {name for name in made if made[name] != again[name]} == {"v3_dualface.mp4"}
    whole = outcome(start(tmp_path, *command, "--resume"))
    assert whole.count("done by an earlier run") == 5


def get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own page
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_run_for_machines_is_json_healthy_and_leaves_its_record(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    videos(tmp_path, 2, frames=60)
    (tmp_path / "in" / "broken.mp4").write_bytes(b"no video" * 50)
    process = start(
        tmp_path,
        "in",
        "-o",
        "out",
        "--server",
        triton_server.grpc_address,
        "--health-port",
        "0",
        "--log-format",
        "json",
        "--state",
        "state.json",
        "--report",
        "report.html",
    )
    events: list[dict[str, Any]] = []
    health: list[tuple[int, dict[str, Any]]] = []
    page = ""
    with process:
        for line in process.stderr or ():
            events.append(json.loads(line))
            if events[-1]["event"] == "health_page":
                page = events[-1]["text"].split()[1].removesuffix("/healthz")
            elif events[-1]["event"] == "stream_started":
                health += [get(f"{page}/healthz"), get(f"{page}/readyz")]
    assert process.returncode == 1
    assert [code for code, _ in health] == [200] * len(health) != []
    assert health[-1][1]["server"] == triton_server.grpc_address
    assert "running" in [stream["state"] for stream in health[-1][1]["streams"]]
    seen = [(event["event"], event["stream"]) for event in events]
    for expected in (("stream_done", "v0"), ("stream_done", "v1"), ("stream_failed", "broken")):
        assert seen.count(expected) == 1
    assert events[-2]["event"] == "run_ended"
    assert (events[-2]["done"], events[-2]["failed"]) == (2, 1)
    assert {"time", "level", "stream", "event"} <= set.intersection(*(set(e) for e in events))
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["phase"] == "ended"
    assert [stream["frames_out"] for stream in state["streams"]] == [0, 60, 60]
    report = (tmp_path / "report.html").read_text()
    assert report.count("data:image/jpeg;base64,") >= 4
    assert "broken.mp4" in report


def test_side_files_never_replace_what_is_not_theirs(tmp_path: Path) -> None:
    folder = videos(tmp_path, 1, frames=2)
    (tmp_path / "notes.json").write_text("{}")
    for arguments, text in (
        (["--state", "notes.json"], "notes.json: is not a state file"),
        (["--state", "in/v0.mp4"], "in/v0.mp4"),
        (["--report", "notes.json"], "--report notes.json: cannot write the report: it exists"),
        (["--report", "no/r.html"], "no is not a directory"),
        (["--workers", "many"], "expected auto, or a whole number, 1 to 64"),
    ):
        process = start(tmp_path, folder, "-o", "out", *arguments)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2, errors
        assert text in errors
        assert "Traceback" not in errors
    assert (tmp_path / "notes.json").read_text() == "{}"
