"""One shared memory file that this process owns and Triton maps."""

from __future__ import annotations

import mmap
import os
import shutil
from math import prod
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import MemoryRegionError
from dualface_client.memory.lost_pages import outlive_lost_pages
from dualface_client.memory.names import new_name

SHM_DIR = Path("/dev/shm")  # noqa: S108 - the kernel's fixed place, where shm_open looks too


@runtime_checkable
class Region(Protocol):
    """What slots are cut from; a CUDA region answers with CuPy arrays instead of NumPy ones."""

    @property
    def name(self) -> str:
        """Name to register with Triton."""

    @property
    def byte_size(self) -> int:
        """Usable bytes."""

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Any:
        """An array over a part of the region, without a copy."""

    def close(self) -> None:
        """Gives the memory back; safe to call twice."""


def checked_part(
    region: Region, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> int:
    """Bytes of a part of a region.

    Args:
        region: Which.
        offset: First byte.
        shape: Of the array that lies there.
        dtype: Element type.

    Raises:
        ValueError: The part does not lie within the region.
    """
    size = prod(shape) * dtype.itemsize
    if offset < 0 or offset + size > region.byte_size or offset % dtype.itemsize:
        raise ValueError(
            f"bytes {offset}..{offset + size} as {dtype}: region {region.name} has "
            f"{region.byte_size} bytes and offsets are multiples of {dtype.itemsize}"
        )
    return size


class SystemRegion(ClosesAtExit):
    """A `/dev/shm` file, mapped here and registered with Triton by name.

    All pages are allocated at once: a full `/dev/shm` is an error here, not a SIGBUS at some write
    an hour later.
    """

    def __init__(self, byte_size: int, directory: Path = SHM_DIR) -> None:
        """Creates and maps the file, readable by this user only.

        Args:
            byte_size: Wanted size, rounded up to whole pages.
            directory: Where to create the file; Triton finds it only in `/dev/shm`.

        Raises:
            MemoryRegionError: The directory is missing, full or not writable.
            ValueError: The size is not positive.
        """
        if byte_size <= 0:
            raise ValueError(f"region of {byte_size} bytes: expected a positive size")
        self._byte_size = -(-byte_size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._name = str(new_name("sys"))
        self._path = directory / self._name
        self._handle, mapping = self._create()
        self._mapping: mmap.mmap | None = mapping
        self._bytes: npt.NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
        outlive_lost_pages()

    def _create(self) -> tuple[int, mmap.mmap]:
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            raise MemoryRegionError(
                f"shared memory file {self._path} cannot be created: {error.strerror}; "
                f"{self._path.parent} must exist and be writable"
            ) from error
        try:
            os.posix_fallocate(handle, 0, self._byte_size)
            return handle, mmap.mmap(handle, self._byte_size)
        except OSError as error:
            os.close(handle)
            self._path.unlink(missing_ok=True)
            raise MemoryRegionError(self._no_space(error)) from error

    def _no_space(self, error: OSError) -> str:
        usage = shutil.disk_usage(self._path.parent)
        return (
            f"shared memory of {self._byte_size} bytes: {error.strerror}; {self._path.parent} has "
            f"{usage.free} of {usage.total} bytes free. "
            "Remedy: fewer streams per worker, `dualface-client reap`, or a larger /dev/shm "
            "(`docker run --shm-size`, `mount -o remount,size=`)"
        )

    @property
    def name(self) -> str:
        """Name to register with Triton; also the file's name."""
        return self._name

    @property
    def shm_key(self) -> str:
        """The name as `shm_open` takes it."""
        return f"/{self._name}"

    @property
    def byte_size(self) -> int:
        """Mapped bytes, whole pages."""
        return self._byte_size

    def view(
        self, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> npt.NDArray[Any]:
        """An array over a part of the region, without a copy.

        Args:
            offset: First byte, a multiple of the element size.
            shape: Shape of the array.
            dtype: Element type.

        Returns:
            A writable C-contiguous array. It must not outlive the region's users: after `close`
            the pages stay readable here but Triton no longer sees them.

        Raises:
            MemoryRegionError: The region is closed, or somebody has cut its file.
            ValueError: The part does not lie within the region.
        """
        if self._mapping is None:
            raise MemoryRegionError(f"region {self._name} is closed")
        self.refuse_cut()
        size = checked_part(self, offset, shape, dtype)
        return self._bytes[offset : offset + size].view(dtype).reshape(shape)

    def refuse_cut(self) -> None:
        """Checks that the file has its full size.

        Raises:
            MemoryRegionError: Somebody has cut it.
        """
        left = os.fstat(self._handle).st_size
        if left < self._byte_size:
            raise MemoryRegionError(
                f"{self._path}: another program has cut this file to {left} of {self._byte_size} "
                "bytes while it was in use, and pictures with it; find out which one writes to "
                f"{self._path.parent}, and run again"
            )

    def close(self) -> None:
        """Unlinks the file and drops the mapping; safe to call twice.

        Views that still exist keep the pages mapped, so that none of them can crash.
        """
        if self._mapping is None:
            return
        os.close(self._handle)
        self._mapping = None
        self._bytes = np.zeros(0, np.uint8)
        self._path.unlink(missing_ok=True)
