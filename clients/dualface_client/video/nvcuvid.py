"""What a GPU's decoders can do, asked of the driver in the existing CUDA context.

PyNvVideoCodec's `GetDecoderCaps` creates a context of its own for the query. That took 85 % of the
time of opening a file, needs some 580 MiB for a moment, and ends the process with a segmentation
fault if they are not free.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from dualface_client.cuda.stream import CudaStream
from dualface_client.errors import PlatformError

_LIBRARY = "libnvcuvid.so.1"  # of the driver
#: `cudaVideoCodec` of cuviddec.h.
_CODECS = {"H264": 4, "HEVC": 8, "AV1": 11}
_CHROMA_420 = 1  # cudaVideoChromaFormat_420


class Caps(ctypes.Structure):
    """`CUVIDDECODECAPS` of cuviddec.h, the driver's stable interface: 88 bytes."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma_format", ctypes.c_int),
        ("bit_depth_minus_8", ctypes.c_uint),
        ("reserved_in", ctypes.c_uint * 3),
        ("is_supported", ctypes.c_ubyte),
        ("engines", ctypes.c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("width_max", ctypes.c_uint),
        ("height_max", ctypes.c_uint),
        ("macroblocks_max", ctypes.c_uint),
        ("width_min", ctypes.c_ushort),
        ("height_min", ctypes.c_ushort),
        ("has_histogram", ctypes.c_ubyte),
        ("histogram_bit_depth", ctypes.c_ubyte),
        ("histogram_bins_max", ctypes.c_ushort),
        ("reserved_out", ctypes.c_uint * 10),
    )


@dataclass(frozen=True, slots=True)
class DecoderCaps:
    """What NVDEC does for one codec and bit depth, 4:2:0.

    Attributes:
        is_supported: Whether it decodes it at all.
        engines: How many of the GPU's decoders do.
        width_min: Narrowest picture, pixels.
        width_max: Widest picture, pixels.
        height_min: Lowest picture, pixels.
        height_max: Highest picture, pixels.
        macroblocks_max: Largest picture, blocks of 16x16 pixels.
    """

    is_supported: bool
    engines: int
    width_min: int
    width_max: int
    height_min: int
    height_max: int
    macroblocks_max: int

    def takes(self, width_px: int, height_px: int) -> bool:
        """Whether a picture of that size can be decoded."""
        return (
            self.width_min <= width_px <= self.width_max
            and self.height_min <= height_px <= self.height_max
            and width_px * height_px // 256 <= self.macroblocks_max
        )


def decoder_caps(stream: CudaStream, codec: str, bit_depth: int) -> DecoderCaps:
    """Queries one format.

    Args:
        stream: Says which GPU.
        codec: `H264`, `HEVC` or `AV1`.
        bit_depth: 8, 10 or 12.

    Raises:
        PlatformError: The driver's video library is missing or refuses the query.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise PlatformError(
            f"the driver's {_LIBRARY} cannot be loaded ({error}); in a container set "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        ) from error
    caps = Caps(_CODECS[codec], _CHROMA_420, bit_depth - 8)
    with stream:
        status = library.cuvidGetDecoderCaps(ctypes.byref(caps))
    if status:
        raise PlatformError(f"NVDEC cannot be queried: CUDA driver error {status}")
    return DecoderCaps(
        bool(caps.is_supported),
        caps.engines,
        caps.width_min,
        caps.width_max,
        caps.height_min,
        caps.height_max,
        caps.macroblocks_max,
    )
