"""Still, straight borders in the picture of the last half second.

Where two windows meet, the picture steps from one sample to the next, at the same place all along
the border. Edges of things in a room step in few places of a straight line, or less abruptly, or
not quite upright; and what moves is blurred in a mean over time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import exp

import cv2
import numpy as np
import numpy.typing as npt

from dualface_client.picture.ranks import median, quantile
from dualface_client.types import Box, ByteArray, FloatArray

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: Frames fade with this time constant.
_MEMORY_S = 0.5
#: Share of the samples that differ so much from the mean in another picture.
_OTHER_SHARE, _OTHER_LEVELS = 0.3, 20.0
#: What is alive changes by this much from frame to frame, beyond so many times what the stillest
#: part of the picture does.
_ALIVE_LEVELS, _ALIVE_TIMES, _NOISE_QUANTILE = 0.12, 1.5, 0.2
#: Difference between the two sides of a line that counts, in levels of luma.
_STEP_LEVELS = 5.0
#: Share of a border's length that has to step; the ends are left out for rounded corners.
_MIN_COVER = 0.76
_CORNER_SHARE, _CORNER_SAMPLES = 0.06, 1
#: How much larger the step has to be than those between the next samples inside the window.
_MIN_ABRUPTNESS = 2.5
_NEXT = np.array([2, 3, 4])
#: Share that the step has of the whole difference between what is a little further on either side.
_MIN_COMPLETE = 0.7
_FURTHER = 3
#: The same where a plain surface lies outside, which no soft edge has right beside it, and along
#: how much of such a line the picture steps.
_MIN_COMPLETE_ON_SURFACE, _MIN_COVER_ON_SURFACE = 0.45, 0.85
#: How far the place of the step may drift from one end of the line to the other, and lie beside its
#: median, in samples. Beside a thin line the drift is measured less well.
_MAX_DRIFT, _MAX_RIDGE_DRIFT, _MAX_SPREAD = 0.1, 0.3, 0.12
_SEGMENTS = 8
#: Both sides of a border do not move together: correlation along the line of how much they change,
#: where both do.
_MAX_TOGETHER, _MOVING_LEVELS = 0.55, 0.05
#: Plain: share of a line's samples within so many levels of their median, and how still.
_PLAIN_SHARE, _PLAIN_LEVELS, _PLAIN_ACTIVITY = 0.9, 5.0, 1.0
#: Plain lines within so many levels belong to one surface.
_SAME_LEVELS = 3.0
#: Share of a thin line's length at which it is darker, or lighter, than both its sides.
_MIN_RIDGE = 0.85
_RIDGE_LEVELS = 4.0
#: Where neither side is plain, how much the step has to vary along the line, relative to its size:
#: what a window shows does not follow its neighbour.
_MIN_VARIATION = 0.2


@dataclass(frozen=True, slots=True)
class Border:
    """A side of a window.

    Attributes:
        at: Place across the line, in samples: where the window begins.
        cover: Share of its length that steps, 0 to 1.
        outside_level: Luma of the plain surface outside; None if there is none.
    """

    at: float
    cover: float
    outside_level: float | None


class Evidence:
    """The mean picture of the last half second, and how much each sample changes."""

    def __init__(self) -> None:
        self._mean: FloatArray = np.zeros((0, 0), np.float32)
        self._activity = self._mean
        self._previous: ByteArray = np.zeros((0, 0), np.uint8)
        self._frames = 0
        self._time_s = 0.0
        self._known_noise: float | None = None

    @property
    def frames(self) -> int:
        """How many were added since the last restart."""
        return self._frames

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the pictures, in samples."""
        height, width = self._mean.shape
        return width, height

    def restart(self) -> None:
        """Forgets everything: another shot."""
        self._frames = 0

    def is_another(self, preview: ByteArray) -> bool:
        """Whether most of a picture differs from the mean, as after a change of layout."""
        if not self._frames or preview.shape != self._mean.shape:
            return self._frames > 0
        # A quarter of the samples tells as much.
        apart = np.abs(self._mean[::2, ::2] - preview[::2, ::2]) > _OTHER_LEVELS
        return bool(np.count_nonzero(apart) > _OTHER_SHARE * apart.size)

    def add(self, preview: ByteArray, time_s: float) -> None:
        """Adds a frame.

        Args:
            preview: Shape `(height, width)`, uint8.
            time_s: Its time.
        """
        self._frames += 1
        self._known_noise = None
        if self._frames == 1:
            self._mean = preview.astype(np.float32)
            self._activity = np.zeros_like(self._mean)
        else:
            fresh = 1 - exp(-max(time_s - self._time_s, 0.0) / _MEMORY_S)
            change = cv2.absdiff(preview, self._previous)
            cv2.accumulateWeighted(preview, self._mean, max(1 / self._frames, fresh))
            cv2.accumulateWeighted(change, self._activity, max(1 / (self._frames - 1), fresh))
        # A copy: the memory may hold another picture by the next look.
        self._previous, self._time_s = preview.copy(), time_s

    def lines(self) -> tuple[Lines, Lines]:
        """Vertical and horizontal lines of what was added, at least one frame.

        They are of use until the next frame is added.
        """
        mean, activity = self._mean, self._activity
        return (
            Lines(mean, activity, across_people=False),
            Lines(np.asarray(cv2.transpose(mean), np.float32), activity.T, across_people=True),
        )

    def is_alive(self, box: Box) -> bool:
        """Whether what is in a box, in samples, changes by more than noise does."""
        x1, y1, x2, y2 = (max(0, round(edge)) for edge in box)
        part = self._activity[y1:y2, x1:x2]
        if not part.size:
            return False
        return float(part.mean()) >= _ALIVE_LEVELS + _ALIVE_TIMES * self._noise()

    def _noise(self) -> float:
        """How much still parts change; worked out once for all faces of a frame."""
        if self._known_noise is None:
            self._known_noise = quantile(self._activity[::4, ::4], _NOISE_QUANTILE)
        return self._known_noise


