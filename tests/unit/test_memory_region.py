"""The shared memory file: size, rights, views, its end, and a full file system."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dualface_client.errors import MemoryRegionError
from dualface_client.memory.region import SHM_DIR, Region, SystemRegion
from dualface_client.triton.access import OPEN_ACCESS
from dualface_client.triton.connection import Connection
from dualface_client.triton.registration import register

U8 = np.dtype(np.uint8)
F32 = np.dtype(np.float32)


def test_the_file_is_private_whole_pages_and_allocated() -> None:
    with SystemRegion(5000) as region:
        path = SHM_DIR / region.name
        stat = path.stat()
        assert region.byte_size == stat.st_size == 2 * mmap.PAGESIZE
        assert stat.st_mode & 0o777 == 0o600
        assert stat.st_blocks * 512 >= region.byte_size
        assert region.shm_key == f"/{region.name}"
        assert isinstance(region, Region)
    assert not path.exists()


def test_views_share_the_memory() -> None:
    with SystemRegion(4096) as region:
        region.view(64, (2, 3), F32)[:] = [[1, 2, 3], [4, 5, 6]]
        raw = (SHM_DIR / region.name).read_bytes()
        assert np.frombuffer(raw, np.float32, 6, 64).tolist() == [1, 2, 3, 4, 5, 6]
        assert region.view(64, (2, 3), F32).flags.c_contiguous


@pytest.mark.parametrize(
    ("offset", "shape", "dtype"),
    [(-4, (1,), F32), (4096, (1,), U8), (4093, (4,), U8), (2, (1,), F32), (0, (1025,), F32)],
)
def test_views_stay_inside(offset: int, shape: tuple[int, ...], dtype: np.dtype[np.uint8]) -> None:
    with SystemRegion(4096) as region, pytest.raises(ValueError, match="has 4096 bytes"):
        region.view(offset, shape, dtype)


def test_a_view_outlives_the_region_without_a_crash() -> None:
    region = SystemRegion(4096)
    view = region.view(0, (8,), U8)
    region.close()
    region.close()
    view[:] = 7
    assert view.sum() == 56
    with pytest.raises(MemoryRegionError, match="is closed"):
        region.view(0, (8,), U8)


def test_closing_gives_the_pages_back() -> None:
    region = SystemRegion(4096)
    assert region.name in Path("/proc/self/maps").read_text()
    region.close()
    assert region.name not in Path("/proc/self/maps").read_text()


def test_a_region_that_does_not_fit_is_refused_at_once() -> None:
    too_large = shutil.disk_usage(SHM_DIR).total * 2
    before = set(SHM_DIR.iterdir())
    with pytest.raises(MemoryRegionError, match=rf"of {too_large} bytes: .* free.*--shm-size"):
        SystemRegion(too_large)
    mine = f"-{os.getpid()}-"
    assert not {path for path in set(SHM_DIR.iterdir()) - before if mine in path.name}


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(MemoryRegionError, match="nowhere must exist and be writable"):
        SystemRegion(4096, tmp_path / "nowhere")


def test_an_empty_region_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a positive size"):
        SystemRegion(0)


# A view that exists is written to after the file was cut; then somebody else's mapping is, and that
# ends the process as ever.
CUT = """
import mmap, os, sys, tempfile
from pathlib import Path
import numpy as np
from dualface_client.errors import MemoryRegionError
from dualface_client.memory.region import SystemRegion
with SystemRegion(1 << 20, Path(sys.argv[1])) as other:
    with SystemRegion(1 << 20, Path(sys.argv[1])) as region:
        view = region.view(0, (1 << 20,), np.dtype(np.uint8))
        view[:] = 7
        with open(os.fsencode(sys.argv[2]), "w+b") as file:
            file.truncate(1 << 26)  # too large for a gap above: it is listed before the region
            beside = mmap.mmap(file.fileno(), 1 << 26)
        os.truncate(Path(sys.argv[1]) / region.name, 4096)
        view[:] = 8
        assert view[4096:].min() == 8
        try:
            region.view(0, (1,), np.dtype(np.uint8))
        except MemoryRegionError as error:
            print(error)
    other.view(0, (1 << 20,), np.dtype(np.uint8))[:] = 9
print("the other region is well", flush=True)
with tempfile.TemporaryFile() as file:
    file.truncate(4096)
    foreign = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    foreign[0] = 1
"""


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param(b"plain", id="plain"),
        pytest.param(b"\xff", id="no_text"),
        pytest.param("\x85\u2028\r".encode(), id="ends_of_lines"),
    ],
)
def test_a_file_that_is_cut_meanwhile_is_said_and_kills_nobody(
    tmp_path: Path, beside: bytes
) -> None:
    """Whatever the names of other files that the process has mapped."""
    (tmp_path / "regions").mkdir()
    other = os.fsencode(tmp_path) + b"/" + beside
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(tmp_path / "regions"), other],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    first, *rest = done.stdout.splitlines()
    assert "another program has cut this file to 4096 of 1048576 bytes" in first
    assert rest == ["the other region is well"]
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert list((tmp_path / "regions").iterdir()) == []


def test_a_file_that_was_cut_is_not_registered_again(tmp_path: Path) -> None:
    """As after the server, which maps it too, died of that."""
    with (
        SystemRegion(1 << 20, tmp_path) as region,
        Connection("127.0.0.1:9", OPEN_ACCESS) as nobody,
    ):
        os.truncate(tmp_path / region.name, 0)
        with pytest.raises(MemoryRegionError, match="has cut this file to 0 of 1048576 bytes"):
            register(nobody, region)
