"""What a stream and the process that decides for it say to each other.

A stream's process hears of every frame of every stream under one interpreter lock, so that what is
read there for each frame is kept small, and the rest stays packed until somebody asks for it.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import msgspec
import numpy as np

from dualface_client.decisions.commands import Command
from dualface_client.decisions.decider import Account, Decision
from dualface_client.framing.studio import Plan
from dualface_client.observe.stage_clock import StageTime
from dualface_client.types import ByteArray, Faces, FloatArray, IntArray, SeatAssignment

#: Frames whose pictures have a place in a stream's memory at once.
PLACES = 16
#: Bytes of a place: a thumbnail and the largest preview, see `imaging.geometry`.
_THUMBNAIL_BYTES, _PREVIEW_BYTES = 36 * 64 * 3, 320 * 320
_PLACE_BYTES = _THUMBNAIL_BYTES + _PREVIEW_BYTES
MEMORY_BYTES = PLACES * _PLACE_BYTES

# NumPy's numbers are floats too.
_PLANS_OUT = msgspec.msgpack.Encoder(enc_hook=float)
_PLANS_IN = msgspec.msgpack.Decoder(tuple[Plan, ...])


@dataclass(frozen=True, slots=True)
class PackedFaces:
    """Faces of consecutive frames in a few arrays.

    Attributes:
        ends: Of each frame, the row behind its last face.
        boxes_xyxy_px: Of all frames, see `Faces`.
        scores: The same.
        landmarks_px: The same.
    """

    ends: tuple[int, ...]
    boxes_xyxy_px: FloatArray
    scores: FloatArray
    landmarks_px: FloatArray

    @classmethod
    def of(cls, faces: Sequence[Faces]) -> PackedFaces:
        """Packs at least one frame's."""
        return cls(
            tuple(np.cumsum([len(each) for each in faces]).tolist()),
            np.concatenate([each.boxes_xyxy_px for each in faces]),
            np.concatenate([each.scores for each in faces]),
            np.concatenate([each.landmarks_px for each in faces]),
        )

    def unpacked(self) -> list[Faces]:
        """One for each frame; views of the arrays."""
        rows = [slice(*ends) for ends in zip((0, *self.ends[:-1]), self.ends, strict=True)]
        arrays = self.boxes_xyxy_px, self.scores, self.landmarks_px
        return [Faces(*(array[part] for array in arrays)) for part in rows]


@dataclass(frozen=True)
class PackedDecisions:
    """Decisions about consecutive frames; only what is needed of every frame is read at once.

    Attributes:
        heads: Of each frame: is it a cut, and who holds the left and the right side.
        plans: What the canvases show, as MessagePack.
        assignments: Who sits where in full, pickled.
    """

    heads: tuple[tuple[bool, int, int], ...]
    plans: bytes
    assignments: bytes

    @classmethod
    def of(cls, decisions: Sequence[Decision]) -> PackedDecisions:
        """Packs what another process was asked to decide."""
        return cls(
            tuple((each.scene_cut, *each.identities) for each in decisions),
            _PLANS_OUT.encode([each.plan for each in decisions]),
            pickle.dumps([each.assignment for each in decisions]),
        )

    @cached_property
    def _in_full(self) -> list[SeatAssignment]:
        found: list[SeatAssignment] = pickle.loads(self.assignments)  # noqa: S301 - own child's
        return found

    def _assignment(self, index: int) -> SeatAssignment:
        return self._in_full[index]

    def unpacked(self) -> list[Decision]:
        """The same decisions."""
        plans = _PLANS_IN.decode(self.plans)
        return [
            Decision(plan, cut, (left, right), partial(self._assignment, index))
            for index, (plan, (cut, left, right)) in enumerate(zip(plans, self.heads, strict=True))
        ]


#: About no frame.
NOTHING = PackedDecisions.of([])


@dataclass(frozen=True, slots=True)
class Take:
    """Consecutive frames whose pictures lie in the first places of the memory, in order.

    Attributes:
        times_s: Presentation time of each.
        faces: What was detected in them.
        thumbnail_shape: Of all of them.
        preview_shape: Of all of them.
    """

    times_s: tuple[float, ...]
    faces: PackedFaces
    thumbnail_shape: tuple[int, ...]
    preview_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The stream ends: what still waits is final."""


@dataclass(frozen=True, slots=True)
class Tell:
    """The stream has ended, in whatever way; an `Accounts` is the answer."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What there is to tell.

    Attributes:
        account: Of the whole stream.
        stages: Where the time went.
    """

    account: Account
    stages: tuple[tuple[str, StageTime], ...]


@dataclass(frozen=True, slots=True)
class Obey:
    """Somebody wants something; a `Final` without decisions is the answer."""

    command: Command


@dataclass(frozen=True, slots=True)
class LookCloser:
    """Some faces of a frame of the last `Take` need ReID; a `CloserLook` is the answer."""

    index: int
    rows: IntArray


@dataclass(frozen=True, slots=True)
class Final:
    """The answer to `Take`, `Obey` and `Finish`.

    Attributes:
        decisions: About the frames that became final, in order.
        problem: Why a command cannot be obeyed, empty otherwise.
    """

    decisions: PackedDecisions
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that nobody expected.

    Attributes:
        error: Its `repr`.
        trace: Its stack trace.
    """

    error: str
    trace: str

    def as_error(self, when: str) -> RuntimeError:
        """To be raised here instead of there.

        Args:
            when: It happened, for people.
        """
        return RuntimeError(f"{self.error} {when}\n{self.trace}")


class Places:
    """The pictures of consecutive frames in memory that two processes share.

    Args:
        fd: Of `MEMORY_BYTES`; stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, MEMORY_BYTES)
        self._bytes: ByteArray = np.frombuffer(self._map, np.uint8).reshape(PLACES, _PLACE_BYTES)

    def put(self, index: int, thumbnail: ByteArray, preview: ByteArray) -> None:
        """Fills a place.

        Through the map, as NumPy would give the interpreter lock away for each copy, and with many
        streams in a process it takes far longer to get it back than to copy.

        Args:
            index: Of the place.
            thumbnail: Of the frame, C-contiguous.
            preview: Of the frame, C-contiguous.
        """
        first = index * _PLACE_BYTES
        self._map[first : first + thumbnail.nbytes] = thumbnail.data.cast("B")
        first += _THUMBNAIL_BYTES
        self._map[first : first + preview.nbytes] = preview.data.cast("B")

    def thumbnail(self, index: int, shape: Sequence[int]) -> ByteArray:
        """A view of one place's thumbnail."""
        return self._bytes[index, : prod(shape)].reshape(shape)

    def preview(self, index: int, shape: Sequence[int]) -> ByteArray:
        """A view of one place's preview."""
        part = self._bytes[index, _THUMBNAIL_BYTES:]
        return part[: prod(shape)].reshape(shape)
