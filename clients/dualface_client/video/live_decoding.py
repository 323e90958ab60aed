"""Decodes what a live input sends: on the CPU at first, and on a device once that can take over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from dualface_client.errors import SourceError
from dualface_client.types import ColorSpec, Nv12Image
from dualface_client.video.color import spec_of
from dualface_client.video.deinterlace import Deinterlacer, Picture
from dualface_client.video.ffmpeg import AV_ERRORS
from dualface_client.video.live_packet import Connection, LivePacket
from dualface_client.video.orientation import Orientation

_NO_ASPECT = Fraction(1)
#: Packets that a device decodes at once to catch up, in some ten milliseconds. Where it is ready
#: later than that, the next key frame brings fewer.
_CATCH_UP_LIMIT = 32


@dataclass(frozen=True, slots=True)
class DevicePicture:
    """A picture that a device has decoded.

    Attributes:
        image: In the device's memory.
        pts: Presentation time stamp on the stream's clock.
    """

    image: Nv12Image
    pts: int | None


class DeviceDecoderLostError(SourceError):
    """The device cannot go on with what it decodes; the CPU can, from the next key frame on."""


class DeviceDecoder(Protocol):
    """What decodes for one live stream on a device; used by one thread but for `close`."""

    @property
    def why(self) -> str:
        """Why it does not decode, empty if it does."""

    def takes(self, key: LivePacket) -> bool:
        """Whether it could begin with this key frame."""

    def watch(self, packet: LivePacket) -> None:
        """Looks at the times of a packet that the CPU decodes."""

    def offer(self, key: LivePacket, first: Picture) -> None:
        """Begins to open a decoder for what a key frame begins, if there is none yet.

        Args:
            key: One that it takes.
            first: A picture of the same kind.
        """

    def refuse(self, key: LivePacket, why: str) -> None:
        """Takes no key frame any more that begins the same as this one."""

    def is_ready(self, key: LivePacket) -> bool:
        """Whether a decoder is open for what a key frame begins."""

    def decode(self, packet: LivePacket | None) -> list[DevicePicture]:
        """Pictures in order of presentation; None for those that it still holds, which ends it.

        Raises:
            DeviceDecoderLostError: It cannot go on.
        """

    def close(self) -> None:
        """Ends; safe to call from any thread, and twice."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What all pictures of a stream that a device decodes have in common."""

    size_wh: tuple[int, int]
    sample_aspect: Fraction
    orientation: Orientation
    color: ColorSpec

    @classmethod
    def of(cls, picture: Picture) -> _Look:
        frame = picture.frame
        size_wh = frame.width, frame.height
        return cls(size_wh, picture.sample_aspect, Orientation.of(frame), spec_of(frame))


