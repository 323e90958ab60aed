from __future__ import annotations

import re
from pathlib import Path

import pytest

from dualface_client.batch.inputs import jobs_of_inputs, refuse_inputs_as_outputs
from dualface_client.batch.live_jobs import check_live
from dualface_client.batch.outputs import check_outputs, new_directories
from dualface_client.errors import UsageError
from dualface_client.settings.stream import InputSettings, StreamSettings
from tests.users import give_away, unprivileged


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_one_video_to_one_file(tmp_path: Path) -> None:
    touch(tmp_path / "talk.mp4")
    (job,) = jobs_of_inputs([str(tmp_path / "talk.mp4")], str(tmp_path / "out.mkv"))
    assert (job.name, job.output, job.problem) == ("talk", tmp_path / "out.mkv", "")


def test_a_directory_stands_for_its_videos(tmp_path: Path) -> None:
    touch(tmp_path / "in/b.MP4", tmp_path / "in/a.mkv", tmp_path / "in/notes.txt")
    jobs = jobs_of_inputs([str(tmp_path / "in")], str(tmp_path / "out"))
    assert [job.output for job in jobs] == [
        tmp_path / "out/a_dualface.mp4",
        tmp_path / "out/b_dualface.mp4",
    ]


def test_recordings_of_every_container_are_taken_from_a_directory(tmp_path: Path) -> None:
    kinds = ("asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpg", "ts", "vob", "webm")
    touch(*(tmp_path / f"in/{kind}.{kind}" for kind in kinds))
    jobs = jobs_of_inputs([str(tmp_path / "in")], str(tmp_path / "out"))
    assert [job.name for job in jobs] == list(kinds)


def test_a_glob_is_expanded_and_a_file_with_brackets_is_not_one(tmp_path: Path) -> None:
    touch(tmp_path / "a1.mp4", tmp_path / "a2.mp4", tmp_path / "take[1].mp4")
    jobs = jobs_of_inputs([str(tmp_path / "a*.mp4"), str(tmp_path / "take[1].mp4")], None)
    assert [job.input.name for job in jobs] == ["a1.mp4", "a2.mp4", "take[1].mp4"]
    assert all(job.output is None for job in jobs)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("absent.mp4", "no such file"),
        ("*.webm", "matches no file"),
        ("empty", r"has no videos \("),
    ],
)
def test_what_matches_nothing_fails_alone(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "good.mp4")
    bad, good = jobs_of_inputs([str(tmp_path / text), str(tmp_path / "good.mp4")], str(tmp_path))
    assert re.search(problem, bad.problem)
    assert good.problem == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-", "standard input is not read"),
    ],
)
def test_what_is_no_file_fails_alone_and_says_what_to_do(
    tmp_path: Path, text: str, problem: str
) -> None:
    touch(tmp_path / "good.mp4")
    bad, good = jobs_of_inputs([text, str(tmp_path / "good.mp4")], str(tmp_path))
    assert problem in bad.problem
    assert good.problem == ""


