"""Decodes what a live input sends: on the CPU at first, and on a device once that can take over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from dualface_client.errors import SourceError
from dualface_client.types import Nv12Image
from dualface_client.video.deinterlace import Deinterlacer, Picture
from dualface_client.video.ffmpeg import AV_ERRORS
from dualface_client.video.live_packet import Connection, LivePacket

_NO_ASPECT = Fraction(1)
#: Packets that a device decodes at once to catch up, in some ten milliseconds. Where it is ready
#: later than that, the next key frame brings fewer.
_CATCH_UP_LIMIT = 32


@dataclass(frozen=True, slots=True)
class DevicePicture:
    """A picture that a device has decoded, upright and of the first one's size.

    Attributes:
        image: In the device's memory.
        pts: Presentation time stamp on the stream's clock.
    """

    image: Nv12Image
    pts: int | None


class DeviceDecoderLostError(SourceError):
    """The device cannot decode this stream any more; the CPU can."""


class DeviceDecoder(Protocol):
    """What decodes for one live stream on a device; used by one thread but for `close`."""

    @property
    def why(self) -> str:
        """Why it does not decode, empty if it does."""

    def offer(self, key: LivePacket, first: Picture) -> None:
        """Begins to open a decoder for what a connection sends; does not wait for it.

        Args:
            key: A key frame of the connection.
            first: A picture of it.
        """

    def can_begin(self, packet: LivePacket) -> bool:
        """Whether what follows a key frame needs nothing before it."""

    def is_ready(self, connection: Connection) -> bool:
        """Whether a decoder is open for what the connection sends."""

    def goes_on(self, key: LivePacket) -> bool:
        """Whether the decoder that is open can take this key frame, too."""

    def decode(self, packet: LivePacket | None) -> list[DevicePicture]:
        """Pictures in order of presentation; None for those that it still holds, which ends it.

        Raises:
            DeviceDecoderLostError: It failed, and will not be ready again.
        """

    def close(self) -> None:
        """Ends; safe to call from any thread, and twice."""


class LiveDecoding:
    """The decoders of a live stream's connections, one after the other.

    The CPU decodes each connection's first pictures, which show what is sent. Once a device has
    opened a decoder for it, that one decodes all since the last key frame, and yields the pictures
    behind the last one of the CPU.

    Attributes:
        undecodable: Packets that could not be decoded, and pictures with damage.
    """

    def __init__(
        self, deinterlacer: Deinterlacer | None, device: DeviceDecoder | None = None
    ) -> None:
        """No connection yet.

        Args:
            deinterlacer: For pictures that the CPU decodes; None leaves them as they are.
            device: Takes over where it can; None for nothing.
        """
        self._deinterlacer = deinterlacer
        self._device = device
        self._connection: Connection | None = None
        self._is_on_device = self._began = False
        self._offered_wh: tuple[int, int] | None = None
        self._in_decoder = 0
        self._cpu_pts: int | None = None  # of the last picture that a device may decode again
        self._since_key: list[LivePacket] = []
        self.undecodable = 0

    @property
    def connection(self) -> Connection | None:
        """Whose pictures are yielded."""
        return self._connection

    def push(self, packet: LivePacket) -> Iterator[Picture | DevicePicture]:
        """Decodes a packet; yields the pictures that are ready, in order of presentation."""
        if packet.connection is not self._connection:
            yield from self.rest()
            self._begin(packet.connection)
        is_key = packet.packet.is_keyframe
        self._began = self._began or is_key
        if not self._began:
            self.undecodable += 1
            return
        if self._is_on_device and is_key and not self._goes_on(packet):
            yield from self.rest()
            self._to_cpu(packet.connection)
        if not self._is_on_device:
            self._keep(packet)
            if not self._may_move(packet.connection):
                yield from self._on_cpu(packet)
                return
            self._is_on_device = True
        yield from self._on_device(packet)

    def rest(self) -> Iterator[Picture | DevicePicture]:
        """What the decoder of a connection that has ended still holds."""
        if self._connection is None:
            return
        yield from self._on_device(None) if self._is_on_device else self._on_cpu(None)
        self.undecodable += self._in_decoder
        self._in_decoder = 0

    def _begin(self, connection: Connection) -> None:
        self._connection = connection
        self._is_on_device = self._began = False
        self._offered_wh, self._cpu_pts, self._since_key = None, None, []

    def _to_cpu(self, connection: Connection) -> None:
        connection.pictures.flush_buffers()
        self._is_on_device = False
        self._offered_wh, self._since_key = None, []

    def _goes_on(self, key: LivePacket) -> bool:
        return self._device is not None and self._device.goes_on(key)

    def _keep(self, packet: LivePacket) -> None:
        """Keeps what a device has to decode in order to take over, as far as it may."""
        if self._device is None:
            return
        if packet.packet.is_keyframe:
            self._since_key = [packet] if self._device.can_begin(packet) else []
        elif self._since_key:
            is_short = len(self._since_key) < _CATCH_UP_LIMIT
            self._since_key = [*self._since_key, packet] if is_short else []

    def _may_move(self, connection: Connection) -> bool:
        if self._device is None or not self._since_key or self._cpu_pts is None:
            return False
        return self._device.is_ready(connection)

    def _on_cpu(self, packet: LivePacket | None) -> Iterator[Picture]:
        connection = self._connection
        if connection is None:
            return
        self._in_decoder += packet is not None
        try:
            frames: list[Any] = connection.pictures.decode(packet and packet.packet)
        except AV_ERRORS:
            # Cameras repeat key frames every few seconds; until then a picture may show damage.
            self._lose(1)
            return
        for frame in frames:
            self._in_decoder = max(0, self._in_decoder - 1)
            if frame.is_corrupt:  # faces are found even in smears
                self.undecodable += 1
                continue
            pts = frame.pts if frame.pts is not None else frame.dts
            picture = Picture(frame, pts, 0, connection.aspect or _NO_ASPECT)
            self._offer(picture)
            shown = (picture,) if self._deinterlacer is None else self._deinterlacer.push(picture)
            for each in shown:
                self._cpu_pts = each.pts
                yield each

    def _offer(self, picture: Picture) -> None:
        """Offers what comes since the last key frame, once for each size of picture."""
        if self._device is None or not self._since_key:
            return
        key, size_wh = self._since_key[0], (picture.frame.width, picture.frame.height)
        if size_wh != self._offered_wh:
            self._offered_wh = size_wh
            self._device.offer(key, picture)

    def _on_device(self, packet: LivePacket | None) -> Iterator[DevicePicture]:
        """With what came since the last key frame, where the CPU has decoded that so far."""
        device = self._device
        if device is None:
            return
        packets: list[LivePacket | None] = [*self._since_key] or [packet]
        self._since_key = []
        self._in_decoder += packet is not None
        try:
            for each in packets:
                for picture in device.decode(each):
                    if self._was_shown(picture):
                        continue
                    self._in_decoder = max(0, self._in_decoder - 1)
                    yield picture
        except DeviceDecoderLostError:  # the device tells why; the CPU goes on
            self._lose(self._in_decoder)
            if self._connection is not None:
                self._to_cpu(self._connection)
            self._began = False

    def _was_shown(self, picture: DevicePicture) -> bool:
        """Whether the CPU has decoded it before the device took over."""
        if self._cpu_pts is None or picture.pts is None or picture.pts > self._cpu_pts:
            self._cpu_pts = None  # nor any later one
            return False
        return True

    def _lose(self, count: int) -> None:
        lost = min(count, self._in_decoder)
        self._in_decoder -= lost
        self.undecodable += lost
