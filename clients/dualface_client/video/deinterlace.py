"""Deinterlacing with FFmpeg's `bwdif`, one picture out for each one in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from dualface_client.video.ffmpeg import av

if TYPE_CHECKING:
    from av.filter.graph import Graph


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and its times, which a filter may change in the frame itself.

    Attributes:
        frame: The samples.
        pts: Presentation time stamp in the stream's time base, None if missing.
        duration: In the same unit, 0 if unknown.
        sample_aspect: Width over height of one sample.
    """

    frame: av.VideoFrame
    pts: int | None
    duration: int
    sample_aspect: Fraction


def can_deinterlace() -> bool:
    """Whether this FFmpeg build has the filter."""
    return "bwdif" in av.filter.filters_available


class Deinterlacer:
    """Feeds pictures through a filter graph once the first interlaced one has come.

    Only pictures that are flagged as interlaced are changed. The filter looks one picture ahead;
    times travel beside it, so that they come out as they went in.
    """

    def __init__(self) -> None:
        """Starts without a graph, so that progressive streams never pay for one."""
        self._graph: Graph | None = None
        self._format: tuple[int, int, str] | None = None
        self._waiting: deque[Picture] = deque()  # at most the filter's delay of two

    def push(self, picture: Picture) -> Iterator[Picture]:
        """Takes one picture; yields those that are ready, in order."""
        frame = picture.frame
        if self._graph is None and not frame.interlaced_frame:
            yield picture
            return
        if self._format != (frame.width, frame.height, frame.format.name):
            yield from self.flush()
            self._open(frame)
        self._waiting.append(picture)
        yield from self._exchange(frame)

    def flush(self) -> Iterator[Picture]:
        """Yields what the filter still holds."""
        if self._graph is not None:
            yield from self._exchange(None)
        self._graph = self._format = None

    def _open(self, frame: av.VideoFrame) -> None:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            # Some decoders leave it out; only its presence matters, times travel with the Picture.
            time_base=frame.time_base or Fraction(1, 90_000),
        )
        bwdif = graph.add("bwdif", mode="send_frame", deint="interlaced")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        self._graph = graph
        self._format = (frame.width, frame.height, frame.format.name)

    def _exchange(self, frame: av.VideoFrame | None) -> Iterator[Picture]:
        assert self._graph is not None  # noqa: S101 - push and flush open it first
        self._graph.vpush(frame)
        while self._waiting:
            try:
                ready = self._graph.vpull()
            except (
                av.error.BlockingIOError,
                av.error.EOFError,
            ):  # no more for now
                return
            picture = self._waiting.popleft()
            yield replace(picture, frame=ready)
