"""Jobs of a file of streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualface_client.batch.streams_file import jobs_of_streams
from dualface_client.config.stack import merged
from dualface_client.config.streams_file import read_streams
from dualface_client.errors import UsageError
from dualface_client.settings.stream import DetectionSettings, StreamSettings
from dualface_client.stream.job import Job


def jobs_of(file: Path, text: str, settings: StreamSettings | None = None) -> list[Job]:
    file.write_text(text)
    return jobs_of_streams(read_streams(file, merged([])), settings or StreamSettings())


def test_streams_of_a_file_have_settings_of_their_own_over_the_runs(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    own = StreamSettings(detection=DetectionSettings(frames_per_request=8))
    first, second = jobs_of(
        tmp_path / "s.yaml",
        f"""streams:
- {{name: plain, input: {tmp_path}/a.mp4, output: {tmp_path}/p.mp4}}
- {{name: fine, input: {tmp_path}/b.mp4, output: {tmp_path}/f.mkv, priority: 1,
    settings: {{output.crf: 12}}}}
""",
        own,
    )
    assert (first.name, second.name) == ("fine", "plain")
    assert first.settings is not None
    assert (first.settings.output.crf, first.settings.detection) == (12, own.detection)
    assert second.settings is None
    assert "s.yaml:3: input: " in first.problem
    assert "no such file" in first.problem
    assert second.problem == ""


def test_streams_never_replace_an_input(tmp_path: Path) -> None:
    text = f"""streams:
- {{name: a, input: {tmp_path}/a.mp4, output: {tmp_path}/b.mp4}}
- {{name: b, input: {tmp_path}/b.mp4, output: {tmp_path}/c.mp4}}
"""
    with pytest.raises(UsageError, match="is an input"):
        jobs_of(tmp_path / "s.yaml", text)
    with pytest.raises(UsageError, match=r"s.yaml:2: output: .*b.avi: expected a name"):
        jobs_of(tmp_path / "s.yaml", text.replace("/b.mp4}", "/b.avi}"))


def test_live_streams_of_a_file_have_addresses_and_several_outputs(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    camera, file = jobs_of(
        tmp_path / "s.yaml",
        f"""streams:
- {{name: door, input: "rtsp://camera/door", output: [{tmp_path}/out/, "rtmp://a/live/{{key}}"]}}
- {{name: again, input: {tmp_path}/a.mp4, output: {tmp_path}/out/,
    settings: {{input.realtime: true}}}}
""",
    )
    assert (camera.name, camera.address) == ("door", "rtsp://camera/door")
    assert camera.outputs == (f"{tmp_path}/out/", "rtmp://a/live/{key}")
    assert (file.address, file.output, file.outputs) == ("", None, (f"{tmp_path}/out/",))
    assert camera.is_live(StreamSettings())
    assert file.is_live(StreamSettings())
    assert not camera.problem + file.problem


def test_a_video_that_is_not_live_has_one_output(tmp_path: Path) -> None:
    text = f"streams:\n- {{name: a, input: a.mp4, output: [{tmp_path}/b.mp4, {tmp_path}/c.mp4]}}\n"
    with pytest.raises(UsageError, match=r"s.yaml:2: output: a video that is not live has one"):
        jobs_of(tmp_path / "s.yaml", text)


def test_outputs_below_the_home_directory(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    file, live = jobs_of(
        tmp_path / "s.yaml",
        f"""streams:
- {{name: file, input: {tmp_path}/a.mp4, output: ~/out/a.mp4}}
- {{name: door, input: "rtsp://camera/door", output: [~/rec/, "rtmp://host/~me/key"]}}
""",
    )
    assert file.output == Path.home() / "out" / "a.mp4"
    assert live.outputs == (f"{Path.home()}/rec/", "rtmp://host/~me/key")
