"""Encoded packets of a live stream, and what takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

#: Outputs begin a new file, segment or connection at a key frame; there is one this often.
KEY_FRAMES_S = 2.0


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded packet that several outputs write.

    Attributes:
        is_picture: Whether it is video; else it is sound.
        data: The payload.
        pts: Presentation time stamp.
        dts: Decode time stamp.
        duration: In the same units.
        time_base: Seconds per unit.
        is_key: Whether an output may begin with it.
        unix_s: When it was encoded, seconds since 1970.
    """

    is_picture: bool
    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Any
    is_key: bool
    unix_s: float

    @property
    def time_s(self) -> float:
        """When it is decoded, seconds on the stream's clock."""
        return float(self.dts * self.time_base)


@dataclass(frozen=True, slots=True)
class Templates:
    """The encoder's streams, from which outputs take over what their packets are.

    Attributes:
        pictures: Video.
        sound: None for a stream without sound.
    """

    pictures: Any
    sound: Any


class Target(Protocol):
    """Where one output goes. Methods raise what FFmpeg, the system or `OutputFile` raises."""

    @property
    def shown(self) -> str:
        """For people; without secrets."""

    def write(self, packet: Encoded, templates: Templates) -> None:
        """Writes a packet; the first one, also after `abandon`, is a key frame."""

    def finish(self) -> None:
        """Ends what is open, whole."""

    def abandon(self) -> None:
        """Drops what is open after a failure; never raises."""
