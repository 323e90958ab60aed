"""What a live input's reader hands on: packets, and the decoders for them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.packet import Packet

    from dualface_client.video.annexb import AnnexbFilter


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """What one connection carries.

    Attributes:
        number: From 1.
        pictures: Decoder of its video.
        rate: Frames per second, None if unknown.
        aspect: Width over height of a sample, None if the container does not say.
        sound: Decoder of its sound, None if it has none.
        annexb: Turns its pictures' packets into what NVIDIA's video engines read; None where the
            header makes no sense.
    """

    number: int
    pictures: Any
    rate: Fraction | None
    aspect: Fraction | None
    sound: Any
    annexb: AnnexbFilter | None


@dataclass(frozen=True, slots=True)
class LivePacket:
    """One packet with its times on the stream's clock.

    Attributes:
        connection: Where it came from.
        packet: Of its own, so that it outlives the connection.
    """

    connection: Connection
    packet: Packet[Any]
