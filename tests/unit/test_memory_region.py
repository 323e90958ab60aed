"""The shared memory file: size, rights, views, its end, and a full file system."""

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dualface_client.errors import MemoryRegionError
from dualface_client.memory.region import SHM_DIR, Region, SystemRegion

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