class Lines:
    """Straight lines along axis 0, one at each column of samples.

    Args:
        mean: Shape `(along, across)`, mean luma.
        activity: Same shape, mean change from frame to frame.
        across_people: The lines may run through people, as a shelf behind somebody seems to: they
            lie below or above a face.
    """

    def __init__(self, mean: FloatArray, activity: FloatArray, *, across_people: bool) -> None:
        self._mean, self._activity, self._across_people = mean, activity, across_people
        self._borders: dict[tuple[int, int, int, int], Border | None] = {}

    @cached_property
    def _rises(self) -> FloatArray:
        """Running sums of the difference from each sample to the next."""
        return _sums(cv2.absdiff(self._mean[:, 1:], self._mean[:, :-1]))

    @cached_property
    def _step(self) -> cv2.typing.MatLike:
        """Difference from the sample before to the one after; 0 at the first and the last."""
        padded = cv2.copyMakeBorder(self._mean, 0, 0, 1, 1, cv2.BORDER_REFLECT_101)
        return cv2.absdiff(padded[:, 2:], padded[:, :-2])

    @cached_property
    def _steps(self) -> FloatArray:
        """Running sums of the steps."""
        return _sums(self._step)

    @cached_property
    def _covered(self) -> FloatArray:
        """Running counts of the samples that step."""
        return _sums(np.asarray(self._step > _STEP_LEVELS).view(np.uint8))

    @property
    def count(self) -> int:
        """How many columns there are."""
        return int(self._mean.shape[1])

    def cover(self, at: int | Indices, start: int | Indices, end: int | Indices) -> FloatArray:
        """Share of the samples from `start` to `end` that step; the arguments broadcast."""
        return self._cover(at, *_without_corners(np.asarray(start), np.asarray(end)))

    def _cover(self, at: int | Indices, low: Indices, high: Indices) -> FloatArray:
        sums = self._covered[high, at] - self._covered[low, at]
        return np.asarray(sums / np.maximum(high - low, 1), np.float32)

    def is_abrupt(
        self, at: Indices, start: Indices, end: Indices, inside: int, min_cover: float = _MIN_COVER
    ) -> Flags:
        """Whether lines step nearly everywhere, and at once; the arguments broadcast.

        Args:
            at: Columns.
            start: First sample along each line.
            end: First sample behind it.
            inside: 1 if the window is after the line, -1 if it is before it.
            min_cover: Share of each that has to step.
        """
        low, high = _without_corners(start, end)
        step = self._steps[high, at] - self._steps[low, at]
        # The rise from k to k + 1 is stored at k.
        columns = np.add.outer(inside * _NEXT - (inside < 0), at)
        inner = np.minimum(np.maximum(columns, 0), self.count - 2)
        after = (self._rises[high, inner] - self._rises[low, inner]).sum(axis=0) / len(_NEXT)
        abrupt = step >= _MIN_ABRUPTNESS * after
        return np.asarray(abrupt & (self._cover(at, low, high) >= min_cover))

    def candidates(self, reach: range, start: int, end: int, inside: int, most: int) -> list[int]:
        """Columns that step abruptly along half of the way from start to end, the longest first.

        Only those that step at least as much as their neighbours, and the innermost of those side
        by side: behind a thin line another one begins.

        Args:
            reach: Where to look.
            start: First sample along the lines.
            end: First sample behind them.
            inside: 1 if the window is after the line, -1 if it is before it.
            most: How many to return at most.
        """
        columns = np.arange(max(reach.start, 1), min(reach.stop, self.count - 1))
        if end <= start or not len(columns):
            return []
        steps = self._steps[end] - self._steps[start]
        covered = self._covered[end] - self._covered[start]
        peak = (steps[columns] >= steps[columns - 1]) & (steps[columns] > steps[columns + 1])
        innermost = covered[columns + inside] < covered[columns] / 2
        likely = columns[peak | innermost]
        abrupt = self.is_abrupt(likely, np.array(start), np.array(end), inside, min_cover=0.5)
        good = likely[abrupt]
        longest = good[np.argsort(-covered[good], kind="stable")][:most]
        return [int(column) for column in longest]

    def border(self, at: int, start: int, end: int, inside: int) -> Border | None:
        """The border at a column that steps abruptly, or None if it is an edge of another kind.

        Rectangles share sides, so answers are kept.

        Args:
            at: Column.
            start: First sample along the line.
            end: First sample behind it.
            inside: 1 if the window is after the line, -1 if it is before it.
        """
        key = at, start, end, inside
        if key not in self._borders:
            self._borders[key] = self._border(*key)
        return self._borders[key]

    def _border(self, at: int, start: int, end: int, inside: int) -> Border | None:
        low, high = (int(v) for v in _without_corners(np.asarray(start), np.asarray(end)))
        if high - low < 2 * _SEGMENTS:
            return None
        near, far, farther = (self.level(at - k * inside, low, high) for k in (1, 2, 3))
        # The sample next to the border may show both sides.
        surface = far if is_same_level(far, near) or is_same_level(far, farther) else None
        ridge = self._is_ridge(at, low, high, inside)
        cover = float(self.cover(at, start, end))
        # Plain and still along the whole border: it is straight, and nobody is behind it.
        is_sure = surface is not None and cover >= _MIN_COVER_ON_SURFACE
        least = _MIN_COMPLETE_ON_SURFACE if is_sure else _MIN_COMPLETE
        if not self._is_complete(at, low, high, inside, ridge or near is not None, least):
            return None
        before, here, after = (self._mean[low:high, at + k] for k in (-1, 0, 1))
        share = _share_after(before, here, after, _MAX_RIDGE_DRIFT if ridge else _MAX_DRIFT)
        if share is None and is_sure:
            share = _median_share(before, here, after)
        if share is None:
            return None
        if not is_sure and self._across_people and self._moves_together(at, low, high):
            return None
        if near is None and far is None and not ridge and not _varies(after - before):
            return None
        return Border(at + 1 - share, cover, surface)

    def level(self, at: int, start: int, end: int) -> float | None:
        """The level of a line that is plain and still from start to end, None if it is not."""
        if not 0 <= at < self.count or end <= start:
            return None
        if float(self._activity[start:end, at].mean()) > _PLAIN_ACTIVITY:
            return None
        levels = self._mean[start:end, at]
        middle = median(levels)
        close = np.count_nonzero(np.abs(levels - middle) <= _PLAIN_LEVELS)
        return middle if close >= _PLAIN_SHARE * len(levels) else None

    def first_of_level(self, columns: range, start: int, end: int, level: float) -> int | None:
        """The first of some columns that is of a level, and still, from start to end."""
        if end <= start:
            return None
        along, across = slice(start, end), np.array(columns, np.int64)
        close = np.abs(self._mean[along, across] - level) <= _PLAIN_LEVELS
        still = self._activity[along, across].mean(axis=0) <= _PLAIN_ACTIVITY
        found = np.flatnonzero(still & (close.mean(axis=0) >= _PLAIN_SHARE))
        return columns[int(found[0])] if len(found) else None

    def _is_complete(
        self, at: int, low: int, high: int, inside: int, plain: bool, least: float
    ) -> bool:
        """Whether the picture does not go on changing beside the step, as at a soft edge.

        Where a plain line lies outside, which may be a thin one, only the inside counts.
        """
        near = [at - inside, at + inside]
        far = [near[0] if plain else at - _FURTHER * inside, at + _FURTHER * inside]
        columns = np.clip([*near, *far], 0, self.count - 1)
        outer, inner, outermost, innermost = (self._mean[low:high, column] for column in columns)
        whole = innermost - outermost
        return float(((inner - outer) * whole).sum()) >= least * float((whole**2).sum())

    def _moves_together(self, at: int, low: int, high: int) -> bool:
        """Whether what moves on one side of the line moves on the other side too."""
        sides = [
            self._activity[low:high, np.clip([at + near, at + far], 0, self.count - 1)].mean(axis=1)
            for near, far in ((-2, -3), (2, 3))
        ]
        if min(float(side.std()) for side in sides) < _MOVING_LEVELS:
            return False
        return float(np.corrcoef(*sides)[0, 1]) > _MAX_TOGETHER

    def _is_ridge(self, at: int, low: int, high: int, inside: int) -> bool:
        """Whether a thin line, darker or lighter than both its sides, lies just outside."""
        for middle in (at, at - inside):
            columns = middle - 2, middle, middle + 2
            if columns[0] < 0 or columns[2] >= self.count:
                continue
            first, line, last = (self._mean[low:high, column] for column in columns)
            dark = np.count_nonzero(line < np.minimum(first, last) - _RIDGE_LEVELS)
            light = np.count_nonzero(line > np.maximum(first, last) + _RIDGE_LEVELS)
            if max(dark, light) >= _MIN_RIDGE * (high - low):
                return True
        return False


