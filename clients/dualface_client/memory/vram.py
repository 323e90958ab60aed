"""GPU memory: what a stream, a worker and a server take, and which streams fit. Pure arithmetic.

The constants were measured on one H200 with 1080p H.264, where the formula gives 1.14 times what
was used (docs/memory.md). On other cards they are estimates, and what NVML shows during a run has
the last word (`VramGuard`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

MIB = 1 << 20
#: Share of the card for everybody; the rest covers errors of estimates, and fragmentation.
DEFAULT_LIMIT = 0.75
#: A client process with CUDA and NVDEC contexts (H200, with the stacks of `cuda.context`).
WORKER_BYTES = 354 * MIB
#: Embedded server on a GPU with sessions for all batch sizes (H200): its detector process, and all
#: of it with four clients.
DETECTOR_BYTES, EMBEDDED_SERVER_BYTES = 1658 * MIB, 3330 * MIB
#: Surfaces of a decoder: reference pictures of typical streams and those on their way out.
_SURFACES = {"h264": 10, "hevc": 12, "av1": 14}
_SURFACES_OTHER = 14


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What a stream's memory depends on.

    Attributes:
        name: Of the stream.
        width_px: Decoded width.
        height_px: Decoded height.
        codec: FFmpeg's name for it, such as `h264`.
        bit_depth: 8 or 10.
    """

    name: str
    width_px: int
    height_px: int
    codec: str = "h264"
    bit_depth: int = 8


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """How a stream is run.

    Attributes:
        frames_held: Frames that its loop may hold at once.
        slot_bytes: Bytes of the slots that it adds to the region.
        canvas_wh_px: Output size.
        frames_behind: Composed frames that may wait for the encoder.
        drawn_at_once: Canvases that are drawn together.
    """

    frames_held: int
    slot_bytes: int
    canvas_wh_px: tuple[int, int] = (1920, 1080)
    frames_behind: int = 4
    drawn_at_once: int = 1


