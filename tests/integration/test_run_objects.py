"""`run` from and to an object store, with a real Triton."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="the extra `objects`, which `make check` installs")
pytest.importorskip("moto", reason="the extra `dev-cluster`, which `make check` installs")

from dualface_client.triton.embedded import EmbeddedServer
from tests.media import Audio, Clip, make
from tests.object_store import BUCKET, FakeS3, fake_s3
from tests.processes import CLI, alive, family, playable_frames, wait_until

# The stores' libraries leave connections to be collected.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
FRAMES = 12


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[FakeS3]:
    with fake_s3(tmp_path) as found:
        yield found


def launch(
    s3: FakeS3, scratch: Path, server: EmbeddedServer, *options: str
) -> subprocess.Popen[str]:
    scratch.mkdir(exist_ok=True)
    return subprocess.Popen(
        [
            *(*CLI, "run", f"s3://{BUCKET}/in/", "-o", f"s3://{BUCKET}/out/"),
            *("--server", server.grpc_address, "--workers", "2", *options),
        ],
        env={**os.environ, **s3.environment, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_videos_of_a_store_come_back_whole_through_faults_and_a_kill(
    s3: FakeS3, tmp_path: Path, triton_server: EmbeddedServer
) -> None:
    for index in range(3):
        clip = Clip(frames=FRAMES, size_wh_px=(160, 120), audio=(Audio(seconds=0.5),))
        s3.put(f"in/{index}.mp4", make(tmp_path / f"{index}.mp4", clip))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    s3.put("in/broken.mp4", tmp_path / "broken.mp4")
    s3.faults.due = {"GET": ["", "", "503", "cut", "lost"], "PUT": ["503", "cut", "slow"]}
    scratch, state = tmp_path / "scratch", tmp_path / "state.json"

    process = launch(s3, scratch, triton_server, "--state", str(state))
    wait_until(lambda: s3.keys("out/"), 60.0, "the first output")
    children = family(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not alive(children), 30.0, "the end of its workers")
    before = {key: s3.get(key) for key in s3.keys("out/")}

    process = launch(s3, scratch, triton_server, "--state", str(state), "--resume")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert f"s3://{BUCKET}/in/broken.mp4" in said
    assert str(scratch) not in said
    assert s3.keys("out/") == [f"out/{index}_dualface.mp4" for index in range(3)]
    for key in s3.keys("out/"):
        (tmp_path / "back.mp4").write_bytes(s3.get(key))
        assert playable_frames(tmp_path / "back.mp4") == FRAMES
    assert {key: s3.get(key) for key in before} == before
    streams = {entry["name"]: entry for entry in json.loads(state.read_text())["streams"]}
    assert sum(entry["resumed"] for entry in streams.values()) >= 1
    assert len(s3.faults.happened) == 8
    assert list(scratch.glob("dualface-*")) == []
