"""Single pictures from anywhere in a file, for a look that does not read all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from math import inf
from pathlib import Path

from dualface_client.types import Frame
from dualface_client.video.ffmpeg import AV_ERRORS, av, source_error, ticks
from dualface_client.video.source import PyavSource
from dualface_client.video.tracks import NOT_VIDEO_REMEDY

#: A picture this much before a time is at that time.
_NEAR_S = 0.02
#: Pictures decoded at most on the way from a key frame to a time; then the last one has to do.
_MOST_DECODED = 150
#: A picture this soon after the last one is reached by decoding on, if no key frame is between.
_ON_S = 5.0


class Glimpses(PyavSource):
    """A video file from which single pictures are taken, in any order; not iterated.

    Pictures that no other one needs are left out, which spares most of the decoding.

    Attributes:
        key_times_s: When key frames begin, seconds from the start, ascending; empty where the file
            has no index, or one of its first part only.
        decoded: Pictures decoded so far, with those on the way to the ones that were wanted.

    Args:
        path: A regular file.
        video_track: Number of the video track, from 1; None for the one that players show.

    Raises:
        SourceError: The file cannot be read as a video.
    """

    def __init__(self, path: str | Path, video_track: int | None = None) -> None:
        # More threads would decode further ahead than is wanted.
        super().__init__(path, threads=1, deinterlace=False, video_track=video_track)
        self._start_s = (self._stream.start_time or 0) * self._time_base
        with suppress(*AV_ERRORS):  # without an index nothing is lost but the key frames' times
            self._container.seek(0, stream=self._stream)  # Matroska's index is read now
        self.key_times_s = self._key_times_s()
        self.decoded = 0
        self._given_s: set[float] = set()
        self._ahead: Iterator[av.VideoFrame] = iter(())
        self._at_s, self._count = inf, 0
        self._stream.codec_context.skip_frame = "NONREF"

    def at(self, time_s: float) -> Frame | None:
        """The picture at a time, or near it where a long way would have to be decoded.

        Args:
            time_s: Seconds from the start of the video.

        Returns:
            The picture, its index counted in the order of these calls, its time from the start of
            the video; None at the end of the file.

        Raises:
            SourceError: No such place can be found in the file, or it cannot be decoded.
        """
        try:
            if not self._is_ahead(time_s):
                moment = ticks(Fraction(time_s) + self._start_s, self._time_base)
                self._container.seek(moment, stream=self._stream)
                self._ahead = self._container.decode(self._stream)
            picture = self._next_at(time_s)
            if picture is None:
                self._at_s = inf
                return None
            image = self._converter.convert(picture, self._color, self._aspect_of(picture))
        except AV_ERRORS as error:
            raise source_error(self._path, error, NOT_VIDEO_REMEDY) from error
        self._at_s = self._time_of(picture)
        self._given_s.add(self._at_s)
        self._count += 1
        pts = _stamp(picture) - (self._stream.start_time or 0)
        return Frame(self._count - 1, pts, self._time_base, image)

    def _key_times_s(self) -> tuple[float, ...]:
        """When key frames begin, if the file has an index of all of itself.

        Where it has none (TS, FLV), FFmpeg lists what it has read so far. Many indices hold
        decoding times, which are earlier than presentation times by as much everywhere; so all are
        told from the first one.
        """
        entries = list(self._stream.index_entries)
        keys = [entry.timestamp for entry in entries if entry.is_keyframe]
        if not keys:
            return ()
        times_s = [max(0.0, float((key - keys[0]) * self._time_base)) for key in keys]
        covered_s = float((entries[-1].timestamp - keys[0]) * self._time_base)
        return tuple(times_s) if covered_s >= self.info.duration_s / 2 else ()

    def _is_ahead(self, time_s: float) -> bool:
        """Whether decoding on from the last picture is the shortest way."""
        if not (self.key_times_s and self._at_s <= time_s <= self._at_s + _ON_S):
            return False
        return max((key for key in self.key_times_s if key <= time_s), default=0.0) <= self._at_s

    def _next_at(self, time_s: float) -> av.VideoFrame | None:
        found = None
        for count in range(_MOST_DECODED):
            picture = next(self._ahead, None)
            if picture is None:
                return found
            found = picture
            self.decoded += 1
            at_s = self._time_of(picture)
            # Without an index a seek finds some place nearby. That is good enough, unless it is the
            # same place again, as in a file with few key frames.
            is_nearby = count == 0 and not self.key_times_s and at_s not in self._given_s
            if is_nearby or at_s >= time_s - _NEAR_S:
                break
        return found

    def _time_of(self, picture: av.VideoFrame) -> float:
        return float(_stamp(picture) * self._time_base - self._start_s)


def _stamp(picture: av.VideoFrame) -> int:
    """When it is shown, or, where that is not known as in AVI, when it was to be decoded."""
    return picture.pts if picture.pts is not None else picture.dts or 0
