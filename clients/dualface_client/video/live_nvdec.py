"""NVDEC for live streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from dualface_client.cuda.stream import CudaStream
from dualface_client.types import ColorSpec
from dualface_client.video import nvdec_engine
from dualface_client.video.color import TRANSFERS_HDR, spec_of
from dualface_client.video.deinterlace import Picture
from dualface_client.video.device_frames import DeviceFrames
from dualface_client.video.ffmpeg import av, packet_of
from dualface_client.video.live_decoding import DeviceDecoderLostError, DevicePicture
from dualface_client.video.nvdec_engine import NO_PTS, first_line
from dualface_client.video.orientation import Orientation

#: Pictures that a live stream soon holds.
_REHEARSED_PICTURES = 8


class NvdecEngine:
    """Opens decoders for one live stream; a `live_device.Engine`."""

    def __init__(self, stream: CudaStream, frames_limit: int) -> None:
        """Opens nothing yet.

        Args:
            stream: Where frames are decoded, and where every use of them must be queued.
            frames_limit: Frames that may be held at once.
        """
        self._cuda = stream
        self._frames_limit = frames_limit
        self._ring: DeviceFrames | None = None
        self._closing = threading.Event()

    def why_not(self, codec: str, first: Picture) -> str | None:
        """Why NVDEC cannot decode pictures like this one, None if it can."""
        if turned := str(Orientation.of(first.frame)):
            return f"pictures that are {turned}"
        # Frames of its memory are not tone-mapped, and would be washed out.
        if name := TRANSFERS_HDR.get(first.frame.color_trc):
            return f"HDR ({name}), which the CPU tone-maps"
        return nvdec_engine.why_not(self._cuda, codec, first.frame, first.sample_aspect)

    def open(self, codec: str, first: Picture, *, at_once: bool) -> NvdecDecoder:
        """Opens a decoder.

        Args:
            codec: FFmpeg's name.
            first: A picture of the stream; of the same size each time.
            at_once: Whether pictures are shown in the order in which they are decoded.

        Raises:
            Exception: `PyNvVCException` of the library, and what CuPy raises.
        """
        decoder = nvdec_engine.open_decoder(self._cuda, codec, at_once=at_once)
        size_wh = first.frame.width, first.frame.height
        if self._ring is None:
            self._ring = DeviceFrames(self._cuda, size_wh, self._frames_limit)
        color = spec_of(first.frame)
        return NvdecDecoder(decoder, self._ring, size_wh, color, self._closing, at_once=at_once)

    def close(self) -> None:
        """Ends every wait for a picture's memory."""
        self._closing.set()


class NvdecDecoder:
    """One of PyNvVideoCodec's decoders; a `live_device.EngineDecoder`."""

    def __init__(
        self,
        decoder: Any,
        ring: DeviceFrames,
        size_wh: tuple[int, int],
        color: ColorSpec,
        closing: threading.Event,
        *,
        at_once: bool,
    ) -> None:
        """Made by `NvdecEngine` only."""
        self._decoder, self._ring, self._closing = decoder, ring, closing
        self._size_wh, self._color, self._at_once = size_wh, color, at_once

    def decode(self, part: Any, pts: int | None) -> list[DevicePicture]:
        """Pictures in order of presentation.

        Args:
            part: Annex-B packet; None for the end.
            pts: Presentation time stamp of its picture.

        Raises:
            DeviceDecoderLostError: NVDEC failed, or its pictures have another size.
            Exception: CuPy's, if the GPU's memory is full.
            SourceError: All pictures were held for a minute.
        """
        data = nvdec_engine.packet_data(part, pts, is_picture=self._at_once)
        try:
            return list(self._pictures(self._decoder.Decode(data)))
        except nvdec_engine.library().PyNvVCException as error:
            raise DeviceDecoderLostError(f"NVDEC failed ({first_line(error)})") from error

    def _pictures(self, surfaces: Any) -> Iterator[DevicePicture]:
        for surface in surfaces:
            rows, columns = surface.shape[:2]
            if (columns, rows * 2 // 3) != self._size_wh:
                raise DeviceDecoderLostError("NVDEC's pictures have another size than FFmpeg's")
            image = self._ring.place(
                surface.GetPtrToPlane(0),
                self._color,
                self._closing,
                sample_bytes=nvdec_engine.sample_bytes(surface),
            )
            if image is not None:
                stamp = surface.timestamp
                yield DevicePicture(image, None if stamp == NO_PTS else stamp)


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
