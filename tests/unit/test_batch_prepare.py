"""What of a run is decided by how many streams it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.batch.prepare import choice_at, prepare_run, settings_of
from dualface_client.batch.run import RunRequest
from dualface_client.config.stack import effective, find_files
from dualface_client.errors import UsageError
from dualface_client.location import HERE
from dualface_client.machine.probe import layer_text
from dualface_client.settings.program import ProgramSettings, RunSettings, ServerSettings
from dualface_client.settings.stream import DetectionSettings, StreamSettings
from dualface_client.settings.tracking import SideSettings, TrackingSettings
from dualface_client.triton.batch_sizes import Demand
from tests.unit.test_machine_probe import MACHINES


@pytest.mark.parametrize(
    ("at_a_time", "count", "expected"), [(16, 16, 16), (16, 1, 8), (16, 7, 8), (4, 100, 8)]
)
def test_requests_follow_the_streams_that_run_at_a_time(
    at_a_time: int, count: int, expected: int
) -> None:
    program = ProgramSettings(run=replace(RunSettings(), streams=at_a_time))
    streams, settings = settings_of(program, "cuda", count)
    assert streams == at_a_time
    assert settings.detection.batch == expected


def test_a_cpu_sends_one_frame_whatever_the_number_of_streams() -> None:
    program = ProgramSettings(run=replace(RunSettings(), streams=16))
    assert settings_of(program, "cpu", 16)[1].detection.batch == 1


@pytest.mark.parametrize(("count", "expected"), [(1, (8, 2)), (8, (16, 1))])
def test_what_a_probe_wrote_leaves_that_to_the_run(
    tmp_path: Path, count: int, expected: tuple[int, int]
) -> None:
    path = tmp_path / "auto_detected.yaml"
    path.write_text(layer_text(MACHINES["h200"], "now"))
    program = effective(find_files(path, {}, tmp_path), {}, {}).program()
    streams, settings = settings_of(program, "cuda", count)
    assert streams == 8
    assert (settings.detection.batch, settings.detection.in_flight) == expected


def test_a_photo_that_is_no_picture_is_refused_before_anything_starts(tmp_path: Path) -> None:
    photo = tmp_path / "ann.jpg"
    photo.write_text("no picture")
    tracking = TrackingSettings(sides=SideSettings(pin_left=str(photo)))
    program = ProgramSettings(stream=StreamSettings(tracking=tracking))
    with pytest.raises(UsageError, match=r"--pin left=.*ann\.jpg"):
        prepare_run(RunRequest((str(tmp_path),), None, program))


@pytest.mark.parametrize("live", [False, True])
def test_the_server_knows_whether_there_are_live_streams(tmp_path: Path, live: bool) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"read later")
    inputs = (str(video), "rtsp://127.0.0.1:1/door") if live else (str(video),)
    program = ProgramSettings(run=RunSettings(device="cpu"))
    planned = prepare_run(RunRequest(inputs, str(tmp_path / "out"), program))
    assert planned.choice.has_live == live


def test_the_server_knows_how_many_frames_are_under_way(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(b"read later")
    detection = DetectionSettings(frames_per_request=4, requests_in_flight=2)
    program = ProgramSettings(
        run=RunSettings(device="cpu", streams=2), stream=StreamSettings(detection=detection)
    )
    planned = prepare_run(RunRequest((str(tmp_path),), str(tmp_path / "out"), program))
    assert planned.choice.demands["face_detect"] == Demand(4, 2 * 4 * 2, has_single=True)
    inputs = (*map(str, tmp_path.glob("*.mp4")), "rtsp://127.0.0.1:1/door")
    planned = prepare_run(RunRequest(inputs, str(tmp_path / "out"), program))
    assert planned.choice.demands["face_detect"] == Demand(1, 1 + 2 * 4 * 2, has_single=True)


@pytest.mark.parametrize("run", [RunSettings(device="cuda"), RunSettings(gpus=("all",))])
def test_frames_in_gpu_memory_do_not_go_in_messages(run: RunSettings) -> None:
    program = ProgramSettings(run=run, server=ServerSettings(transport="bytes"))
    with pytest.raises(UsageError, match="--transport bytes: with --device cuda or --gpus"):
        choice_at(program, [HERE])


def test_messages_leave_frames_on_the_cpu_where_the_device_is_open() -> None:
    program = ProgramSettings(server=ServerSettings(transport="bytes", address="127.0.0.1:8001"))
    assert choice_at(program, [HERE]).device == "cpu"


def test_a_run_that_is_taken_up_again_replaces_its_tracks(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"read later")
    tracks = tmp_path / "tracks.txt"
    tracks.write_text("of the run that was broken off")
    program = ProgramSettings(run=RunSettings(device="cpu"))
    request = RunRequest((str(tmp_path / "a.mp4"),), str(tmp_path / "out"), program, tracks=tracks)
    with pytest.raises(UsageError, match=r"--tracks .*: cannot write tracks: it exists"):
        prepare_run(request)
    assert len(prepare_run(replace(request, resume=True)).jobs) == 1