def stream_terms(shape: StreamShape, load: StreamLoad) -> dict[str, int]:
    """Bytes of GPU memory of one stream, by what they are for.

    Args:
        shape: Of its video.
        load: How it is run.
    """
    frame_bytes = shape.width_px * shape.height_px * 3 // 2  # NV12, 8 bit
    canvas_bytes = load.canvas_wh_px[0] * load.canvas_wh_px[1] * 3 // 2
    surfaces = _SURFACES.get(shape.codec, _SURFACES_OTHER)
    return {
        "decoder": surfaces * frame_bytes * (2 if shape.bit_depth > 8 else 1),
        "frames": load.frames_held * frame_bytes,
        "slots": load.slot_bytes,
        "canvases": (load.frames_behind + load.drawn_at_once + 1) * canvas_bytes,
    }


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU's memory before any stream has started.

    Attributes:
        total_bytes: Of the card.
        used_bytes: In use by others and by the server.
        limit: Share of the total that may be used by all, above 0 and at most 1.
    """

    total_bytes: int
    used_bytes: int
    limit: float = DEFAULT_LIMIT

    @property
    def limit_bytes(self) -> int:
        """The limit in bytes."""
        return int(self.total_bytes * self.limit)

    @property
    def room_bytes(self) -> int:
        """Bytes left below the limit, at least 0."""
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class Admission:
    """Which streams run, and how many at a time.

    Attributes:
        at_a_time: Streams that may run at a time, 0 if none fits.
        refused: Why not, by name of the stream.
    """

    at_a_time: int
    refused: Mapping[str, str] = field(default_factory=dict)


def admit(
    needs: Sequence[tuple[str, Mapping[str, int]]],
    card: Card,
    at_a_time: int,
    processes_bytes: Callable[[int], int],
    *,
    queue: bool,
) -> Admission:
    """Decides before the start which streams run.

    Any `at_a_time` of the admitted streams fit together, even the largest ones.

    Args:
        needs: Streams by name with their terms, in the order in which they start.
        card: The GPU.
        at_a_time: Streams that were asked for at a time.
        processes_bytes: What the processes for a number of streams at a time still add, without the
            streams.
        queue: Whether streams wait for others to end instead of being refused.
    """
    if queue:
        return _queued(needs, card, at_a_time, processes_bytes)
    admitted: list[int] = []
    refused: dict[str, str] = {}
    for name, terms in needs:
        count = min(at_a_time, len(admitted) + 1)
        workers_bytes = processes_bytes(count)
        if _largest([*admitted, sum(terms.values())], count) + workers_bytes <= card.room_bytes:
            admitted.append(sum(terms.values()))
        else:
            others = _largest(admitted, count - 1)
            refused[name] = _why(terms, card, workers_bytes, others) + (
                "; --on-oom queue runs it when others have ended; or use fewer --streams"
            )
    return Admission(min(at_a_time, len(admitted)), refused)


def _queued(
    needs: Sequence[tuple[str, Mapping[str, int]]],
    card: Card,
    at_a_time: int,
    processes_bytes: Callable[[int], int],
) -> Admission:
    alone = processes_bytes(1)
    refused = {
        name: _why(terms, card, alone, 0) + ": not even alone"
        for name, terms in needs
        if sum(terms.values()) + alone > card.room_bytes
    }
    sizes = [sum(terms.values()) for name, terms in needs if name not in refused]
    fitting = [
        count
        for count in range(1, min(at_a_time, len(sizes)) + 1)
        if _largest(sizes, count) + processes_bytes(count) <= card.room_bytes
    ]
    return Admission(max(fitting, default=0), refused)


def _largest(sizes: Sequence[int], count: int) -> int:
    return sum(sorted(sizes, reverse=True)[: max(count, 0)])


def _why(terms: Mapping[str, int], card: Card, workers_bytes: int, others_bytes: int) -> str:
    parts = ", ".join(f"{name} {_mib(size)}" for name, size in terms.items())
    need, limit = _mib(sum(terms.values())), _mib(card.limit_bytes)
    return (
        f"needs {need} MiB of GPU memory ({parts}); of {limit} "
        f"MiB ({card.limit:.0%} of the card, --vram-limit) the server and others use "
        f"{_mib(card.used_bytes)}, client processes add {_mib(workers_bytes)}, streams beside it "
        f"{_mib(others_bytes)}"
    )


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f}"


class VramGuard:
    """Holds streams back by the card's actual use, once the first ones run.

    Estimates decide how many streams run at a time; this corrects them: a further stream starts
    only if its need fits below the limit beside what is actually used. Not thread-safe;
    `Runner` asks under its lock.

    Args:
        read_used_bytes: What NVML shows as used on the card, None if it cannot tell.
        limit_bytes: Of the card, for everybody.
        need_bytes: Of the largest stream.
        now_s: A monotonic clock.
        ramp_s: For this long after its start a stream's memory may not show yet and is added.
    """

    def __init__(
        self,
        read_used_bytes: Callable[[], int | None],
        limit_bytes: int,
        need_bytes: int,
        now_s: Callable[[], float],
        ramp_s: float = 5.0,
    ) -> None:
        self._read_used_bytes = read_used_bytes
        self._limit_bytes = limit_bytes
        self._need_bytes = need_bytes
        self._now_s = now_s
        self._ramp_s = ramp_s
        self._started_s: list[float] = []

    def admit(self) -> bool:
        """Whether a further stream fits; counts it as started if so."""
        now_s = self._now_s()
        self._started_s = [at for at in self._started_s if now_s - at < self._ramp_s]
        used_bytes = self._read_used_bytes()
        if used_bytes is not None:
            expected = used_bytes + (len(self._started_s) + 1) * self._need_bytes
            if expected > self._limit_bytes:
                return False
        self._started_s.append(now_s)
        return True


@dataclass(frozen=True, slots=True)
class VramLimit:
    """What a worker is told about the GPU's memory.

    Attributes:
        limit_bytes: Of the card, for everybody.
        need_bytes: Of the largest stream.
    """

    limit_bytes: int
    need_bytes: int
