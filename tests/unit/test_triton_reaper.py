"""Only what belongs to a gone owner goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dualface_client.memory.names import RegionName, new_name
from dualface_client.triton.reaper import reap_shared_memory, unlink_own_shared_memory


def gone(kind: str, suffix: str = "") -> RegionName:
    """A name of this pid in an earlier life."""
    mine = new_name(kind)
    before = replace(mine.owner, start_ticks=mine.owner.start_ticks - 1)
    return replace(mine, owner=before, suffix=suffix)


def test_files_and_directories_of_the_gone_are_removed(tmp_path: Path) -> None:
    shm, temporary = tmp_path / "shm", tmp_path / "tmp"
    shm.mkdir()
    left = [gone("sys"), gone("stub", "_48fda7f0-3470-4892")]
    for name in left:
        (shm / str(name)).touch()
    directory = temporary / str(gone("server"))
    (directory / "models" / "x").mkdir(parents=True)
    reaped = reap_shared_memory(shm, temporary)
    assert set(reaped) == {*map(str, left), directory.name}
    assert not list(shm.iterdir())
    assert not list(temporary.iterdir())
    assert reap_shared_memory(shm, temporary) == ()


def test_everything_else_stays(tmp_path: Path) -> None:
    mine, dead = new_name("sys"), gone("sys")
    target = tmp_path / "precious"
    target.mkdir()
    shm = tmp_path / "shm"
    shm.mkdir()
    others = [
        str(mine),
        str(replace(dead, owner=replace(dead.owner, boot="00000001"))),
        str(replace(dead, owner=replace(dead.owner, pidns=1))),
        "dualface-notes.txt",
        "triton_python_backend_shm_region_1",
        "psm_1234",
    ]
    for name in others:
        (shm / name).touch()
    link = shm / str(dead)
    link.symlink_to(target)
    assert reap_shared_memory(shm, tmp_path / "nothing") == ()
    assert {path.name for path in shm.iterdir()} == {*others, link.name}
    assert target.exists()


def test_a_process_that_ends_at_once_takes_its_own_files_alone(tmp_path: Path) -> None:
    mine = [new_name("sys"), replace(new_name("stub"), suffix="_48fda7f0")]
    others = {str(gone("sys")), "dualface-notes.txt"}
    for name in [*map(str, mine), *others]:
        (tmp_path / name).touch()
    unlink_own_shared_memory(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others
