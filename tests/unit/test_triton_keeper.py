from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dualface_client.errors import PlatformError
from dualface_client.triton.server_process import refuse_open_memory

# Makes a file as Boost makes the stubs' shared memory, in a process that the filter is inherited
# by, and changes its mode in ways that let nobody else in.
MAKE = """
import os, subprocess, sys
from dualface_client.triton.keeper import keep_files_private
keep_files_private()
script = '''
import os, sys
def mode():
    return oct(os.fstat(handle).st_mode & 0o777)
handle = os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
seen = [mode()]
for wanted in (0o644, 0o700, 0o604, 0o600):
    os.fchmod(handle, wanted)
    seen.append(mode())
print(*seen)
'''
subprocess.run([sys.executable, "-c", script, *sys.argv[1:]], check=True)
"""


def test_no_file_is_open_to_others_for_a_moment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["0o600", "0o600", "0o700", "0o700", "0o600"]


def test_memory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ours, other = tmp_path / "dualface-1_a", tmp_path / "dualface-2_a"
    ours.touch(0o600)
    other.touch()
    other.chmod(0o644)
    refuse_open_memory("dualface-1_", tmp_path)
    with pytest.raises(PlatformError, match=r"dualface-2_a: other users .* \(mode 644\)"):
        refuse_open_memory("dualface-2_", tmp_path)
