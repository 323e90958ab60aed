"""Plain bars at the edges of a picture: letterbox, pillarbox, or the sides of a phone's video.

A bar has one colour in every frame of a shot, and the picture begins along a straight line. Bars
that were found stay over cuts, for they belong to the file, until something is seen in them.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from dualface_client.types import Box, ByteArray, FloatArray

#: Levels of luma within which all of a bar lies, and the step from a bar to the picture.
_BAR_LEVELS = 6
_STEP_LEVELS = 6
#: Bars are black or white, or nearly; between these levels of luma lie surfaces of the picture.
_DARKEST_SURFACE, _BRIGHTEST_SURFACE = 44, 225
#: Share of a bar's length that has shown a step, at one time or another.
_MIN_COVER = 0.6
#: A bar is believed once it has been of one width for this time; after something was seen in the
#: one before, for this longer time.
_AFTER_S = 0.25
_AGAIN_AFTER_S = 2.0
#: A bar is as wide as in the widest of so many frames: a scratch on a film does not break it.
_FRAMES = 6
#: The edge of a scanned film weaves: by so many samples a bar may be narrower than it was.
_WEAVE_SAMPLES = 1
#: Thinnest bar in samples, and the least that may be left of the picture.
_MIN_SAMPLES = 2
_MIN_CONTENT = 0.25
#: How far the content is set in from its edge, in samples.
_INSET = 0.35


class _Side:
    """The bar at one side, seen as rows from the top."""

    def __init__(self) -> None:
        self.edge = 0.0  # where the picture begins, in samples
        self._rows = 0
        self.seen_rows = 0  # what may be a bar
        self._last: deque[int] = deque(maxlen=_FRAMES)
        self._since_s = 0.0
        self._after_s = _AFTER_S
        self._stepped: FloatArray = np.zeros(0, np.float32)
        self._shares: list[float] = []

    def restart(self) -> None:
        """Another shot, in which the bar may have another width."""
        self._stepped = np.zeros(0, np.float32)
        self._after_s = _AFTER_S
        self._last.clear()

    def add(self, picture: ByteArray, time_s: float) -> None:
        """Adds a frame, turned so that the side is at the top.

        Args:
            picture: Shape `(height, width)`.
            time_s: Its time.
        """
        self._last.append(_plain_rows(picture))
        rows = max(self._last)
        if rows < self._rows - _WEAVE_SAMPLES:  # something is in the bar
            self._rows, self.edge, self._after_s = 0, 0.0, _AGAIN_AFTER_S
        if len(self._stepped) != picture.shape[1] or rows < self.seen_rows - _WEAVE_SAMPLES:
            self.seen_rows, self._since_s = rows, time_s
            self._stepped, self._shares = np.zeros(picture.shape[1], np.float32), []
        if not _MIN_SAMPLES <= self.seen_rows < len(picture) - 2 or self.seen_rows == self._rows:
            return
        if rows >= self.seen_rows:
            self._look_at_edge(picture)
        ripe = time_s - self._since_s >= self._after_s
        if ripe and float(self._stepped.mean()) >= _MIN_COVER:
            self._rows = self.seen_rows
            self.edge = self._rows + 1 - float(np.median(self._shares)) + _INSET

    def _look_at_edge(self, picture: ByteArray) -> None:
        """Where the picture steps, and how much of the row in between belongs to it."""
        rows = picture[self.seen_rows - 1 : self.seen_rows + 2].astype(np.float32)
        bar, between, inside = rows
        step = inside - bar
        steps = np.abs(step) > _STEP_LEVELS
        self._stepped = np.maximum(self._stepped, steps)
        if steps.any():
            share = (between - bar)[steps] / step[steps]
            self._shares.append(min(max(float(np.median(share)), 0.0), 1.0))


class BarFinder:
    """Finds the bars at the four sides of a picture."""

    def __init__(self) -> None:
        self._sides = (_Side(), _Side(), _Side(), _Side())

    def update(self, preview: ByteArray, time_s: float, cut: bool) -> Box:
        """Moves on to the next frame.

        Args:
            preview: Shape `(height, width)`, uint8.
            time_s: Time of the frame.
            cut: True on the first frame of a shot.

        Returns:
            The picture without its bars, in samples, set in from them by a fraction of a sample.
        """
        if cut:
            for side in self._sides:
                side.restart()
        left, top, right, bottom = self._sides
        height, width = preview.shape
        top.add(preview, time_s)
        bottom.add(preview[::-1], time_s)
        # Bars at the sides begin and end at those above and below.
        between = preview[top.seen_rows : height - bottom.seen_rows]
        if len(between) < _MIN_CONTENT * height:
            return 0.0, 0.0, float(width), float(height)
        left.add(between.T, time_s)
        right.add(between.T[::-1], time_s)
        content = (left.edge, top.edge, width - right.edge, height - bottom.edge)
        if (
            content[2] - content[0] < _MIN_CONTENT * width
            or content[3] - content[1] < _MIN_CONTENT * height
        ):
            return 0.0, 0.0, float(width), float(height)
        return content


def _plain_rows(picture: ByteArray) -> int:
    """How many rows from the top on are of one level."""
    first = picture[0]
    if int(first.max()) - int(first.min()) > _BAR_LEVELS:  # most pictures have no bar
        return 0
    if _DARKEST_SURFACE < int(first[0]) < _BRIGHTEST_SURFACE:
        return 0  # a sofa, a desk or a wall
    low, high = picture.min(axis=1).astype(np.int16), picture.max(axis=1).astype(np.int16)
    plain = np.maximum.accumulate(high) - np.minimum.accumulate(low) <= _BAR_LEVELS
    return len(plain) if plain.all() else int(np.argmin(plain))
