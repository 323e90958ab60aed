"""What a running stream shows right now, for somebody who looks; it costs nothing otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dualface_client.imaging.jpeg import small_jpeg
from dualface_client.types import Nv12Image, SeatAssignment, Side

#: At most this many a second, each of at most this size.
_PERIOD_S = 0.2
_LONGEST_PX = 640


@dataclass(frozen=True, slots=True)
class SeenPerson:
    """Somebody in the source's picture.

    Attributes:
        person: Number, 0 while nobody knows whose face it is.
        side: `left` or `right`, empty without a tile.
        box_xyxy: Face in shares of the picture's width and height.
    """

    person: int
    side: str
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Preview:
    """One moment of a stream.

    Attributes:
        canvas_jpeg: What is encoded.
        source_jpeg: The frame that it shows.
        people: Who is seen in that frame.
    """

    canvas_jpeg: bytes
    source_jpeg: bytes
    people: tuple[SeenPerson, ...]


class PreviewTap:
    """Where a stream's pictures come out while somebody looks.

    Args:
        send: Gets them on the stream's thread, which it must not keep waiting.
        clock: Monotonic time.
    """

    def __init__(
        self,
        send: Callable[[Preview], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self._until_s = self._next_s = 0.0

    def watch(self, seconds: float) -> None:
        """Somebody looks for this long from now on; safe to call from any thread."""
        with self._lock:
            self._until_s = max(self._until_s, self._clock() + seconds)

    @property
    def is_due(self) -> bool:
        """Whether the next frame is to be shown."""
        if self._send is None or not self._until_s:  # the usual case, before every frame
            return False
        now_s = self._clock()
        with self._lock:
            if now_s >= self._until_s:
                self._until_s = 0.0
                return False
            return now_s >= self._next_s

    def show(self, source: Nv12Image, canvas: Nv12Image, assignment: SeatAssignment) -> None:
        """Shows a frame.

        Args:
            source: Its picture, on the host.
            canvas: What is made of it, on the host.
            assignment: Who sits where in it.
        """
        self._next_s = self._clock() + _PERIOD_S
        if self._send is not None:
            pictures = small_jpeg(canvas, _LONGEST_PX), small_jpeg(source, _LONGEST_PX)
            self._send(Preview(*pictures, _people(source, assignment)))


def _people(source: Nv12Image, assignment: SeatAssignment) -> tuple[SeenPerson, ...]:
    sides = {assignment.of(side).identity: side.value for side in Side}
    width, height = source.width_px, source.height_px
    found = []
    for track in assignment.tracks:
        x1, y1, x2, y2 = (float(each) for each in track.box_xyxy_px)
        box = x1 / width, y1 / height, x2 / width, y2 / height
        side = sides.get(track.identity, "") if track.identity else ""
        found.append(SeenPerson(track.identity, side, box))
    return tuple(found)
