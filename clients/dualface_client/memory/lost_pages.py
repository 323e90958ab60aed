"""Outlives the loss of mapped pages.

Whoever may write a mapped file can cut it, and a process that then touches a page past its end gets
SIGBUS and ends without a word. Memory files of Linux can be sealed against that, but not those that
Triton opens by name. So here a handler of the signal puts empty memory of this process alone into
the place of the pages that were lost: the access succeeds, and the owner of the pages, who looks at
the file's size before each use, says what happened.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
from pathlib import Path

from dualface_client.memory.names import parse

_SA_SIGINFO = 4
_SI_ADDR = 16  # where `siginfo_t` has the address that was touched
_MAP_FIXED = 0x10
_MMAP = (
    *(ctypes.c_void_p, ctypes.c_size_t),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """`struct sigaction` of the GNU C library."""

    _fields_ = (
        ("handler", _HANDLER),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def outlive_lost_pages() -> None:
    """Lets accesses to this process's regions succeed after their files were cut."""
    action = _Action(_REPLACE_PAGES, flags=_SA_SIGINFO)
    ctypes.CDLL(None).sigaction(signal.SIGBUS, ctypes.byref(action), None)


def _replace_pages(number: int, info: int, context: int) -> None:
    del context
    libc = ctypes.CDLL(None)
    fault = ctypes.c_size_t.from_address(info + _SI_ADDR).value
    if (pages := _region_at(fault)) is None:
        # Not ours: without a handler, the same access ends the process as it always did.
        libc.signal(number, None)
        return
    libc.mmap.argtypes = _MMAP
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    libc.mmap(pages.start, len(pages), protection, flags, -1, 0)


def _region_at(address: int) -> range | None:
    """The addresses of the region that an address lies in, None where it lies in none.

    The kernel's list of mappings is asked, so that nobody has to keep another one.
    """
    # Names of other files may be no text, or hold what `str` takes for the end of a line: an error
    # in a handler would let the same access fail for ever.
    for raw in Path("/proc/self/maps").read_bytes().removesuffix(b"\n").split(b"\n"):
        line = raw.decode(errors="replace")
        first, last = (int(text, 16) for text in line.partition(" ")[0].split("-"))
        if first <= address < last:
            name = parse(line.removesuffix(" (deleted)").rpartition("/")[2])
            return range(first, last) if name is not None and name.kind == "sys" else None
    return None


# The library must find it as long as the process lives.
_REPLACE_PAGES = _HANDLER(_replace_pages)
