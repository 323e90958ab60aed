"""H.264 on NVENC: composed canvases go from GPU memory to packets; PyAV writes the file.

The engine is reached through PyNvVideoCodec 2.2.4, which ignores options it does not know. Every
option is therefore checked against the names that its binary reads.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualface_client.cuda.stream import CudaStream, load_codec
from dualface_client.errors import EncoderError, PlatformError, SinkError, UsageError
from dualface_client.types import Frame, Nv12Image, VideoInfo
from dualface_client.video.annexb import ColorMarker, DecodeStamps
from dualface_client.video.color import ColorTags
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.ffmpeg import packet_of, ticks
from dualface_client.video.sink import PyavSink

if TYPE_CHECKING:
    from av.packet import Packet

#: Keyword arguments that `CreateEncoder` of PyNvVideoCodec 2.2.4 reads: the names in its binary and
#: in the JSON files of its samples.
ACCEPTED_OPTIONS = frozenset(
    {
        "cudacontext",
        "cudastream",
        "gpu_id",
        "codec",
        "preset",
        "tuning_info",
        "rc",
        "bitrate",
        "maxbitrate",
        "vbvbufsize",
        "vbvinit",
        "gop",
        "idrperiod",
        "bf",
        "fps",
        "cq",
        "constqp",
        "qmin",
        "qmax",
        "initqp",
        "multipass",
        "lookahead",
        "aq",
        "temporalaq",
        "ldkfs",
        "numrefl0",
        "numrefl1",
        "repeatspspps",
        "colorspace",
        "max_res",
        "slice",
        "timinginfo",
        "level",
        "tier",
    }
)
#: Values that are words; the library silently replaces another spelling by a default.
ACCEPTED_VALUES = {
    "codec": frozenset({"h264", "hevc", "av1"}),
    "preset": frozenset(f"P{n}" for n in range(1, 8)),
    "tuning_info": frozenset(
        {"high_quality", "low_latency", "ultra_low_latency", "lossless", "uhq"}
    ),
    "rc": frozenset({"cbr", "vbr", "constqp"}),
}
_IDR = 3  # NV_ENC_PIC_TYPE_IDR of nvEncodeAPI.h
_GOP_S = 2
_FALLBACK_RATE = Fraction(25)
_BITS_PER_PIXEL = 0.13  # 8 Mbit/s for 1080p at 30 pictures a second


def encoder_options(wh_px: tuple[int, int], rate: Fraction) -> dict[str, str | int]:
    """The encoder's options: no B-frames, so that decoding order is presentation order.

    Args:
        wh_px: Canvas width and height.
        rate: Pictures per second.
    """
    bit_rate = round(wh_px[0] * wh_px[1] * float(rate) * _BITS_PER_PIXEL)
    gop = max(1, round(_GOP_S * rate))
    return {
        "codec": "h264",
        "preset": "P4",
        "tuning_info": "high_quality",
        "rc": "vbr",
        "bitrate": bit_rate,
        "maxbitrate": 2 * bit_rate,
        "gop": gop,
        "idrperiod": gop,
        "bf": 0,
        "repeatspspps": 1,
        # As a ratio: 29.97 would become 2997/100.
        "fps": f"{rate.numerator}/{rate.denominator}",
    }


def check_options(options: dict[str, str | int]) -> None:
    """Refuses what the library would silently ignore.

    Raises:
        UsageError: An option or its value is unknown.
    """
    for name, value in options.items():
        if name not in ACCEPTED_OPTIONS:
            raise UsageError(f"NVENC option {name!r} is unknown to PyNvVideoCodec 2.2.4")
        expected = ACCEPTED_VALUES.get(name)
        if expected is not None and value not in expected:
            raise UsageError(
                f"NVENC option {name}={value!r}: expected one of {', '.join(sorted(expected))}"
            )


class DeviceCanvas:
    """A canvas as PyNvVideoCodec takes it: one CUDA array per plane, in one piece of memory."""

    def __init__(self, image: Nv12Image) -> None:
        """Wraps a canvas of `CudaImaging.compose`.

        Raises:
            SinkError: The chroma does not follow the luma: the library would read past it.
        """
        y, uv = image.y, image.uv
        if uv.data.ptr != y.data.ptr + y.size or y.strides != (y.shape[1], 1):
            raise SinkError("NVENC needs the two planes of a canvas one after the other")
        self._planes = [y.reshape(*y.shape, 1), uv]

    def cuda(self) -> list[Any]:
        """The planes, shapes `(height, width, 1)` and `(height / 2, width / 2, 2)`."""
        return self._planes


#: Takes a canvas, or None at the end; gives `(bytes, display index, picture type)` per packet.
Encode = Callable[[Nv12Image | None], list[tuple[bytes, int, int]]]


class PacketStream:
    """PyAV's `encode` for an encoder that yields bare Annex-B packets in decoding order."""

    def __init__(
        self, stream: Any, encode: Encode, marker: ColorMarker, reorder_depth: int, step: int
    ) -> None:
        """Joins an encoder to an output stream.

        Args:
            stream: Made by `add_mux_stream`.
            encode: The encoder.
            marker: Inserts the colour tags.
            reorder_depth: See `DecodeStamps`.
            step: Time base units from one picture to the next.
        """
        self._stream = stream
        self._encode = encode
        self._marker = marker
        self._decode_stamps = DecodeStamps(reorder_depth, step)
        self._stamps: dict[int, int] = {}  # display index to PTS, of pictures inside the encoder
        self._count = 0

    def encode(self, picture: tuple[Nv12Image, int] | None) -> list[Packet[Any]]:
        """Packets that are ready.

        Args:
            picture: Canvas and PTS, None to drain the encoder.
        """
        image = None
        if picture is not None:
            image, pts = picture
            self._stamps[self._count] = pts
            self._count += 1
            self._decode_stamps.shown(pts)
        found = []
        for data, index, picture_type in self._encode(image):
            found.extend(self._marker.push(self._packet(data, index, picture_type)))
        for packet in found:
            packet.stream = self._stream
        return found

    def _packet(self, data: bytes, index: int, picture_type: int) -> Packet[Any]:
        packet = packet_of(data)
        packet.time_base = self._stream.time_base
        packet.pts, packet.dts = self._stamps.pop(index), self._decode_stamps.next()
        packet.is_keyframe = picture_type == _IDR
        return packet


