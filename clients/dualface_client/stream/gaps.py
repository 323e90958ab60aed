"""Which frames of a file are looked at, and what is known of those between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import inf
from typing import TypeVar

from dualface_client.settings.tracking import SceneSettings
from dualface_client.tracking.between import between, has_lost
from dualface_client.tracking.scene import CutDetector
from dualface_client.types import ByteArray, Faces

T = TypeVar("T")

#: When and what somebody saw.
_Look = tuple[float, Faces]
#: Faces of some frames of a stride, given as their places in it.
LookAt = Callable[[Sequence[int]], Sequence[Faces]]

#: Time between two frames that are looked at, at most, and frames. Tiles stayed right in every
#: frame of the tracking clips (`benchmarks/detect_every.py`).
_LONGEST_S, _MOST = Fraction(1, 4), 8
#: After a sure face was lost every frame is looked at for so long: it may be found in few of them,
#: and a track that is lost for good begins anew as somebody else.
_SEARCH_S = 0.5


def frames_per_look(frame_rate: Fraction | None, frames_that_may_wait: int) -> int:
    """What `auto` means: of how many consecutive frames one is looked at, if nothing else is said.

    Args:
        frame_rate: Of the video; None if it has none.
        frames_that_may_wait: In one place. Half as many may be in a stride, since one waits for its
            answer while others are read, asked for and filled in.
    """
    if frame_rate is None:
        return 1
    most = min(_MOST, max(2, frames_that_may_wait // 2))
    return max(1, min(int(_LONGEST_S * frame_rate), most))


def longest_s(every: int, frame_rate: Fraction | None) -> float:
    """Longest time that is filled in: a stride's, and half of it more where frames are uneven."""
    usual_s = every / frame_rate if frame_rate else _LONGEST_S
    return 1.5 * float(max(_LONGEST_S, usual_s))


def strides(frames: Iterable[T], every: int) -> Iterator[list[T]]:
    """Consecutive frames of which the last is looked at: the first one, then `every` at a time.

    Raises:
        Exception: What `frames` raised, after the frames before it.
    """
    stride: list[T] = []
    wanted = 1
    try:
        for frame in frames:
            stride.append(frame)
            if len(stride) == wanted:
                yield stride
                stride, wanted = [], every
    except Exception:
        if stride:
            yield stride
        raise
    if stride:
        yield stride


class Gaps:
    """Fills the frames between those that are looked at; state of one stream.

    Args:
        settings: What a cut is; here every one counts, however soon it follows another.
        longest_s: Longest time between two looks that is filled in.
    """

    def __init__(self, settings: SceneSettings, longest_s: float) -> None:
        self._cuts = CutDetector(replace(settings, min_shot_s=0.0))
        self._longest_s = longest_s
        self._before: _Look | None = None
        self._lost_s = -inf

    def fill(
        self, times_s: Sequence[float], thumbnails: Sequence[ByteArray], faces: Faces, look: LookAt
    ) -> list[Faces]:
        """Faces of all but the last frame of a stride.

        Where two looks do not say what is between them, the frame in their middle is looked at, and
        so on until neighbours are: there is a cut or a plain picture, the time between them is too
        long, a face was lost not long ago, or motion does not say enough (`tracking.between`).

        Args:
            times_s: Presentation times of the stride.
            thumbnails: Of the same frames.
            faces: Detections of the last one.
            look: Detects faces in more frames of the stride.
        """
        breaks = [self._breaks(*pair) for pair in zip(thumbnails, times_s, strict=True)]
        last = len(times_s) - 1
        looks: dict[int, _Look | None] = {-1: self._before, last: (times_s[-1], faces)}
        self._before = looks[last]
        found: dict[int, Faces] = {}
        spans = [(-1, last)]
        while spans := [span for span in spans if span[1] - span[0] > 1]:
            unclear = []
            for start, end in spans:
                rows = range(start + 1, end)
                filled = None
                if not any(breaks[start + 1 : end + 1]):
                    filled = self._between(looks[start], looks[end], [times_s[row] for row in rows])
                if filled is None:
                    unclear.append((start, end))
                else:
                    found |= zip(rows, filled, strict=True)
            middles = [(start + end) // 2 for start, end in unclear]
            for row, seen in zip(middles, look(middles) if middles else (), strict=True):
                found[row], looks[row] = seen, (times_s[row], seen)
            halves = zip(unclear, middles, strict=True)
            spans = [half for (a, c), b in halves for half in ((a, b), (b, c))]
        for start, end in pairwise(sorted(looks)):
            if not any(breaks[start + 1 : end + 1]):
                self._note_loss(looks[start], looks[end])
        return [found[row] for row in range(last)]

    def _between(
        self, before: _Look | None, after: _Look | None, times_s: Sequence[float]
    ) -> list[Faces] | None:
        """Faces at some times between two looks; None where these do not say enough."""
        if before is None or after is None:
            return None
        span_s = after[0] - before[0]
        if not 0 < span_s <= self._longest_s or after[0] - self._lost_s < _SEARCH_S:
            return None
        shares = [(time_s - before[0]) / span_s for time_s in times_s]
        return between(before[1], after[1], shares, span_s)

    def _note_loss(self, before: _Look | None, after: _Look | None) -> None:
        """Notes when a face was lost between two looks of one shot."""
        if before is not None and after is not None and has_lost(before[1], after[1]):
            self._lost_s = after[0]

    def _breaks(self, thumbnail: ByteArray, time_s: float) -> bool:
        """Whether a frame begins a shot, or belongs to none, such as a black one."""
        return self._cuts.update(thumbnail, time_s) or self._cuts.is_plain
