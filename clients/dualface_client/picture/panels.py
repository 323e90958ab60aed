"""Which windows a picture has over time: a split screen, a call, a picture in the picture."""

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.picture.borders import Evidence
from dualface_client.picture.windows import Look, Window
from dualface_client.types import Box, ByteArray, FloatArray

#: Frames that follow one another faster than this are not all added to the evidence.
_SAMPLE_EVERY_S = 0.04
#: How often windows are looked for: first in a shot, where the first looks found none, and once it
#: is known. While none is found and the number of faces stays the same, the pause then doubles up
#: to the longest one. After a change in number it stays short: whoever came may have come in a
#: window, which takes several looks to be believed.
_LOOK_EVERY_S, _FOUND_NONE_EVERY_S = 0.12, 0.24
_LOOK_LATER_EVERY_S, _LONGEST_PAUSE_S = 0.3, 1.2
_KNOWN_AFTER_S = 1.5
_CALM_AFTER_S = 1.0
#: Windows are looked for after this time of a shot. Those found at first are believed when they
#: have been seen for the second time, those that appear later when they have for the third.
_FIRST_AFTER_S = 0.26
_SURE_AFTER_S = 0.1
_CHANGE_AFTER_S = 0.4
#: A window whose borders all step along so much of their length needs no second look, nor does one
#: that lies on a plain surface.
_CLEAR_COVER = 0.9
#: A window whose borders are not seen for this long is gone.
_GONE_AFTER_S = 0.5
#: Evidence is gathered for this time before a picture that differs from it starts it anew.
_RESTART_AFTER_S = 1.0
#: Two windows are the same one if no side differs by more, in samples.
_SAME_WITHIN = 1.6
#: A window that is as large as the picture without its bars, within so much, is none.
_CONTENT_WITHIN = 3.0
#: Two windows that overlap by more, in samples, cannot both be there.
_MAX_OVERLAP = 2.0
#: Time stamps are rounded to the source's time base.
_ROUNDING_S = 1e-3


@dataclass(slots=True)
class _Seen:
    """A window over time: when it was first and last seen, and whether it is believed."""

    window: Window
    since_s: float
    seen_s: float
    believed: bool = False


class PanelFinder:
    """Finds the windows of a picture and keeps them steady."""

    def __init__(self) -> None:
        self._evidence = Evidence()
        self._seen: list[_Seen] = []
        self._since_s = self._sampled_s = self._looked_s = 0.0
        self._pause_s, self._faces, self._faces_since_s = _LOOK_LATER_EVERY_S, 0, 0.0

    def update(
        self,
        preview: ByteArray,
        face_boxes: FloatArray,
        content: Box,
        time_s: float,
        cut: bool,
        steady: bool = True,
    ) -> tuple[Box, ...]:
        """Moves on to the next frame.

        Args:
            preview: Shape `(height, width)`, uint8.
            face_boxes: Shape `(n, 4)` xyxy, in samples of the preview.
            content: The picture without bars, in samples.
            time_s: Time of the frame.
            cut: True on the first frame of a shot.
            steady: The camera stands still. Where it moves, no windows are looked for.

        Returns:
            The windows, in samples, set in from their borders, in the order they were found.
        """
        if cut:
            self._seen = []
        if cut or not self._evidence.frames or self._is_other_layout(preview, time_s):
            self._evidence.restart()
            self._since_s = self._looked_s = time_s
        if not self._evidence.frames or self._is_due(time_s, self._sampled_s, _SAMPLE_EVERY_S):
            self._evidence.add(preview, time_s)
            self._sampled_s = time_s
            sought = face_boxes if steady else face_boxes[:0]
            if self._may_look(time_s, len(sought)):
                self._looked_s = time_s
                self._look(Look(self._evidence, sought), time_s)
        boxes = [seen.window.box for seen in self._seen if seen.believed]
        return tuple(box for box in boxes if not _is_close(box, content, _CONTENT_WITHIN))

    def _is_other_layout(self, preview: ByteArray, time_s: float) -> bool:
        """Whether most of the picture is new; where a window moves much, it always is."""
        known = self._is_due(time_s, self._since_s, _RESTART_AFTER_S)
        return known and self._evidence.is_another(preview)

    def _may_look(self, time_s: float, faces: int) -> bool:
        shot_s = time_s - self._since_s
        if shot_s < _FIRST_AFTER_S - _ROUNDING_S:
            return False
        if faces != self._faces:
            self._faces, self._faces_since_s = faces, time_s
        is_known = shot_s >= _KNOWN_AFTER_S
        is_calm = time_s - self._faces_since_s >= _CALM_AFTER_S
        if self._seen or not (is_known and is_calm):
            self._pause_s = _LOOK_LATER_EVERY_S
        every_s = _LOOK_EVERY_S if self._seen or self._is_first(time_s) else _FOUND_NONE_EVERY_S
        if not self._is_due(time_s, self._looked_s, self._pause_s if is_known else every_s):
            return False
        if is_known:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return True

    def _is_first(self, time_s: float) -> bool:
        """Whether what is found now was there from the shot's beginning."""
        return time_s - self._since_s < _FIRST_AFTER_S + _SURE_AFTER_S + _LOOK_EVERY_S

    @staticmethod
    def _is_due(time_s: float, last_s: float, every_s: float) -> bool:
        return time_s - last_s >= every_s - _ROUNDING_S

    def _look(self, look: Look, time_s: float) -> None:
        first = self._is_first(time_s)
        for seen in self._seen:
            if look.is_there(seen.window):
                seen.seen_s = time_s
        known = [s.window for s in self._seen if s.believed and s.seen_s == time_s]
        for window in look.windows(known):
            found = self._seen_as(window)
            if found is not None:
                found.seen_s = time_s
            else:
                clear = first and (window.cover >= _CLEAR_COVER or window.is_on_surface)
                self._seen.append(_Seen(window, time_s, time_s, believed=clear))
        for seen in self._seen:
            needed_s = _SURE_AFTER_S if first else _CHANGE_AFTER_S
            if seen.seen_s == time_s and time_s - seen.since_s >= needed_s:
                seen.believed = True
        there = [seen for seen in self._seen if time_s - seen.seen_s < _GONE_AFTER_S]
        self._seen = _without_overlaps(there)

    def _seen_as(self, window: Window) -> _Seen | None:
        for seen in self._seen:
            if _is_close(seen.window.box, window.box, _SAME_WITHIN):
                return seen
        return None


def _is_close(one: Box, other: Box, within: float) -> bool:
    return all(abs(a - b) <= within for a, b in zip(one, other, strict=True))


def _without_overlaps(seen: list[_Seen]) -> list[_Seen]:
    """Of two that overlap, the one stays that was seen last, or was there first."""
    kept: list[_Seen] = []
    for each in sorted(seen, key=lambda each: (-each.seen_s, each.since_s)):
        if not any(_overlap(each.window.box, other.window.box) for other in kept):
            kept.append(each)
    return sorted(kept, key=lambda each: each.since_s)


def _overlap(one: Box, other: Box) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > _MAX_OVERLAP and down > _MAX_OVERLAP