def test_directories_with_videos_in_a_directory_are_mentioned(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.mp4", tmp_path / "in/deep/b.mp4", tmp_path / "in/out/a_dualface.mp4")
    (tmp_path / "in/folder.mp4").mkdir()
    notes: list[str] = []
    (job,) = jobs_of_inputs([str(tmp_path / "in")], None, notes.append)
    assert job.name == "a"
    (note,) = notes
    assert note.startswith(f"{tmp_path}/in/deep: directories within a directory are not searched")


def test_names_are_unique(tmp_path: Path) -> None:
    touch(tmp_path / "a/talk.mp4", tmp_path / "b/talk.mkv", tmp_path / "c.mp4")
    jobs = jobs_of_inputs([str(tmp_path / p) for p in ("a/talk.mp4", "b/talk.mkv", "c.mp4")], None)
    assert [job.name for job in jobs] == ["talk#1", "talk#2", "c"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.mp4", "is one file, but there are 2 videos"),
        ("out.avi", r"\.avi cannot be written; expected one of \.m4v \.mkv \.mov \.mp4"),
        ("no/where", "no does not exist"),
        ("file.txt", "is not a directory"),
        (".", "would both be written to"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, output: str, message: str) -> None:
    touch(tmp_path / "a/talk.mp4", tmp_path / "b/talk.mp4", tmp_path / "file.txt")
    inputs = [str(tmp_path / "a/talk.mp4"), str(tmp_path / "b/talk.mp4")]
    with pytest.raises(UsageError, match=message):
        jobs_of_inputs(inputs, str(tmp_path / output))


@pytest.mark.parametrize("output", ["x.mp4", "y.partial.mp4"])
def test_an_input_is_never_what_a_job_replaces(tmp_path: Path, output: str) -> None:
    """Not even as the partial file of the output, such as a killed run leaves behind."""
    touch(tmp_path / "x.partial.mp4", tmp_path / "y.partial.mp4")
    source = tmp_path / ("x.partial.mp4" if output == "x.mp4" else output)
    with pytest.raises(UsageError, match="is an input, and would be replaced"):
        jobs_of_inputs([str(source)], str(tmp_path / output))


def test_a_leftover_in_the_output_directory_is_not_eaten_by_another_job(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "a_dualface.partial.mp4")
    inputs = [str(tmp_path / name) for name in ("a.mp4", "a_dualface.partial.mp4")]
    with pytest.raises(UsageError, match=r"a_dualface\.partial\.mp4: is an input"):
        jobs_of_inputs(inputs, str(tmp_path))


@pytest.mark.parametrize("pattern", ["", "*.mp4"])
def test_a_second_run_leaves_out_what_the_first_one_made(tmp_path: Path, pattern: str) -> None:
    touch(*(tmp_path / name for name in ("a.mp4", "a_dualface.mp4", "b_dualface.partial.mp4")))
    notes: list[str] = []
    (job,) = jobs_of_inputs([str(tmp_path / pattern)], str(tmp_path), notes.append)
    assert job.input.name == "a.mp4"
    (note,) = notes
    assert "2 outputs of earlier runs (*_dualface.*, *.partial.*) are left out" in note


def test_outputs_that_are_asked_for_are_processed(tmp_path: Path) -> None:
    touch(tmp_path / "a_dualface.mp4", tmp_path / "b.mp4")
    for text in ("*_dualface.mp4", "a_dualface.mp4"):
        (job,) = jobs_of_inputs([str(tmp_path / text)], None)
        assert (job.input.name, job.problem) == ("a_dualface.mp4", "")


def test_a_directory_of_outputs_alone_says_so(tmp_path: Path) -> None:
    touch(tmp_path / "a_dualface.mp4")
    (job,) = jobs_of_inputs([str(tmp_path)], None)
    assert "has only outputs of earlier runs" in job.problem


def test_what_is_named_twice_is_processed_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    notes: list[str] = []
    inputs = [str(tmp_path), str(tmp_path / "a.mp4"), f"{tmp_path}/./b.mp4"]
    jobs = jobs_of_inputs(inputs, str(tmp_path / "out"), notes.append)
    assert [job.input.name for job in jobs] == ["a.mp4", "b.mp4"]
    assert len(notes) == 2
    assert all(note.endswith(": is named more than once and processed once") for note in notes)


@pytest.mark.parametrize("text", ["notes.txt", "out.v2"])
def test_a_slip_of_the_pen_becomes_no_directory(tmp_path: Path, text: str) -> None:
    touch(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="is not a video's suffix, and a new directory is written"):
        jobs_of_inputs([str(tmp_path / "a.mp4")], str(tmp_path / text))
    (job,) = jobs_of_inputs([str(tmp_path / "a.mp4")], f"{tmp_path / text}/")
    assert job.output == tmp_path / text / "a_dualface.mp4"


def test_directories_are_made_last_and_taken_back(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    out = tmp_path / "out"
    jobs = jobs_of_inputs([str(tmp_path / "a.mp4")], str(out))
    assert not out.exists()
    with pytest.raises(FileExistsError), new_directories(jobs):
        out.mkdir()  # it is there
    assert not out.exists()
    with new_directories(jobs):
        pass
    assert out.is_dir()


def test_inputs_that_are_not_there_get_no_directory(tmp_path: Path) -> None:
    with new_directories(jobs_of_inputs([str(tmp_path / "no.mp4")], str(tmp_path / "out"))):
        assert not (tmp_path / "out").exists()


def test_two_videos_that_differ_in_their_suffix_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "a.mkv")
    with pytest.raises(
        UsageError, match=r"a\.mkv and .*a\.mp4 would both be written to .*a_dualface"
    ):
        jobs_of_inputs([str(tmp_path)], str(tmp_path / "out"))


@pytest.mark.parametrize("text", ["x" * 300 + ".mp4", "y" * 5000])
def test_names_that_no_file_can_have_fail_alone(tmp_path: Path, text: str) -> None:
    touch(tmp_path / "good.mp4")
    bad, good = jobs_of_inputs([text, str(tmp_path / "good.mp4")], str(tmp_path))
    assert "cannot be examined (" in bad.problem
    assert good.problem == ""
    with pytest.raises(UsageError):
        jobs_of_inputs([str(tmp_path / "good.mp4")], text.removesuffix(".mp4"))


def test_videos_that_cannot_be_done_by_their_name_leave_the_others_alone(tmp_path: Path) -> None:
    for name in ("good.mp4", f"{'x' * 240}.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    good, loop, long = jobs_of_inputs([str(tmp_path)], str(tmp_path / "out"))
    refuse_inputs_as_outputs([good, loop, long])
    assert good.problem == ""
    assert "loop.mp4: cannot be examined" in loop.problem
    assert "its output's name is too long" in long.problem
    assert "name an output file with -o" in long.problem
    (tmp_path / "out").mkdir()
    check_outputs([good, loop, long], StreamSettings())


@pytest.mark.parametrize(("inputs", "output"), [([""], "o"), (["a\0b"], "o"), (["a.mp4"], "")])
def test_empty_names_are_not_the_current_directory(inputs: list[str], output: str) -> None:
    with pytest.raises(UsageError, match=r"'.*': expected a file"):
        jobs_of_inputs(inputs, output)


@pytest.mark.parametrize(("mode", "problem"), [(0o300, "cannot be read"), (0o600, "examined")])
def test_directories_without_permissions_fail_by_name(
    open_directory: Path, mode: int, problem: str
) -> None:
    closed = open_directory / "closed"
    touch(closed / "a.mp4")
    give_away(closed, mode)
    with unprivileged():
        (job,) = jobs_of_inputs([str(closed)], None)
    assert f"{problem}" in job.problem
    assert "Permission denied" in job.problem


def test_nothing_is_written_to_standard_output(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="nothing is written to standard output"):
        jobs_of_inputs([str(tmp_path / "a.mp4")], "-")


def test_an_address_is_a_live_stream_with_every_output(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.touch()
    out = str(tmp_path)
    camera, file = jobs_of_inputs(["rtsp://camera/door", str(video)], out)
    assert (camera.name, camera.address) == ("camera_door", "rtsp://camera/door")
    assert camera.output is None
    assert camera.outputs == (out,)
    assert (file.outputs, file.output) == ((), tmp_path / "a_dualface.mp4")
    (camera,) = jobs_of_inputs(["rtsp://camera/door"], out, further_outputs=["rtmp://a/b"])
    assert (camera.outputs, camera.shown_output) == ((out, "rtmp://a/b"), f"{out}, rtmp://a/b")
    with pytest.raises(UsageError, match="is not a live stream; a video has one output"):
        jobs_of_inputs([str(video)], out, further_outputs=["rtmp://a/b"])


def test_a_file_is_live_where_the_settings_say_so(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.touch()
    settings = StreamSettings(input=InputSettings(realtime=True))
    (job,) = jobs_of_inputs([str(video)], "out.mp4", settings=settings)
    assert (job.output, job.outputs) == (None, ("out.mp4",))


@pytest.mark.parametrize(
    ("address", "outputs", "problem"),
    [
        ("file:/etc/passwd", ["."], "file: is not allowed; expected one of rtsp"),
        ("rtsp://ann:s3cret@camera/a", ["."], "holds a user or password"),
        ("rtsp://camera/a", ["rtmp://u:s3cret@a/b"], "holds a user or password"),
        ("rtsp://camera/a", ["ftp://a/b"], "ftp: is not allowed"),
        ("rtsp://camera/a", ["a.avi"], r".avi cannot be written; expected one of"),
        ("rtsp://camera/a", ["there.mp4"], "there.mp4: exists"),
        ("rtsp://camera/a", ["no/such/a.mp4"], "does not exist"),
    ],
)
def test_addresses_and_outputs_of_live_streams_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, outputs: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mp4").touch()
    jobs = jobs_of_inputs([address], outputs[0], further_outputs=outputs[1:])
    with pytest.raises(UsageError, match=problem) as caught:
        check_live(jobs, StreamSettings())
    assert "s3cret" not in str(caught.value)


def test_two_live_streams_do_not_share_one_file() -> None:
    jobs = jobs_of_inputs(["rtsp://camera/a", "rtsp://camera/b"], "out.mp4")
    with pytest.raises(UsageError, match="is one output for 2 streams; name a directory"):
        check_live(jobs, StreamSettings())
