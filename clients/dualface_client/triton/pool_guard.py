"""Sees in Triton's log that its memory pools have run dry, which nothing else reports.

Triton has no metric for its CUDA pool. When the pool is exhausted it continues with other memory
and logs one line, some of them only once per process; one form loses output without an error
(server issue 8177). Each form below is literal text from Triton's or its Python backend's source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dualface_client.background import BackgroundLoop
from dualface_client.errors import ServerError

#: How long a line may go unnoticed, seconds.
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which the log says that a pool was not enough.

    Attributes:
        kind: Label of the metric.
        pattern: What the line contains.
        meaning: What happened, for the user.
        is_fault: Whether the run must end; otherwise the data is right, only slower.
        on_cpu: Whether it also matters on a server without GPUs, which never has a pinned pool.
    """

    kind: str
    pattern: re.Pattern[str]
    meaning: str
    is_fault: bool = True
    on_cpu: bool = False


FORMS: tuple[Form, ...] = (
    # python_backend pb_stub.cc: the copy failed, but the answer is sent anyway.
    Form(
        "lost_output",
        re.compile(r"occurred while trying to load GPU buffers in the Python backend stub"),
        "a Python model's output was lost and answers may be garbage (server issue 8177)",
        on_cpu=True,
    ),
    # core pinned_memory_manager.cc
    Form(
        "pinned_pool",
        re.compile(r"falling back to non-pinned system memory"),
        "the pinned memory pool is exhausted; Triton uses plain host memory",
    ),
    # core memory.cc; once per process
    Form(
        "cuda_pool",
        re.compile(
            r"falling back to pinned system memory|CNMEM_STATUS_OUT_OF_MEMORY(?!.*CUDA IPC)"
        ),
        "the CUDA memory pool is exhausted; Triton uses host memory",
        on_cpu=True,
    ),
    # python_backend infer_response.cc; once per response
    Form(
        "output_by_ipc",
        re.compile(r"Failed to allocate memory from CUDA memory pool for output tensor"),
        "the CUDA memory pool is exhausted; a Python model's outputs travel by CUDA IPC",
        on_cpu=True,
    ),
    # python_backend python_be.cc and pb_stub.cc
    Form(
        "pool_not_shared",
        re.compile(
            r"Failed to share CUDA memory pool with stub process"
            r"|Failed to initialize CUDA shared memory pool in Python stub"
        ),
        "a Python model could not map the CUDA memory pool; its tensors travel one by one",
        is_fault=False,
    ),
    # core pinned_memory_manager.cc at the start
    Form(
        "no_pinned_pool",
        re.compile(r"pinned memory pool will not be available"),
        "there is no pinned memory pool",
    ),
)


@dataclass(frozen=True, slots=True)
class Fallback:
    """One line that was recognised.

    Attributes:
        form: Which form.
        line: The line.
    """

    form: Form
    line: str

    def error(self) -> ServerError:
        """As an error with the remedy."""
        return ServerError(
            f"Triton's memory pool: {self.form.meaning}. Remedy: larger pools "
            "(--cuda-memory-pool-byte-size, --pinned-memory-pool-byte-size; `dualface-client plan` "
            f"computes them) or fewer requests in flight. The log says: {self.line}"
        )


def recognise(line: str, *, gpu: bool = True) -> Fallback | None:
    """The first form that a line of the log matches.

    Args:
        line: One line.
        gpu: Whether the server has GPUs; without them it never has a pinned pool.
    """
    for form in FORMS:
        if (gpu or form.on_cpu) and form.pattern.search(line):
            return Fallback(form, line.strip()[:1000])
    return None


class Log(Protocol):
    """Where lines come from: `triton.log_lines`."""

    @property
    def ended(self) -> bool:
        """Whether there will be no more."""

    def lines(self) -> Iterator[str]:
        """Lines that were completed since the last call; does not wait."""

    def close(self) -> None:
        """Closes it; safe to call twice."""


class PoolGuard(BackgroundLoop):
    """Follows a log, counts fallbacks and reports the first fault; a context manager.

    Ends with the log. Closing reads what is there and closes the log.

    Args:
        log: Lines of the server's log.
        tell: Called on the guard's thread with each fallback of a kind not seen before.
        gpu: Whether the server has GPUs.
        poll_s: Between two looks.
    """

    def __init__(
        self,
        log: Log,
        tell: Callable[[Fallback], None],
        *,
        gpu: bool = True,
        poll_s: float = POLL_S,
    ) -> None:
        self._log = log
        self._tell = tell
        self._gpu = gpu
        self._counts = {form.kind: 0 for form in FORMS}
        self._fault: Fallback | None = None
        super().__init__(
            self._read_on,
            name="pool-guard",
            period_s=poll_s,
            at_once=True,
            once_more=True,
            at_end=log.close,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Fallback lines by kind, every kind listed."""
        return dict(self._counts)

    @property
    def fault(self) -> Fallback | None:
        """The first fallback that makes results doubtful or slow, None while all is well."""
        return self._fault

    def _read_on(self) -> bool:
        """Whether more may come."""
        is_last = self._log.ended
        for line in self._log.lines():
            self._take(line)
        return not is_last

    def _take(self, line: str) -> None:
        found = recognise(line, gpu=self._gpu)
        if found is None:
            return
        kind = found.form.kind
        self._counts[kind] += 1
        if found.form.is_fault and self._fault is None:
            self._fault = found
        if self._counts[kind] == 1:
            self._tell(found)
