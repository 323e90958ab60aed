"""What should run: the file of streams, what was changed since, and which of them counts."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dualface_client.config.stack import merged
from dualface_client.config.streams_file import StreamEntry, read_streams
from dualface_client.daemon.desired import DesiredStream, DesiredStreams, NotSavedError
from dualface_client.errors import UsageError

ONE = """
  - name: one
    input: a.mp4
    output: a_tiles.mp4
"""
TWO = """
  - name: two
    input: b.mp4
    output: b_tiles.mp4
    settings: {output: {crf: 30}, framing: {alone: tile}}
"""


def entries(folder: Path, *streams: str) -> list[StreamEntry]:
    path = folder / "streams.yaml"
    path.write_text("streams:" + "".join(streams))
    return read_streams(path, merged([]), may_be_empty=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_a_file_without_streams_is_one(tmp_path: Path) -> None:
    assert entries(tmp_path) == []


def test_the_files_streams_are_taken_with_their_settings(tmp_path: Path, path: Path) -> None:
    desired = DesiredStreams(path)
    desired.take_file(entries(tmp_path, ONE, TWO))
    assert list(desired.streams) == ["one", "two"]
    assert desired.streams["two"].settings == {"output.crf": "30", "framing.alone": "tile"}
    desired.take_file(entries(tmp_path, TWO))
    assert list(desired.streams) == ["two"]


def test_what_was_changed_here_survives_a_restart_and_the_unchanged_file(
    tmp_path: Path, path: Path
) -> None:
    desired = DesiredStreams(path)
    desired.take_file(entries(tmp_path, ONE, TWO))
    desired.add(DesiredStream("mine", "c.mp4", ("c_tiles.mp4",)))
    desired.change(desired.streams["one"].with_settings({"tracking.sides.swap": "true"}))
    desired.remove("two")
    again = DesiredStreams(path)
    again.take_file(entries(tmp_path, ONE, TWO))
    assert again.streams == desired.streams
    assert list(again.streams) == ["one", "mine"]
    assert again.streams["one"].settings == {"tracking.sides.swap": "true"}
    assert [again.is_from_file(name) for name in ("one", "mine")] == [True, False]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_entry_that_changes_counts_more_than_what_was_changed_before(
    tmp_path: Path, path: Path
) -> None:
    desired = DesiredStreams(path)
    desired.take_file(entries(tmp_path, ONE, TWO))
    desired.change(desired.streams["one"].with_settings({"output.crf": "40"}))
    desired.remove("two")
    changed = [entry.replace("_tiles", "_new") for entry in (ONE, TWO)]
    desired.take_file(entries(tmp_path, *changed))
    assert {name: stream.outputs for name, stream in desired.streams.items()} == {
        "one": ("a_new.mp4",),
        "two": ("b_new.mp4",),
    }
    assert desired.streams["one"].settings == {}


def test_a_removed_stream_that_leaves_the_file_may_come_back_with_it(
    tmp_path: Path, path: Path
) -> None:
    desired = DesiredStreams(path)
    desired.take_file(entries(tmp_path, ONE))
    desired.remove("one")
    desired.take_file(entries(tmp_path))
    desired.take_file(entries(tmp_path, ONE))
    assert list(desired.streams) == ["one"]


def test_what_cannot_be_saved_is_not_done(tmp_path: Path, path: Path) -> None:
    desired = DesiredStreams(path)
    desired.take_file(entries(tmp_path, ONE, TWO))
    before, mine = desired.streams, DesiredStream("mine", "c.mp4")
    path.unlink()
    path.symlink_to("/dev/full")
    wishes: list[Callable[[], None]] = [
        lambda: desired.add(mine),
        lambda: desired.remove("one"),
        lambda: desired.take_file(entries(tmp_path, ONE)),
    ]
    for wish in wishes:
        with pytest.raises(NotSavedError, match=rf"{path}: cannot .* No space left.*; make room"):
            wish()
        assert desired.streams == before
        assert desired.is_from_file("one")
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(NotSavedError, match=r"is a symbolic link.*; put that right") as caught:
        desired.add(mine)
    assert not caught.value.is_full
    path.unlink()
    desired.add(mine)
    assert DesiredStreams(path).streams == {**before, "mine": mine}


def test_a_change_of_what_runs_is_saved_later_if_it_cannot_be_now(path: Path) -> None:
    desired, mine = DesiredStreams(path), DesiredStream("mine", "c.mp4")
    desired.add(mine)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(NotSavedError):
        desired.change(mine.with_settings({"output.crf": "40"}))
    path.unlink()
    desired.add(DesiredStream("other", "d.mp4"))
    assert DesiredStreams(path).streams["mine"].settings == {"output.crf": "40"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not a state file"),
        ('{"streams": [{"name": 1, "input": "a"}]}', r"is not a state file.*name"),
        ('{"state_version": 9}', "has state_version 9, expected 1"),
    ],
)
def test_a_state_file_that_is_none_is_refused_and_kept(path: Path, text: str, why: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match=why):
        DesiredStreams(path)
    assert path.read_text() == text