def is_same_level(level: float | None, other: float | None) -> bool:
    """Whether two plain lines may belong to one surface; not if one of them is not plain."""
    return level is not None and other is not None and abs(level - other) <= _SAME_LEVELS


def _sums(values: cv2.typing.MatLike) -> FloatArray:
    """Running sums down axis 0, with a row of zeros before.

    Taken from an integral image, exact or in double precision: few calls, and OpenCV's do not hold
    the interpreter's lock.
    """
    depth = cv2.CV_32S if values.dtype == np.uint8 else cv2.CV_64F
    whole = cv2.integral(values, sdepth=depth)
    return np.asarray(cv2.subtract(whole[:, 1:], whole[:, :-1], dtype=cv2.CV_32F), np.float32)


def _without_corners(start: Indices, end: Indices) -> tuple[Indices, Indices]:
    corner = (_CORNER_SHARE * (end - start)).astype(np.int64) + _CORNER_SAMPLES
    return start + corner, np.maximum(end - corner, start + corner)


def _varies(step: FloatArray) -> bool:
    return float(step.std()) >= _MIN_VARIATION * float(np.abs(step).mean())


def _median_share(before: FloatArray, here: FloatArray, after: FloatArray) -> float:
    """Which share of a straight line's samples shows what is after it."""
    step, rise = after - before, here - before
    steps = np.abs(step) > _STEP_LEVELS
    return median(np.clip(rise[steps] / step[steps], 0, 1)) if steps.any() else 0.5


def _share_after(
    before: FloatArray, here: FloatArray, after: FloatArray, max_drift: float
) -> float | None:
    """Which share of the line's samples shows what is after it; None if the line is not straight.

    Medians of parts of the line, and their median slope, since hair and hands come near.
    """
    step, rise = after - before, here - before
    steps = np.abs(step) > _STEP_LEVELS
    shares = np.clip(rise / np.where(steps, step, 1), 0, 1)
    places, values = [], []
    size, longer = divmod(len(step), _SEGMENTS)
    ends = [k * size + min(k, longer) for k in range(_SEGMENTS + 1)]
    for start, end in pairwise(ends):
        stepping = shares[start:end][steps[start:end]]
        if len(stepping) >= max(2, (end - start) // 3):
            places.append((start + end - 1) / 2 / len(step))
            values.append(median(stepping))
    if len(values) < _SEGMENTS // 2:
        return None
    found, where = np.array(values), np.array(places)
    first, second = np.triu_indices(len(found), 1)
    drift = median((found[second] - found[first]) / (where[second] - where[first]))
    middle = median(found)
    if abs(drift) > max_drift or median(np.abs(found - middle)) > _MAX_SPREAD:
        return None
    return middle
