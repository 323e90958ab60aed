from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualface_client.atomic_file import replacing, write_atomically


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", ["grün\n", "grün\n".encode()])
def test_a_file_is_made_and_replaced(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "before")
    write_atomically(path, content, sync=True)
    assert path.read_text(encoding="utf-8") == "grün\n"
    assert names(tmp_path) == ["a.txt"]


def test_readers_see_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
        assert draft.parent == path.parent  # a rename works within one file system
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def fail_at(path: Path, half: str) -> None:
    with replacing(path) as draft:
        if half:  # else it fails before there is a draft
            draft.write_text(half)
        raise KeyError


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    for half in ("half", ""):
        with pytest.raises(KeyError):
            fail_at(path, half)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660])
def test_an_existing_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.touch()
    path.chmod(mode)
    write_atomically(path, "x")
    assert path.stat().st_mode & 0o777 == mode


def test_a_new_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "x")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "victim").write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="is a symbolic link, which is not followed"):
        write_atomically(link, "x")
    assert names(tmp_path) == ["link", "victim"]
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_link_in_the_drafts_place_is_not_followed(tmp_path: Path) -> None:
    """The draft's name can be foreseen by whoever can write to the directory."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / f".a.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "a", "x")
    assert (tmp_path / "victim").read_text() == "precious"
    assert ((tmp_path / "a").read_text(), names(tmp_path)) == ("x", ["a", "victim"])


def test_standard_output_is_written_to_though_it_is_a_link(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from dualface_client.atomic_file import write_atomically\n"
        "write_atomically(Path('/dev/stdout'), 'said')\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True, timeout=30)
    assert (tmp_path / "out").read_text() == "said"
    assert Path("/dev/stdout").is_symlink()


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        write_atomically(pipe, "said")
        assert reader.read() == b"said"
    assert pipe.is_fifo()


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "a", "x")
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, "x")
