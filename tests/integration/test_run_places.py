"""A run with two real Triton servers: each with its workers, one of which fails for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dualface_client.errors import ServerStartError
from dualface_client.location import Location
from dualface_client.settings.program import ProgramSettings, RunSettings
from dualface_client.settings.stream import DetectionSettings, OutputSettings, StreamSettings
from tests.places import Running, kill_for_good
from tests.processes import LONG_CLIP, left_by, start_of, wait_until

PROGRAM = ProgramSettings(
    run=RunSettings(device="cpu", streams=2),
    stream=StreamSettings(
        detection=DetectionSettings(every=1),  # so that streams are under way when a server is hit
        output=OutputSettings((320, 180), preset="ultrafast", encoder_threads=1),
    ),
)
TWO = (Location("CPU 1"), Location("CPU 2"))
#: With this, the dynamic loader lists libraries instead of running a program.
BROKEN = Location("CPU 3", {"LD_TRACE_LOADED_OBJECTS": "1"})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for number in range(3):
        start_of(LONG_CLIP, folder / f"v{number}.mkv", 60 + 4 * number)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one server and this process alone make of the videos."""
    running = Running(inputs, tmp_path_factory.mktemp("one") / "run", PROGRAM)
    assert {report.state for report in running.finish()} == {"done"}
    assert {report.place for report in running.reports()} == {""}
    assert running.run.summary(0.0).places == ()
    found = running.digests()
    assert len(found) == 6
    return found


def test_a_server_that_is_killed_for_good_loses_its_streams_to_the_other(
    inputs: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    before = left_by(os.getpid())  # a server that several tests share is this process's, too
    running = Running(inputs, tmp_path / "run", PROGRAM, TWO)
    wait_until(
        lambda: running.is_over() or (running.at("CPU 1") and running.at("CPU 2")),
        120,
        "a stream under way at each place",
    )
    assert sorted(running.run.server_pids) == ["server CPU 1", "server CPU 2"]
    processes = running.run.processes()
    pid = processes["server CPU 1"]
    assert pid != processes["server CPU 2"]
    (victim,) = [worker for worker in running.run.state.workers() if worker.place == "CPU 1"]
    kill_for_good(pid)
    reports = running.finish()
    assert [report.state for report in reports] == ["done"] * 3
    assert running.digests() == undisturbed
    assert {report.place for report in reports if report.attempts == 2} == {"CPU 2"}
    assert sum(report.attempts for report in reports) == 4
    (moved,) = [report for report in reports if report.attempts == 2]
    assert "CPU 1 failed; started again at another place" in moved.warnings
    assert [line for line in running.lines if line.startswith("CPU 1 is left out: the embedded")]
    first, second = running.run.summary(0.0).places
    assert "died 3 times in a row" in first["lost"]
    assert (second["name"], second["lost"]) == ("CPU 2", "")
    assert running.run.state.as_dict()["places"] == [first, second]
    assert not Path(f"/proc/{victim.pid}").exists()
    assert left_by(*processes.values(), victim.pid) == before


def test_a_place_whose_server_does_not_start_is_left_out(
    inputs: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    running = Running(inputs, tmp_path / "run", PROGRAM, (BROKEN, TWO[0]))
    reports = running.finish()
    assert {report.state for report in reports} == {"done"}
    assert {report.place for report in reports} == {"CPU 1"}
    assert running.digests() == undisturbed
    lost = [place["name"] for place in running.run.summary(0.0).places if place["lost"]]
    assert lost == ["CPU 3"]


def test_no_place_is_no_run(inputs: Path, tmp_path: Path) -> None:
    other = Location("CPU 4", BROKEN.environ)
    running = Running(inputs, tmp_path / "run", PROGRAM, (BROKEN, other))
    with pytest.raises(ServerStartError, match="died while starting"):
        running.finish()
    assert {report.state for report in running.reports()} == {"failed"}
