"""What x264 is told beyond preset and quality."""

from __future__ import annotations

from pathlib import Path


def x264_params(flags: frozenset[str]) -> str:
    """What x264 is told beyond preset and quality.

    8x8 transforms, which ultrafast leaves out, and with them the High profile. And on a processor
    with AVX-512 no more than AVX2: with it x264 165 gives other packets for the same small pictures
    from one run to the next, and is a third slower (AMD EPYC).

    Args:
        flags: Features of the processor, as Linux names them.
    """
    return "8x8dct=1:asm=avx2" if {"avx512f", "avx2"} <= flags else "8x8dct=1"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Features of the first processor; none where the kernel does not list them so."""
    try:
        with cpuinfo.open() as lines:
            found = (line for line in lines if line.startswith("flags"))
            return frozenset(next(found, "").partition(":")[2].split())
    except OSError:  # another system
        return frozenset()
