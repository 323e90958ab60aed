"""A file decoded on the GPU as far as NVDEC can follow it, and from there on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

from dualface_client.stream.seams import FrameSource
from dualface_client.types import Frame, VideoInfo
from dualface_client.video.nvdec import NvdecSizeChangedError


class DeviceSource:
    """Frames of one source, and of another one where its pictures change their size.

    Both place pictures in time alike, so the second one goes on where the first one ended.
    """

    def __init__(self, source: FrameSource, reopen: Callable[[str], FrameSource]) -> None:
        """Takes a source over.

        Args:
            source: Opened, not yet iterated; may raise `NvdecSizeChangedError` in its iteration.
            reopen: Opens the file again for any size; gets the reason.
        """
        self._source = source
        self._reopen = reopen
        self._closed = False

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream."""
        return self._source.info

    @property
    def decode_errors(self) -> int:
        """Packets or pictures that could not be decoded so far."""
        return self._source.decode_errors

    @property
    def is_short_to_read(self) -> bool:
        """Whether the GPU decodes it."""
        return self._source.is_short_to_read

    @property
    def incomplete(self) -> str:
        """What is missing of what the file promises, empty for nothing; known after the end."""
        return self._source.incomplete

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong so far without ending the stream."""
        return self._source.warnings

    def __iter__(self) -> Iterator[Frame]:
        """Frames in presentation order; once only."""
        count, pts = 0, None
        try:
            for frame in self._source:
                count, pts = count + 1, frame.pts
                yield frame
        except NvdecSizeChangedError as error:
            why = str(error)
        else:
            return
        self._source.close()
        if self._closed:
            return
        self._source = self._reopen(why)
        if self._closed:  # meanwhile
            self._source.close()
        for index, frame in enumerate(_later(self._source, pts), count):
            yield replace(frame, index=index)

    def close(self) -> None:
        """Releases the file; frames that are held stay valid."""
        self._closed = True
        self._source.close()


def _later(frames: FrameSource, pts: int | None) -> Iterator[Frame]:
    return itertools.dropwhile(lambda frame: pts is not None and frame.pts <= pts, frames)
