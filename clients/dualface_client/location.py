"""Where processes are started: with which GPU, and on which cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Location:
    """One part of the machine.

    Attributes:
        name: For people, such as `GPU 0`; empty where the machine is one.
        environ: Variables that its processes get besides those of this one. With
            `CUDA_VISIBLE_DEVICES`, every CUDA library in them sees one GPU, as number 0.
        cores: Numbers of the cores near the GPU, empty for all.
    """

    name: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    cores: frozenset[int] = frozenset()

    @property
    def is_everywhere(self) -> bool:
        """Whether this process itself is at this location."""
        return not self.environ and not self.cores

    def environment(self) -> dict[str, str]:
        """All variables of a process there."""
        return {**os.environ, **self.environ}

    @contextmanager
    def near(self) -> Iterator[None]:
        """Has processes that this thread starts in the body run on the location's cores."""
        if not self.cores:
            yield
            return
        # Linux counts a thread as the process here, and what it starts inherits its cores.
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


HERE = Location()
