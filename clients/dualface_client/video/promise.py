"""What a container says is in it, to be compared with what came."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from dualface_client.video.ffmpeg import TIMES_RESTART, av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_UNKNOWN_FRAMES = 1 << 30  # what FFmpeg writes into an AVI when it cannot come back
# Headers are written from the recorder's clock, or count the time that decoders need to start.
_SLACK_S = Fraction(1, 10)
# A file that ends this much early is not whole, even if no size in it says so.
_MISSING_S = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Came:
    """What was read of a file.

    Attributes:
        packets: Packets of the video track.
        start_s: Where the first packet begins, of the tracks that a promise is about.
        last_s: Where the last one begins.
        end_s: Where the last one ends, if its length is that of its picture. Where pictures are
            reordered at a variable rate, it is that of another one.
    """

    packets: int
    start_s: Fraction
    last_s: Fraction
    end_s: Fraction


@dataclass(frozen=True, slots=True)
class Promise:
    """What a header or an index says.

    Attributes:
        packets: Packets of the video track, 0 if nothing says so.
        end_s: Where the video track ends, or the last of all tracks; None if nothing says so.
        is_of_video: Which of the two.
        slack_s: By how much such an end may be wrong in a whole file.
        step_s: From one picture to the next.
    """

    packets: int
    end_s: Fraction | None
    is_of_video: bool
    slack_s: Fraction
    step_s: Fraction

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream, step_s: Fraction) -> Promise:
        """Reads it from an opened container.

        Args:
            container: The input, before its packets are read.
            stream: The video track.
            step_s: Seconds from one picture to the next.
        """
        name = container.format.name
        if name == "avi":  # FFmpeg corrects the duration of a file without its end
            frames = stream.frames if stream.frames < _UNKNOWN_FRAMES else 0
            return cls(0, frames * step_s or None, True, step_s, step_s)
        if name.startswith("mov,"):
            end_s = None
            if stream.duration and stream.time_base:
                end_s = ((stream.start_time or 0) + stream.duration) * stream.time_base
            # Recorders write empty samples for pauses; FFmpeg gives out none of them.
            packets = sum(entry.size > 0 for entry in stream.index_entries)
            return cls(packets, end_s, True, step_s, step_s)
        if container.format.flags & TIMES_RESTART or not container.duration:
            return cls(0, None, True, step_s, step_s)
        # Where B frames have only decode times, their delay counts as duration.
        delay_s = (1 + stream.codec_context.reorder_depth) * step_s
        end_s = Fraction(container.duration, av.time_base)
        return cls(0, end_s, False, max(delay_s, _SLACK_S), step_s)

    def difference(self, came: Came) -> str | None:
        """In words by how much what came differs from this, None if it agrees."""
        if came.packets < self.packets:
            return f"{came.packets} of {self.packets} pictures came, then the file ended"
        if self._missing_s(came) > self.slack_s:
            missing_s = float(self._missing_s(came))
            return f"it ends {missing_s:.2f} s before the end that its header gives"
        # Some headers count from the first picture on.
        end_s = min(came.end_s, came.last_s + self.step_s)
        longer_s = end_s - max(came.start_s, Fraction(0)) - (self.end_s or end_s)
        if longer_s > self.slack_s:
            return f"it ends {float(longer_s):.2f} s after the end that its header gives"
        return None

    def is_missed(self, came: Came, *, cut: bool) -> bool:
        """Whether more is missing than an inexact header explains.

        Args:
            came: What was read.
            cut: Whether sizes in the file say that it is cut short.
        """
        limit_s = self.slack_s if cut else max(self.slack_s, _MISSING_S)
        return came.packets < self.packets or self._missing_s(came) > limit_s

    def _missing_s(self, came: Came) -> Fraction:
        return Fraction(0) if self.end_s is None else self.end_s - came.end_s