class NvencSink(PyavSink):
    """Like `PyavSink`, with NVENC instead of x264; takes canvases in GPU memory."""

    def __init__(
        self,
        path: str | Path,
        info: VideoInfo,
        layout_wh_px: tuple[int, int],
        encode: Encode,
        *,
        audio_from: str | Path | None = None,
        audio: str = "copy",
        overwrite: bool = False,
        disk_wait: DiskWait | None = None,
    ) -> None:
        """Creates the partial file.

        Args:
            path: The output; its suffix selects the container.
            info: The source's frame rate, time base and colour.
            layout_wh_px: Width and height of the canvases, even.
            encode: From `nvenc`, for canvases of this size at this rate.
            audio_from: The file whose sound is used, None for a silent output.
            audio: What happens to it: `copy`, `transcode` or `drop`; see `AudioCopy`.
            overwrite: Whether an existing output is replaced.
            disk_wait: Patience with a full disk, None for none.

        Raises:
            SinkError: The output cannot be created.
            UsageError: The output exists, or it is the input.
        """
        self._encode_canvas = encode
        super().__init__(
            path,
            info,
            layout_wh_px,
            audio_from=audio_from,
            audio=audio,
            overwrite=overwrite,
            disk_wait=disk_wait,
        )

    def write(self, frame: Frame) -> None:
        """Encodes one device canvas; as `PyavSink.write`."""
        self._check_frame(frame)
        if not self._frame_count:
            self._place_origin(frame)
        self._frame_count += 1
        pts = frame.pts - self._shift
        self._durations[pts] = frame.duration or self._step
        encoder: Any = self._stream
        super()._encode(lambda: encoder.encode((frame.image, pts)))

    def _add_video(self, info: VideoInfo, options: dict[str, str], threads: int) -> Any:
        del options, threads  # x264's
        assert self._container is not None  # noqa: S101 - the constructor opened it
        return packet_stream(self._container, info, self._wh, self._encode_canvas)


def packet_stream(
    container: Any,
    info: VideoInfo,
    wh_px: tuple[int, int],
    encode: Encode,
    *,
    reorder_depth: int = 0,
) -> PacketStream:
    """Adds an H.264 stream of finished packets to a container.

    Args:
        container: PyAV output.
        info: The source's frame rate, time base and colour.
        wh_px: Width and height.
        encode: The encoder.
        reorder_depth: See `DecodeStamps`.
    """
    rate = info.frame_rate or _FALLBACK_RATE
    stream = container.add_mux_stream("h264", rate=rate, width=wh_px[0], height=wh_px[1])
    stream.time_base = info.time_base
    tags = ColorTags(info.primaries, info.transfer).filled(info.color.matrix)
    marker = ColorMarker(stream, info.color, tags)
    step = ticks(1 / rate, info.time_base)
    return PacketStream(stream, encode, marker, reorder_depth, step)


def nvenc(wh_px: tuple[int, int], rate: Fraction | None, stream: CudaStream) -> Encode:
    """Opens an encoder session.

    Args:
        wh_px: Canvas width and height.
        rate: Pictures per second, None if unknown.
        stream: Where the canvases are composed; the encoder reads them in its order.

    Raises:
        PlatformError: There is no NVENC, or no free session: encode with x264.
    """
    codec = load_codec()
    options = encoder_options(wh_px, rate or _FALLBACK_RATE)
    check_options(options)
    with stream:
        context = stream.cupy.cuda.driver.ctxGetCurrent()
        try:
            session = codec.CreateEncoder(
                *wh_px,
                "NV12",
                False,
                gpu_id=stream.device_id,
                cudacontext=context,
                cudastream=stream.handle,
                **options,
            )
        except codec.PyNvVCException as error:
            raise PlatformError(
                f"GPU {stream.device_id} offers no NVENC session ({_reason(error)}): it has no "
                "encoder (A100, H100, H200) or all sessions are taken; encode with x264"
            ) from error
    return encoder_of(session, codec.PyNvVCException)


def encoder_of(session: Any, failure: type[Exception]) -> Encode:
    """What encodes canvases one after the other.

    Args:
        session: As PyNvVideoCodec's.
        failure: What it raises.
    """

    def encode(image: Nv12Image | None) -> list[tuple[bytes, int, int]]:
        try:
            packets = session.EndEncode() if image is None else session.Encode(DeviceCanvas(image))
        except failure as error:
            raise EncoderError(f"NVENC failed ({_reason(error)})") from error
        return [(p["data"], p["timestamp"], p["picture_type"]) for p in packets]

    return encode


def _reason(error: Exception) -> str:
    """PyNvVideoCodec's message in one line."""
    return " ".join(str(error).split())[:300]
