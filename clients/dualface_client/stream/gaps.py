"""Which frames of a file are looked at, and what is known of those between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from dualface_client.settings.tracking import SceneSettings
from dualface_client.tracking.between import between
from dualface_client.tracking.scene import CutDetector
from dualface_client.types import ByteArray, Faces, Frame

#: Time between two frames that are looked at, at most, and frames. Tiles stayed right in every
#: frame of the tracking clips with one frame of two, three and four (`benchmarks/detect_every.py`).
_LONGEST_S, _MOST = Fraction(1, 8), 6


def frames_per_look(frame_rate: Fraction | None) -> int:
    """What `auto` means: of how many consecutive frames one is looked at."""
    if frame_rate is None:
        return 1
    return max(1, min(int(_LONGEST_S * frame_rate), _MOST))


def longest_s(every: int, frame_rate: Fraction | None) -> float:
    """Longest time that is filled in: a stride's, and half of it more where frames are uneven."""
    usual_s = every / frame_rate if frame_rate else _LONGEST_S
    return 1.5 * float(max(_LONGEST_S, usual_s))


def strides(frames: Iterable[Frame], every: int) -> Iterator[list[Frame]]:
    """Consecutive frames of which the last is looked at: the first one, then `every` at a time.

    Raises:
        Exception: What `frames` raised, after the frames before it.
    """
    stride: list[Frame] = []
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
        self._before: tuple[float, Faces] | None = None

    def fill(
        self, times_s: Sequence[float], thumbnails: Sequence[ByteArray], faces: Faces
    ) -> list[Faces] | None:
        """Faces of all but the last frame of a stride.

        Args:
            times_s: Presentation times of the stride.
            thumbnails: Of the same frames.
            faces: Detections of the last one.

        Returns:
            None where these frames must be looked at themselves: there is a cut or a plain picture
            among them, the time between the looks is too long, or motion between
            the frames on either side does not say enough (`tracking.between`).
        """
        breaks = [self._breaks(*pair) for pair in zip(thumbnails, times_s, strict=True)]
        before, self._before = self._before, (times_s[-1], faces)
        if len(times_s) == 1:
            return []
        if before is None or any(breaks) or not 0 < times_s[-1] - before[0] <= self._longest_s:
            return None
        start_s, length_s = before[0], times_s[-1] - before[0]
        shares = [(time_s - start_s) / length_s for time_s in times_s[:-1]]
        return between(before[1], faces, shares)

    def _breaks(self, thumbnail: ByteArray, time_s: float) -> bool:
        """Whether a frame begins a shot, or belongs to none, such as a black one."""
        return self._cuts.update(thumbnail, time_s) or self._cuts.is_plain
