"""What cannot be written is refused before anything starts."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.batch.outputs import (
    SideFile,
    check_outputs,
    check_per_video,
    check_side_files,
    new_directories,
)
from dualface_client.batch.process import process
from dualface_client.errors import SinkError, UsageError
from dualface_client.observe.track_log import TrackLog
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.job import Job
from dualface_client.video.outfile import OutputFile, partial_path_of
from tests.users import give_away, unprivileged

SETTINGS = StreamSettings()
OVERWRITE = StreamSettings(output=OutputSettings(overwrite=True))


def jobs_to(*outputs: Path) -> list[Job]:
    return [Job(path.stem, Path(f"{path.stem}.in"), path) for path in outputs]


def refused(jobs: list[Job], settings: StreamSettings = SETTINGS) -> str:
    with pytest.raises(UsageError) as caught:
        check_outputs(jobs, settings)
    return str(caught.value)


def test_existing_outputs_are_refused_together(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.mp4" for name in "abc")
    b.touch()
    c.symlink_to("nowhere")
    assert (
        refused(jobs_to(a, b, c)) == f"{b}: exists (and 1 more); --resume does only what is still "
        "missing, --overwrite makes everything again; or choose another name"
    )
    check_outputs(jobs_to(a, b, c), OVERWRITE)
    check_outputs(jobs_to(a, b, c), SETTINGS, existing_may_stay=True)
    own = [replace(job, settings=OVERWRITE) for job in jobs_to(a, b, c)]
    check_outputs(own, SETTINGS)


def test_links_where_files_are_going_to_be_written(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    for name in ("a.partial.mp4", "tracks.txt"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    assert "a.partial.mp4: is a symbolic link" in refused(jobs_to(tmp_path / "a.mp4"), OVERWRITE)
    tracks = SideFile("--tracks", "tracks", tmp_path / "tracks.txt", may_replace=True)
    with pytest.raises(UsageError, match=r"--tracks .*: cannot write tracks: it is a symbolic"):
        check_side_files([], [tracks])
    with pytest.raises(SinkError, match=r"tracks\.txt: cannot write tracks: is a symbolic link"):
        TrackLog(tmp_path / "tracks.txt")
    assert (tmp_path / "victim").read_text() == "precious"
    check_side_files([], [replace(tracks, path=Path("/dev/stdout"))])


def test_what_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "dir.mp4").mkdir()
    assert "exists" in refused(jobs_to(tmp_path / "dir.mp4"), OVERWRITE)
    assert "no: is not a directory; create it" in refused(jobs_to(tmp_path / "no" / "a.mp4"))
    assert "/proc: is not writable (" in refused(jobs_to(Path("/proc/a.mp4")))
    check_outputs([Job("a", Path("a"), Path("/proc/a.mp4"), problem="no such file")], SETTINGS)


def test_a_directory_without_permission(open_directory: Path) -> None:
    give_away(open_directory, 0o500)
    with unprivileged():
        message = refused(jobs_to(open_directory / "a.mp4"))
    assert "is not writable (Permission denied); change its permissions" in message


def test_a_leftover_is_told_and_one_being_written_refused(tmp_path: Path) -> None:
    final = tmp_path / "a.mp4"
    notes: list[str] = []
    file = OutputFile(final, overwrite=False)
    with pytest.raises(UsageError, match="another process is writing it"):
        check_outputs(jobs_to(final), SETTINGS, notes.append)
    assert notes == []
    file.release()
    check_outputs(jobs_to(final), SETTINGS, notes.append)
    assert notes == [f"{partial_path_of(final)}: was left behind by an earlier run and is replaced"]


def test_a_leftover_where_there_are_no_locks_is_not_another_process(tmp_path: Path) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    final = tmp_path / "a.mp4"
    check_outputs(jobs_to(final), SETTINGS, lock=no_locks)
    partial_path_of(final).touch()
    with pytest.raises(UsageError, match=r"no file locks \(No locks available\).*delete it"):
        check_outputs(jobs_to(final), SETTINGS, lock=no_locks)


def test_the_partial_name_of_a_finished_output_goes_where_nobody_is_at_it(tmp_path: Path) -> None:
    final = tmp_path / "a.mp4"
    partial = partial_path_of(final)
    file = OutputFile(final, overwrite=False)
    final.hardlink_to(partial)  # in the middle of `publish`
    with pytest.raises(UsageError, match="another process is writing it"):
        check_outputs(jobs_to(final), SETTINGS, existing_may_stay=True)
    file.release()
    notes: list[str] = []
    check_outputs(jobs_to(final), SETTINGS, notes.append, existing_may_stay=True)
    assert notes == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_programs_are_refused_as_early(tmp_path: Path) -> None:
    for name in ("a.mp4", "out.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"out\.mp4: exists; --resume does only"):
        process([tmp_path / "a.mp4"], tmp_path / "out.mp4", server="127.0.0.1:9")


def test_side_files(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    jobs = jobs_to(tmp_path / "o.mp4")

    def side(name: str, *, may_replace: bool = False) -> SideFile:
        return SideFile("--summary", "the summary", tmp_path / name, may_replace)

    check_side_files(jobs, [side("s.json"), side("there", may_replace=True)])
    for files, reason in (
        ([side("there")], "it exists; choose another name"),
        ([side("o.mp4", may_replace=True)], "it is one of the videos"),
        ([side("o.partial.mp4")], "it is one of the videos"),
        ([side("same"), side("same")], "or of the other files"),
        ([side("no/s.json")], "no is not a directory"),
    ):
        with pytest.raises(UsageError, match=re.escape(reason)):
            check_side_files(jobs, files)


def test_side_files_where_no_file_can_be_made(open_directory: Path) -> None:
    (open_directory / "there").touch()
    give_away(open_directory / "there", 0o600)
    give_away(open_directory, 0o500)
    summary = SideFile("--summary", "the summary", open_directory / "s.json", may_replace=True)
    there = replace(summary, path=open_directory / "there")
    why = f"cannot write the summary: {open_directory} is not writable (Permission denied)"
    with unprivileged():
        for file in (summary, there, replace(summary, path=open_directory)):
            with pytest.raises(UsageError, match=re.escape(f"--summary {file.path}: {why}")):
                check_side_files([], [file])
        check_side_files([], [replace(there, in_place=True)])  # needs no new file
    with pytest.raises(UsageError, match=r"/proc is not writable \("):
        check_side_files([], [replace(summary, path=Path("/proc/s.json"))])


def test_tracks_of_several_videos_need_a_directory(tmp_path: Path) -> None:
    check_per_video("--tracks", tmp_path, 2)
    check_per_video("--tracks", tmp_path / "t.txt", 1)
    with pytest.raises(UsageError, match=r"there are 2 videos; name a directory, which is made"):
        check_per_video("--tracks", tmp_path / "t.txt", 2)


def test_directories_of_side_files_are_made_like_those_of_outputs(tmp_path: Path) -> None:
    tracks, out = tmp_path / "tracks", tmp_path / "out"
    several = jobs_to(out / "a.mp4", out / "b.mp4")
    seen = []

    def check_and_fail() -> None:
        with new_directories(several, (tracks, None), several=True):
            seen.append((tracks.is_dir(), out.is_dir()))
            raise UsageError("a check fails")

    with pytest.raises(UsageError):
        check_and_fail()
    assert seen == [(True, True)]
    assert list(tmp_path.iterdir()) == []
    with new_directories(several, (tmp_path / "t.txt", tmp_path / "no" / "tracks"), several=True):
        pass  # neither may become one: `check_per_video` refuses them
    with new_directories(several[:1], (tracks,)):
        pass  # a file for one video
    assert list(tmp_path.iterdir()) == [out]
