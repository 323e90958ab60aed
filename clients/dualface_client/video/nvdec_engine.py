"""NVDEC through PyNvVideoCodec's core decoder: what it takes, opening it, handing packets to it."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from dualface_client.cuda.stream import CudaStream, load_codec
from dualface_client.errors import PlatformError
from dualface_client.video.nvcuvid import decoder_caps

if TYPE_CHECKING:
    import av

#: What it calls the codecs that FFmpeg names so.
_CODECS = {"h264": "H264", "hevc": "HEVC", "av1": "AV1", "libdav1d": "AV1"}
_BIT_DEPTHS = {"yuv420p": 8, "yuvj420p": 8, "nv12": 8, "yuv420p10le": 10, "p010le": 10}
NO_PTS = -(1 << 63)  # AV_NOPTS_VALUE


@cache
def library() -> Any:
    """PyNvVideoCodec; every picture asks for it.

    Raises:
        PlatformError: It is missing.
    """
    return load_codec()


def why_not(
    stream: CudaStream, codec: str, first: av.VideoFrame, sample_aspect: Fraction
) -> str | None:
    """What keeps NVDEC from decoding a video here, None for nothing.

    Args:
        stream: Of the GPU.
        codec: FFmpeg's name.
        first: A picture of the video.
        sample_aspect: Width over height of a sample.
    """
    name, depth = _CODECS.get(codec), _BIT_DEPTHS.get(first.format.name)
    reasons = (
        (name is None, f"codec {codec}"),
        (depth is None, f"pixel format {first.format.name}"),
        (bool(first.width % 2 or first.height % 2), f"odd size {first.width}x{first.height}"),
        (sample_aspect != 1, "samples that are not square"),
        (bool(first.interlaced_frame), "interlaced pictures"),
    )
    for applies, reason in reasons:
        if applies:
            return reason
    return _why_not_on_engine(stream, str(name), depth or 8, (first.width, first.height))


def _why_not_on_engine(
    stream: CudaStream, codec: str, depth: int, size_wh: tuple[int, int]
) -> str | None:
    try:
        caps = decoder_caps(stream, codec, depth)
    except PlatformError as error:
        return str(error)
    if not caps.is_supported:
        return f"this GPU has no {codec} decoder for {depth} bit"
    if not caps.takes(*size_wh):
        return f"{size_wh[0]}x{size_wh[1]} is not a size of this GPU's {codec} decoder"
    return None


def open_decoder(stream: CudaStream, codec: str, *, at_once: bool = False) -> Any:
    """PyNvVideoCodec's core decoder.

    Args:
        stream: Where it decodes.
        codec: FFmpeg's name, one that `why_not` finds nothing against.
        at_once: Whether pictures come with their packets; only for those that are shown in the
            order in which they are decoded.

    Raises:
        Exception: `PyNvVCException` of the library.
    """
    latency = library().DisplayDecodeLatencyType
    with stream:
        # Without the context, the library refuses CuPy's stream.
        context = stream.cupy.cuda.driver.ctxGetCurrent()
        return library().CreateDecoder(
            gpuid=stream.device_id,
            codec=getattr(library().cudaVideoCodec, _CODECS[codec]),
            cudacontext=context,
            cudastream=stream.handle,
            usedevicememory=True,
            latency=latency.LOW if at_once else latency.NATIVE,
        )


def packet_data(part: Any, pts: int | None, *, is_picture: bool = False) -> Any:
    """A packet as the decoder takes it; it refers to the same memory.

    Args:
        part: Annex-B packet of PyAV, None for the end.
        pts: Presentation time stamp that its surface shall have.
        is_picture: Whether nothing else belongs to its picture, so that no later packet need be
            waited for.
    """
    data = library().PacketData()
    if part is not None:
        data.bsl_data, data.bsl = part.buffer_ptr, part.size
        data.pts = NO_PTS if pts is None else pts
        if is_picture:
            data.decode_flag = library().VideoPacketFlag.ENDOFPICTURE
    return data


def sample_bytes(surface: Any) -> int:
    """1 for NV12, 2 for P016."""
    return 2 if surface.format == library().Pixel_Format.P016 else 1


def first_line(error: Exception) -> str:
    """The useful part of PyNvVideoCodec's message: its lines without place and trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith("at "))
