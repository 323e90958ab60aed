"""Only what belongs to a gone owner goes."""

from __future__ import annotations

import signal
import subprocess
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
    none = tmp_path / "no processes"
    reaped = reap_shared_memory(shm, temporary, none)
    assert set(reaped) == {*map(str, left), directory.name}
    assert not list(shm.iterdir())
    assert not list(temporary.iterdir())
    assert reap_shared_memory(shm, temporary, none) == ()


def test_a_model_that_has_outlived_its_server_and_its_owner_is_ended(tmp_path: Path) -> None:
    """A real one is killed in `tests/integration/test_server_lifetime.py`."""
    left, used = gone("server"), new_name("server")
    stub = "backends/python/triton_python_backend_stub"
    programs = [f"/srv/{left}/{stub}", f"/srv/{used}/{stub}", f"/srv/{stub}", f"/srv/{left}/other"]
    processes = [subprocess.Popen(["sleep", "900"]) for _ in programs]
    try:
        for process, program in zip(processes, programs, strict=True):
            (listed := tmp_path / "proc" / str(process.pid)).mkdir(parents=True)
            (listed / "cmdline").write_bytes(f"{program}\0model.py\0".encode())
        reaped = reap_shared_memory(tmp_path / "shm", tmp_path / "tmp", tmp_path / "proc")
        assert reaped == (f"{left} (process {processes[0].pid})",)
        assert processes[0].wait(10.0) == -signal.SIGKILL
        assert [process.poll() for process in processes[1:]] == [None] * 3
    finally:
        for process in processes:
            process.kill()
            process.wait()


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
    assert reap_shared_memory(shm, tmp_path / "nothing", tmp_path / "nobody") == ()
    assert {path.name for path in shm.iterdir()} == {*others, link.name}
    assert target.exists()


def test_a_process_that_ends_at_once_takes_its_own_files_alone(tmp_path: Path) -> None:
    mine = [new_name("sys"), replace(new_name("stub"), suffix="_48fda7f0")]
    others = {str(gone("sys")), "dualface-notes.txt"}
    for name in [*map(str, mine), *others]:
        (tmp_path / name).touch()
    unlink_own_shared_memory(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others
