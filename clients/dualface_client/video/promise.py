"""What a container says is in it, to be compared with what came."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from dualface_client.video.ffmpeg import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_TIMES_RESTART = 0x0200  # AVFMT_TS_DISCONT: its duration is measured in its last bytes
# Headers are written from the recorder's clock, or count the time that decoders need to start.
_SLACK_S = Fraction(1, 10)
# A file that ends this much early is not whole, even if no size in it says so.
_MISSING_S = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Promise:
    """What a header or an index says.

    Attributes:
        packets: Packets of the video track, 0 if nothing says so.
        end_s: Where the last track ends, None if nothing says so.
        slack_s: By how much such an end may be wrong in a whole file.
    """

    packets: int
    end_s: Fraction | None
    slack_s: Fraction

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
            return cls(0, stream.frames * step_s or None, step_s)
        if name.startswith("mov,"):
            end_s = None
            if stream.duration and stream.time_base:
                end_s = ((stream.start_time or 0) + stream.duration) * stream.time_base
            return cls(len(stream.index_entries), end_s, step_s)
        if container.format.flags & _TIMES_RESTART or not container.duration:
            return cls(0, None, step_s)
        # Where B frames have only decode times, their delay counts as duration.
        delay_s = (1 + stream.codec_context.reorder_depth) * step_s
        return cls(0, Fraction(container.duration, av.time_base), max(delay_s, _SLACK_S))

    def shortfall(self, packets: int, end_s: Fraction) -> str | None:
        """In words what is missing, None if nothing is.

        Args:
            packets: Packets of the video track that came.
            end_s: Where the last of any track's packets ended, seconds.
        """
        if packets < self.packets:
            return f"{packets} of {self.packets} pictures came, then the file ended"
        missing_s = Fraction(0) if self.end_s is None else self.end_s - end_s
        if missing_s <= self.slack_s:
            return None
        return f"it ends {float(missing_s):.2f} s before the end that its header gives"

    def is_short(self, packets: int, end_s: Fraction, *, cut: bool) -> bool:
        """Whether what is missing is more than an inexact header; arguments as for `shortfall`.

        Args:
            packets: Packets of the video track that came.
            end_s: Where the last of any track's packets ended, seconds.
            cut: Whether sizes in the file say that it is cut short.
        """
        if packets < self.packets:
            return True
        missing_s = Fraction(0) if self.end_s is None else self.end_s - end_s
        return missing_s > (self.slack_s if cut else max(self.slack_s, _MISSING_S))
