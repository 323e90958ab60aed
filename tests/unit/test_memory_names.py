"""Names tell whose a region is, and whether that process still lives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualface_client.memory.names import (
    Owner,
    OwnerState,
    RegionName,
    new_name,
    owner_state,
    parse,
    start_ticks,
)

OWNERS = st.builds(
    Owner,
    boot=st.text("0123456789abcdef", min_size=8, max_size=8),
    pidns=st.integers(0, 2**32),
    pid=st.integers(1, 2**22),
    start_ticks=st.integers(0, 2**60),
)
NAMES = st.builds(
    RegionName,
    owner=OWNERS,
    kind=st.sampled_from(["sys", "cuda", "stub", "server"]),
    serial=st.text("0123456789abcdef", min_size=1, max_size=8),
    suffix=st.sampled_from(["", "_", "_48fda7f0-3470-4892-b487-4c5ed176fb87"]),
)


@given(NAMES)
def test_a_name_reads_back(name: RegionName) -> None:
    assert parse(str(name)) == name
    assert parse(f"/{name}") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dualface",
        "dualface-7e10c0d4-1-2-3-sys",
        "dualface-7e10c0d4-1-2-3-sys-1x!",
        "dualface-XXXXXXXX-1-2-3-sys-1",
        "dualface-7e10c0d4-1-two-3-sys-1",
        "triton_python_backend_shm_region_58401f8e",
        "prefix-dualface-7e10c0d4-1-2-3-sys-1",
    ],
)
def test_other_names_are_foreign(text: str) -> None:
    assert parse(text) is None
    assert owner_state(text) is OwnerState.FOREIGN


def test_this_process_lives_and_its_names_differ() -> None:
    names = {str(new_name("sys")) for _ in range(100)}
    assert len(names) == 100
    assert {owner_state(name) for name in names} == {OwnerState.ALIVE}


def test_an_ended_process_is_gone() -> None:
    code = "from dualface_client.memory.names import new_name; print(new_name('sys'))"
    name = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert parse(name) is not None
    assert owner_state(name) is OwnerState.GONE


def test_a_zombie_is_gone() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists()
    assert start_ticks(process.pid) is None
    process.wait()


#: The kernel keeps 15 bytes of a name, and may cut it within a letter.
NAMED = """
from pathlib import Path
from dualface_client.memory.names import new_name
Path("/proc/self/comm").write_bytes("аппаратный".encode())
print(new_name("sys"), flush=True)
input()
"""


def test_the_owner_of_a_cut_process_name_is_known() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        comm = Path(f"/proc/{process.pid}/comm").read_bytes()
        state = owner_state(name)
        process.communicate("\n")
    assert comm == "аппаратный".encode()[:15] + b"\n"
    assert (state, process.returncode) == (OwnerState.ALIVE, 0)


def test_a_pid_used_again_is_not_the_owner() -> None:
    mine = new_name("sys")
    before = replace(mine.owner, start_ticks=mine.owner.start_ticks - 1)
    assert owner_state(replace(mine, owner=before)) is OwnerState.GONE


@pytest.mark.parametrize("change", [{"boot": "00000001"}, {"pidns": 1}])
def test_another_boot_or_container_is_not_judged(change: dict[str, object]) -> None:
    mine = new_name("sys")
    other = replace(mine.owner, **change, pid=2**22 + 1)  # type: ignore[arg-type] # mixed values
    assert owner_state(replace(mine, owner=other)) is OwnerState.FOREIGN


def test_a_kind_has_letters_only() -> None:
    with pytest.raises(ValueError, match="'a-b': expected lower-case letters"):
        new_name("a-b")


HIDDEN = """
import os, sys
from dualface_client.memory.names import owner_state
name = sys.argv[1]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(owner_state(name).value, os.path.exists(f"/proc/{sys.argv[2]}/stat"))
"""


@pytest.mark.parametrize("hide", ["0", "2"])
def test_a_process_that_proc_hides_counts_as_alive(hide: str) -> None:
    """Another user's, where /proc is mounted with hidepid: it must not be taken for dead."""
    script = f'mount -t proc -o hidepid={hide} proc /proc && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", HIDDEN]
    done = subprocess.run(
        [*command, str(new_name("sys")), str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()[-200:]}")
    assert done.stdout.split() == ["alive", str(hide == "0")]
