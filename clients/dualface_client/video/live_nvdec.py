"""NVDEC for a live stream: opened beside the CPU's decoder, which goes on until it is ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dualface_client.cuda.stream import CudaStream, load_codec
from dualface_client.types import ColorSpec
from dualface_client.video import nvdec_engine
from dualface_client.video.annexb import begins_anew, sequence_sets
from dualface_client.video.color import spec_of
from dualface_client.video.deinterlace import Picture
from dualface_client.video.device_frames import DeviceFrames
from dualface_client.video.ffmpeg import av, packet_of
from dualface_client.video.live_decoding import DeviceDecoderLostError, DevicePicture
from dualface_client.video.live_packet import Connection, LivePacket
from dualface_client.video.nvdec_engine import NO_PTS, first_line

#: Whose key frames can be told apart.
_CODECS = ("h264", "hevc")
#: Of the key frame that a decoder is tried with; the stream's own are not negative.
_TRIAL_PTS = -1
_CLOSE_TIMEOUT_S = 5.0
#: One at a time, as it holds up what the process's other streams give the GPU to do.
_OPENING = threading.Lock()
#: Pictures that a live stream soon holds.
_REHEARSED_PICTURES = 8


@dataclass(slots=True)
class _Opened:
    """A decoder for what a connection sends.

    Attributes:
        connection: The one.
        sets: Sequence parameter sets that it is for.
        color: Of the pictures.
        at_once: Whether pictures are shown in the order in which they are decoded.
        decoder: PyNvVideoCodec's.
    """

    connection: Connection
    sets: bytes
    color: ColorSpec
    at_once: bool
    decoder: Any = None


class LiveNvdec:
    """Decodes H.264 and HEVC for one live stream; a `DeviceDecoder`.

    Opening takes a tenth of a second and more, so that is done on a thread of its own, on which a
    key frame is decoded, too: the library allocates with the first one.
    """

    def __init__(self, stream: CudaStream, frames_limit: int) -> None:
        """Opens nothing yet.

        Args:
            stream: Where frames are decoded, and where every use of them must be queued.
            frames_limit: Frames that may be held at once.

        Raises:
            PlatformError: PyNvVideoCodec is missing.
        """
        self._cuda = stream
        self._frames_limit = frames_limit
        self._codec = load_codec()
        self._ring: DeviceFrames | None = None
        self._size_wh: tuple[int, int] | None = None
        self._why = "no key frame came that NVDEC could begin with"
        self._opened: _Opened | None = None
        self._opening: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def why(self) -> str:
        """Why it does not decode, empty if it does."""
        return self._why

    def can_begin(self, packet: LivePacket) -> bool:
        """Whether what follows a key frame needs nothing before it."""
        annexb = packet.connection.annexb
        return annexb.codec in _CODECS and begins_anew(
            packet.connection.annexb.whole(packet.packet), annexb.codec
        )

    def offer(self, key: LivePacket, first: Picture) -> None:
        """Begins to open a decoder, unless what is sent is nothing for NVDEC.

        Args:
            key: A key frame of the connection.
            first: A picture of it.
        """
        frame, annexb = first.frame, key.connection.annexb
        size_wh = frame.width, frame.height
        why = nvdec_engine.why_not(self._cuda, annexb.codec, frame, first.sample_aspect)
        if why is None and self._size_wh not in (None, size_wh):
            why = "its pictures have another size than the first ones"
        if why is not None:
            self._why = why
            return
        self._size_wh = size_wh
        data, at_once = annexb.whole(key.packet), not key.connection.pictures.reorder_depth
        sets = sequence_sets(data, annexb.codec)
        wanted = _Opened(key.connection, sets, spec_of(frame), at_once)
        self._opening = threading.Thread(
            target=self._open, args=(wanted, data), name="nvdec", daemon=True
        )
        self._opening.start()

    def is_ready(self, connection: Connection) -> bool:
        """Whether a decoder is open for what the connection sends."""
        return self._opened is not None and self._opened.connection is connection

    def goes_on(self, key: LivePacket) -> bool:
        """Whether the decoder that is open can take this key frame, too."""
        if self._opened is None or not self.is_ready(key.connection):
            return False
        sets = sequence_sets(key.connection.annexb.whole(key.packet), key.connection.annexb.codec)
        return sets in (b"", self._opened.sets)

    def decode(self, packet: LivePacket | None) -> list[DevicePicture]:
        """Pictures in order of presentation; None for those that it still holds, which ends it.

        Raises:
            DeviceDecoderLostError: It failed, and will not be ready again.
        """
        with self._lock:
            opened = self._opened
            if packet is None or self._closing.is_set():
                self._opened = None
            if opened is None or self._closing.is_set():
                return []
            try:
                return list(self._pictures(opened, packet))
            except self._codec.PyNvVCException as error:
                self._opened, self._why = None, f"NVDEC failed ({first_line(error)})"
                raise DeviceDecoderLostError(self._why) from error

    def close(self) -> None:
        """Ends; safe to call from any thread, and twice."""
        self._closing.set()
        if self._opening is not None:
            self._opening.join(_CLOSE_TIMEOUT_S)
        # A thread that decodes drops it itself.
        if self._lock.acquire(blocking=False):
            self._opened = None
            self._lock.release()

    def _open(self, wanted: _Opened, data: bytes) -> None:
        """Opens the decoder and has it decode a key frame."""
        try:
            with _OPENING:
                wanted.decoder = nvdec_engine.open_decoder(
                    self._cuda, wanted.connection.annexb.codec, at_once=wanted.at_once
                )
                self._surfaces(wanted, packet_of(data), _TRIAL_PTS)
                if self._ring is None and self._size_wh is not None:
                    self._ring = DeviceFrames(self._cuda, self._size_wh, self._frames_limit)
        except Exception as error:  # the CPU goes on, whatever the libraries raise
            self._why = f"NVDEC cannot be opened ({first_line(error)})"
            return
        self._opened, self._why = wanted, ""

    def _pictures(self, opened: _Opened, packet: LivePacket | None) -> Iterator[DevicePicture]:
        part = None if packet is None else packet_of(packet.connection.annexb.whole(packet.packet))
        ring = self._ring
        if ring is None or (part is not None and not part.size):
            return
        for surface in self._surfaces(opened, part, packet.packet.pts if packet else None):
            stamp = surface.timestamp
            if stamp == _TRIAL_PTS:
                continue
            rows, columns = surface.shape[:2]
            if (columns, rows * 2 // 3) != self._size_wh:
                self._opened, self._why = None, "the size of its pictures changed"
                raise DeviceDecoderLostError(self._why)
            image = ring.place(
                surface.GetPtrToPlane(0),
                opened.color,
                self._closing,
                sample_bytes=nvdec_engine.sample_bytes(surface),
            )
            if image is not None:
                yield DevicePicture(image, None if stamp == NO_PTS else stamp)

    def _surfaces(self, opened: _Opened, part: Any, pts: int | None) -> Any:
        data = nvdec_engine.packet_data(part, pts, is_picture=opened.at_once)
        return opened.decoder.Decode(data)


def rehearse(stream: CudaStream, size_wh: tuple[int, int]) -> None:
    """Has made what decoding makes the first time, before a camera sends anything.

    That is what the library loads and what the driver sets up for the engines. The pictures' memory
    stays with CuPy until a stream takes it.

    Args:
        stream: Of a live stream that is to be connected.
        size_wh: Width and height of its pictures, probably.

    Raises:
        Exception: Of PyAV, PyNvVideoCodec or CuPy; the stream itself will say what is wrong.
    """
    with _OPENING:
        decoder = nvdec_engine.open_decoder(stream, "h264", at_once=True)
        part = packet_of(black_key_frame(size_wh))
        surfaces = decoder.Decode(nvdec_engine.packet_data(part, 0, is_picture=True))
        ring, closing = DeviceFrames(stream, size_wh, _REHEARSED_PICTURES), threading.Event()
        address = surfaces[0].GetPtrToPlane(0)
        held = [ring.place(address, ColorSpec(), closing) for _ in range(_REHEARSED_PICTURES)]
        stream.finish()
        del held


def black_key_frame(size_wh: tuple[int, int]) -> bytes:
    """An H.264 stream of one picture, with start codes.

    Args:
        size_wh: Width and height, even.
    """
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height = size_wh
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    context.options = {"preset": "ultrafast"}
    frame = av.VideoFrame(*size_wh, "yuv420p")
    frame.pts = 0
    for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return b"".join(map(bytes, (*context.encode(frame), *context.encode(None))))