class _Group:
    """The packets since a key frame, and which of their pictures the CPU has shown.

    Times say which, where they rise as they should. Where they step back or repeat, pictures are
    counted, which is wrong where the CPU has lost one without a word.
    """

    def __init__(self, key: LivePacket, before: _Group | None, owed: int, *, is_kept: bool) -> None:
        """Begins with a key frame.

        Args:
            key: The key frame.
            before: The group before it on the same connection.
            owed: Pictures from before it that the CPU has not shown.
            is_kept: Whether the packets are kept.
        """
        self._key_pts = key.packet.pts
        self._owed, self._shown = owed, 0
        self._shown_pts: int | None = None
        self._is_past = False  # a device's pictures
        self._stamps: set[int] = set()
        self._latest: tuple[int, int] = (-1, -1) if before is None else before._latest  # PTS, DTS
        self.latest_pts: int = -1 if before is None else before.latest_pts
        self._tells_by_time = self._key_pts is not None and self._key_pts > self.latest_pts
        self._packets: list[LivePacket] = []
        self._is_kept = is_kept
        self.add(key)

    @property
    def packets(self) -> list[LivePacket]:
        """What a device has to decode, empty where that is not known or too much."""
        return self._packets

    @property
    def has_begun(self) -> bool:
        """Whether the CPU has shown a picture of it, and so all from before it."""
        return self._shown > 0 and (self._tells_by_time or not self._owed)

    def add(self, packet: LivePacket) -> None:
        """One more packet."""
        pts, dts = packet.packet.pts, packet.packet.dts
        if pts is None or len(self._packets) == _CATCH_UP_LIMIT:
            self.forget()
        if pts is None:
            return
        is_back = dts is None or (dts < self._latest[1] and pts < self._latest[0])
        if is_back or pts in self._stamps or pts < (self._key_pts or 0):
            self._tells_by_time = False
        self._latest = pts, dts or 0
        self.latest_pts = max(self.latest_pts, pts)
        if self._is_kept:
            self._stamps.add(pts)
            self._packets.append(packet)

    def forget(self) -> None:
        """Keeps nothing until the next key frame."""
        self._is_kept = False
        self._packets, self._stamps = [], set()

    def decoded(self, pts: int | None) -> bool:
        """Notes the CPU's next picture; returns whether it is of this group."""
        if self._tells_by_time and pts is not None and self._key_pts is not None:
            is_own = pts >= self._key_pts
        else:
            is_own = not self._owed
        self._owed -= self._owed > 0 and not is_own
        self._shown += is_own
        self._shown_pts = pts if is_own else self._shown_pts
        return is_own

    def unseen(self, pictures: list[DevicePicture]) -> list[DevicePicture]:
        """Those of a device's next pictures that the CPU has not shown."""
        first = 0
        while not self._is_past and first < len(pictures):
            self._is_past = not self._is_seen(pictures[first])
            first += not self._is_past
        return pictures[first:]

    def _is_seen(self, picture: DevicePicture) -> bool:
        if self._tells_by_time and picture.pts is not None and self._shown_pts is not None:
            return picture.pts <= self._shown_pts
        self._shown -= 1
        return self._shown >= 0


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
        self._first_look: _Look | None = None
        self._is_on_device = self._began = self._is_offered = False
        self._in_decoder = 0
        self._group: _Group | None = None
        self.undecodable = 0

    @property
    def connection(self) -> Connection | None:
        """Whose pictures are yielded."""
        return self._connection

    def push(self, packet: LivePacket) -> Iterator[Picture | DevicePicture]:
        """Decodes a packet; yields the pictures that are ready, in order of presentation."""
        if packet.connection is not self._connection:
            yield from self.rest()
            self._connection, self._began = packet.connection, False
            self._to_cpu()
        is_key = packet.packet.is_keyframe
        if self._is_on_device and is_key and not self._stays(packet):
            yield from self.rest()
            self._to_cpu()
        self._began = self._began or is_key
        if not self._began:
            self.undecodable += 1
        elif self._is_on_device:
            yield from self._on_device(packet)
        else:
            self._keep(packet)
            caught_up = self._caught_up()
            if caught_up is None:
                yield from self._on_cpu(packet)
            else:
                yield from self._deinterlaced_rest()
                yield from caught_up

    def rest(self) -> Iterator[Picture | DevicePicture]:
        """What the decoder of a connection that has ended still holds."""
        if self._connection is None:
            return
        yield from self._on_device(None) if self._is_on_device else self._on_cpu(None)
        yield from self._deinterlaced_rest()
        self.undecodable += self._in_decoder
        self._in_decoder = 0

    def _to_cpu(self) -> None:
        self._is_on_device = False
        self._group = None

    def _stays(self, key: LivePacket) -> bool:
        return self._device is not None and self._device.is_ready(key)

    def _keep(self, packet: LivePacket) -> None:
        """Keeps what a device has to decode in order to take over, as far as it may."""
        if self._device is None:
            return
        self._device.watch(packet)
        if packet.packet.is_keyframe:
            self._is_offered, is_kept = False, self._device.takes(packet)
            self._group = _Group(packet, self._group, self._in_decoder, is_kept=is_kept)
        elif self._group is not None:
            self._group.add(packet)

    def _caught_up(self) -> list[DevicePicture] | None:
        """Has a device that is ready decode what was kept; None if the CPU goes on."""
        device, group = self._device, self._group
        # Before that, the CPU holds pictures from before the key frame, which nobody else has.
        if device is None or group is None or not group.packets or not group.has_begun:
            return None
        if not device.is_ready(group.packets[0]):
            return None
        found: list[DevicePicture] = []
        try:
            for packet in group.packets:
                found += group.unseen(device.decode(packet))
        except DeviceDecoderLostError:  # nothing is lost: the CPU has all but the last packet
            group.forget()
            return None
        group.forget()
        self._is_on_device = True
        self._in_decoder = max(0, self._in_decoder + 1 - len(found))
        if self._connection is not None:
            self._connection.pictures.flush_buffers()
        return found

    def _deinterlaced_rest(self) -> Iterator[Picture]:
        """A picture that waited for a later one of the CPU."""
        if self._deinterlacer is not None:
            yield from self._deinterlacer.flush()

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
            self._forget()
            return
        for frame in frames:
            self._in_decoder = max(0, self._in_decoder - 1)
            pts = frame.pts if frame.pts is not None else frame.dts
            is_of_group = self._group is not None and self._group.decoded(pts)
            if frame.is_corrupt:  # faces are found even in smears
                self.undecodable += 1
                self._forget()
                continue
            picture = Picture(frame, pts, 0, connection.aspect or _NO_ASPECT)
            self._offer(picture, is_of_group=is_of_group)
            if self._deinterlacer is None:
                yield picture
            else:
                yield from self._deinterlacer.push(picture)

    def _offer(self, picture: Picture, *, is_of_group: bool) -> None:
        """Offers what comes since the last key frame, once, where it looks like the first one."""
        if self._device is None:
            return
        self._first_look = self._first_look or _Look.of(picture)
        group = self._group
        if group is None or not group.packets or self._is_offered or not is_of_group:
            return
        key, look, self._is_offered = group.packets[0], _Look.of(picture), True
        if look == self._first_look:
            self._device.offer(key, picture)
        else:
            why = "its pictures have another size, shape or colour than the stream's first ones"
            self._device.refuse(key, why)

    def _on_device(self, packet: LivePacket | None) -> Iterator[DevicePicture]:
        if self._device is None:
            return
        self._in_decoder += packet is not None
        try:
            found = self._device.decode(packet)
        except DeviceDecoderLostError:  # the device tells why; the CPU goes on
            self._lose(self._in_decoder)
            self._to_cpu()
            self._began = False
            return
        for picture in found if self._group is None else self._group.unseen(found):
            self._in_decoder = max(0, self._in_decoder - 1)
            yield picture

    def _forget(self) -> None:
        if self._group is not None:
            self._group.forget()

    def _lose(self, count: int) -> None:
        lost = min(count, self._in_decoder)
        self._in_decoder -= lost
        self.undecodable += lost
