"""`--gpus`: a server and workers on each GPU, and what happens if one of them fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.batch.locations import locations_of
from dualface_client.observe.gpus import read_gpus
from dualface_client.observe.usable_gpus import usable_gpus
from dualface_client.settings.program import MonitorSettings, ProgramSettings, RunSettings
from dualface_client.settings.stream import OutputSettings, StreamSettings
from tests.media import Clip, make
from tests.places import Running, kill_for_good
from tests.processes import left_by, wait_until

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(len(usable_gpus(read_gpus() or [])) < 2, reason="needs two GPUs"),
]

FRAMES = 2000
PROGRAM = ProgramSettings(
    run=RunSettings(device="cuda", gpus=("all",), streams=4, workers=2),
    stream=StreamSettings(output=OutputSettings((640, 360), encoder="none")),
    monitor=MonitorSettings(interval_s=0.2),
)


def two() -> ProgramSettings:
    """With the first two GPUs of the machine."""
    names = [location.name for location in locations_of(PROGRAM)][:2]
    gpus = tuple(name.removeprefix("GPU ") for name in names)
    return replace(PROGRAM, run=replace(PROGRAM.run, gpus=gpus))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    first = make(folder / "v0.mp4", Clip(frames=FRAMES, size_wh_px=(1280, 720)))
    for number in range(1, 8):
        (folder / f"v{number}.mp4").symlink_to(first)
    return folder


def test_both_gpus_work_and_each_process_uses_one(inputs: Path, tmp_path: Path) -> None:
    program = two()
    running = Running(inputs, tmp_path / "run", program)
    reports = running.finish()
    assert {(report.state, report.frames_out) for report in reports} == {("done", FRAMES)}
    names = [f"GPU {gpu}" for gpu in program.run.gpus or ()]
    assert {report.place for report in reports} == set(names)
    summary = running.run.summary(0.0)
    assert [(place["name"], place["lost"]) for place in summary.places] == [(n, "") for n in names]
    cards = sorted({gpu.partition(":")[0] for gpu in program.run.gpus or ()})
    peaks = summary.hardware["peaks"]["gpus"]
    assert sorted(peaks) == cards
    for figures in peaks.values():
        assert figures["load"] > 0.05
        assert figures["decoder_load"] > 0
    assert left_by(*running.run.processes().values()) == set()


def test_a_server_that_is_killed_for_good_loses_its_streams_to_the_other_gpu(
    inputs: Path, tmp_path: Path
) -> None:
    program = two()
    first, second = (f"GPU {gpu}" for gpu in program.run.gpus or ())
    running = Running(inputs, tmp_path / "run", program)
    wait_until(
        lambda: running.is_over() or (running.at(first) and running.at(second)),
        240,
        "a stream under way on each GPU",
    )
    kill_for_good(running.run.processes()[f"server {first}"])
    reports = running.finish()
    assert {(report.state, report.frames_out) for report in reports} == {("done", FRAMES)}
    assert any(report.attempts == 2 for report in reports)
    assert {report.place for report in reports if report.attempts == 2} == {second}
    lost = {place["name"]: bool(place["lost"]) for place in running.run.summary(0.0).places}
    assert lost == {first: True, second: False}


def test_a_gpu_of_the_machine_that_is_not_named_is_left_alone(inputs: Path, tmp_path: Path) -> None:
    program = two()
    last = (program.run.gpus or ())[1]
    only = replace(program, run=replace(program.run, gpus=(last,)))
    used_before = {gpu.uuid: gpu.memory_used_bytes for gpu in read_gpus() or ()}
    running = Running(inputs, tmp_path / "run", only)
    wait_until(lambda: running.is_over() or running.at(f"GPU {last}"), 240, "a stream under way")
    others = [gpu for index, gpu in enumerate(read_gpus() or ()) if str(index) != last[:1]]
    grown = [gpu.memory_used_bytes - used_before[gpu.uuid] for gpu in others]
    assert {report.state for report in running.finish()} == {"done"}
    assert max(grown) < 64 << 20
