"""A device's decoder for a live stream, opened beside the CPU's, which goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dualface_client.video.annexb import begins_anew, sequence_sets
from dualface_client.video.deinterlace import Picture
from dualface_client.video.ffmpeg import packet_of
from dualface_client.video.live_decoding import DeviceDecoderLostError, DevicePicture
from dualface_client.video.live_packet import Connection, LivePacket

if TYPE_CHECKING:
    from av.packet import Packet

#: Whose key frames can be told apart.
_CODECS = ("h264", "hevc")
#: Of the key frame that a decoder is tried with; the stream's own are not negative.
_TRIAL_PTS = -1
_CLOSE_TIMEOUT_S = 5.0
_POLL_S = 0.1
#: One at a time, as it holds up what the process's other streams give the device to do.
_OPENING = threading.Lock()


class EngineDecoder(Protocol):
    """A decoder of a device."""

    def decode(self, part: Packet[Any] | None, pts: int | None) -> list[DevicePicture]:
        """Pictures in order of presentation.

        Args:
            part: Annex-B packet; None for the end.
            pts: Presentation time stamp of its picture.

        Raises:
            DeviceDecoderLostError: It failed.
        """


class Engine(Protocol):
    """What opens decoders; safe to use from several threads."""

    def why_not(self, codec: str, first: Picture) -> str | None:
        """Why it cannot decode pictures like this one, None if it can."""

    def open(self, codec: str, first: Picture, *, at_once: bool) -> EngineDecoder:
        """Opens a decoder.

        Args:
            codec: FFmpeg's name.
            first: A picture of the stream, all of which look like it.
            at_once: Whether pictures are shown in the order in which they are decoded.

        Raises:
            Exception: It cannot be opened.
        """

    def close(self) -> None:
        """Ends every wait for memory."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a decoder is for.

    Attributes:
        connection: Whose packets it decodes.
        sets: Their sequence parameter sets.
        at_once: Whether pictures are shown in the order in which they are decoded.
    """

    connection: Connection
    sets: bytes
    at_once: bool


class LiveDevice:
    """Decodes H.264 and HEVC for one live stream; a `DeviceDecoder`.

    Opening takes a tenth of a second and more, so that is done on a thread of its own, on which a
    key frame is decoded, too: a library allocates with the first one.

    Args:
        engine: Opens the decoders; closed with this.
        tell: Hears why the CPU decodes, where that will not be over soon.
    """

    def __init__(self, engine: Engine, tell: Callable[[str], None] = lambda why: None) -> None:
        self._engine = engine
        self._tell = tell
        self._why = "no key frame came"
        self._wanted: _Wanted | None = None  # the latest, open or not
        self._opened: tuple[_Wanted, EngineDecoder] | None = None
        self._openings: list[threading.Thread] = []
        self._refused: tuple[Connection, bytes] | None = None
        self._failed: Connection | None = None
        self._reordered: Connection | None = None
        self._latest: tuple[Connection, int, int] | None = None  # PTS and DTS
        self._examined: tuple[LivePacket, bytes] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def why(self) -> str:
        """Why it does not decode, empty if it does."""
        return self._why

    def takes(self, key: LivePacket) -> bool:
        """Whether it could begin with this key frame."""
        annexb, data = key.connection.annexb, self._whole(key)
        if key.connection is self._failed or (key.connection, self._sets(key)) == self._refused:
            return False
        if annexb is None:
            self._let_go("its header makes no sense")
        elif annexb.codec not in _CODECS:
            self._let_go(f"codec {annexb.codec}")
        elif data and not (self._sets(key) and begins_anew(data, annexb.codec)):
            self._let_go("its key frames are not pictures that a decoder can begin with (IDR)")
        else:
            return bool(data)
        return False

    def watch(self, packet: LivePacket) -> None:
        """Looks whether pictures are shown in another order than they are decoded in."""
        pts, dts = packet.packet.pts, packet.packet.dts
        if pts is None or dts is None:
            return
        if self._latest is not None and self._latest[0] is packet.connection:
            _, latest_pts, latest_dts = self._latest
            if pts < latest_pts and dts > latest_dts:
                self._reordered = packet.connection
            pts = max(pts, latest_pts) if dts > latest_dts else pts
        self._latest = packet.connection, pts, dts

    def offer(self, key: LivePacket, first: Picture) -> None:
        """Begins to open a decoder for what a key frame begins, if there is none yet.

        Args:
            key: One that it takes.
            first: A picture of the same kind.
        """
        connection = key.connection
        is_reordered = connection.pictures.reorder_depth or connection is self._reordered
        wanted = _Wanted(connection, self._sets(key), at_once=not is_reordered)
        if wanted == self._wanted or connection.annexb is None:
            return
        codec = connection.annexb.codec
        if why := self._engine.why_not(codec, first):
            self.refuse(key, why)
            return
        with self._lock:
            self._opened, self._wanted, self._why = None, wanted, "its decoder is not open yet"
        opening = threading.Thread(
            target=self._open, args=(wanted, first, self._whole(key)), name="open", daemon=True
        )
        self._openings = [*(each for each in self._openings if each.is_alive()), opening]
        opening.start()

    def refuse(self, key: LivePacket, why: str) -> None:
        """Takes no key frame any more that begins the same as this one."""
        self._refused = key.connection, self._sets(key)
        self._let_go(why)

    def is_ready(self, key: LivePacket) -> bool:
        """Whether a decoder is open for what a key frame begins."""
        opened = self._opened
        if opened is None or opened[0].connection is not key.connection:
            return False
        is_out_of_order = opened[0].at_once and key.connection is self._reordered
        return not is_out_of_order and self._sets(key) in (b"", opened[0].sets)

    def decode(self, packet: LivePacket | None) -> list[DevicePicture]:
        """Pictures in order of presentation; None for those that it still holds, which ends it.

        Raises:
            DeviceDecoderLostError: It failed, or the packet is damaged.
        """
        with self._lock:
            opened = self._opened
            if packet is None or self._closing.is_set():
                self._opened = self._wanted = None
            if opened is None or self._closing.is_set():
                return []
            try:
                pictures = self._decoded(opened[1], packet)
            except DeviceDecoderLostError as error:
                self._opened = self._wanted = None
                self._say(str(error))
                raise
            if self._closing.is_set():
                self._opened = None
        return [each for each in pictures if each.pts is None or each.pts > _TRIAL_PTS]

    def close(self) -> None:
        """Ends; safe to call from any thread, and twice."""
        self._closing.set()
        self._engine.close()
        for opening in self._openings:
            opening.join(_CLOSE_TIMEOUT_S)
        # A thread that decodes drops it itself.
        if self._lock.acquire(blocking=False):
            self._opened = None
            self._lock.release()

    def _let_go(self, why: str) -> None:
        """Of what is open, or will be."""
        with self._lock:
            self._opened = self._wanted = None
            self._say(why)

    def _say(self, why: str) -> None:
        if why != self._why:
            self._why = why
            self._tell(why)

    def _open(self, wanted: _Wanted, first: Picture, data: bytes) -> None:
        """Opens the decoder and has it decode a key frame."""
        while not _OPENING.acquire(timeout=_POLL_S):
            if not self._is_wanted(wanted):
                return
        try:
            if not self._is_wanted(wanted) or wanted.connection.annexb is None:
                return
            codec = wanted.connection.annexb.codec
            decoder = self._engine.open(codec, first, at_once=wanted.at_once)
            decoder.decode(packet_of(data), _TRIAL_PTS)
        except Exception as error:  # the CPU goes on, whatever a library raises
            with self._lock:
                if self._is_wanted(wanted):  # and so is not tried again
                    self._say(f"no decoder could be opened ({error})")
            return
        finally:
            _OPENING.release()
        with self._lock:
            if self._is_wanted(wanted):
                self._opened, self._why = (wanted, decoder), ""

    def _is_wanted(self, wanted: _Wanted) -> bool:
        return self._wanted is wanted and not self._closing.is_set()

    def _decoded(self, decoder: EngineDecoder, packet: LivePacket | None) -> list[DevicePicture]:
        if packet is None:
            return decoder.decode(None, None)
        self.watch(packet)
        data = self._whole(packet)
        if not data:
            raise DeviceDecoderLostError("a packet was damaged")
        try:
            return decoder.decode(packet_of(data), packet.packet.pts)
        except DeviceDecoderLostError:
            self._failed = packet.connection
            raise

    def _whole(self, packet: LivePacket) -> bytes:
        """A packet's bytes; those of the last key frame are kept, as they are needed again."""
        if self._examined is not None and self._examined[0] is packet:
            return self._examined[1]
        annexb = packet.connection.annexb
        data = b"" if annexb is None else annexb.whole(packet.packet)
        if packet.packet.is_keyframe:
            self._examined = packet, data
        return data

    def _sets(self, key: LivePacket) -> bytes:
        annexb = key.connection.annexb
        return b"" if annexb is None else sequence_sets(self._whole(key), annexb.codec)
