"""What the video libraries can do on this machine: NVDEC, NVENC, FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dualface_client.cuda.stream import CudaStream, load_codec
from dualface_client.errors import PlatformError
from dualface_client.video.nvcuvid import decoder_caps

#: Formats that sources come in: codec and bit depth.
_FORMATS = (("H264", 8), ("HEVC", 8), ("HEVC", 10), ("AV1", 8), ("AV1", 10))
_ENCODERS = ("h264", "hevc", "av1")


@dataclass(frozen=True, slots=True)
class DecoderFacts:
    """One format that NVDEC decodes.

    Attributes:
        codec: `H264`, `HEVC` or `AV1`.
        bit_depth: 8 or 10.
        width_max: Widest picture, pixels.
        height_max: Highest picture, pixels.
    """

    codec: str
    bit_depth: int
    width_max: int
    height_max: int

    def __str__(self) -> str:
        return f"{self.codec} {self.bit_depth} bit up to {self.width_max}x{self.height_max}"


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What the video engines of one GPU can do.

    Attributes:
        note: Why nothing is known, empty if something is.
        engines: NVDEC engines, 0 if the library does not say.
        decoders: What they decode.
        encoders: What NVENC encodes.
        encoder_engines: NVENC engines, 0 if there are none or the library does not say.
        encoder_note: Why NVENC cannot be used, empty if it can.
    """

    note: str = ""
    engines: int = 0
    decoders: tuple[DecoderFacts, ...] = ()
    encoders: tuple[str, ...] = ()
    encoder_engines: int = 0
    encoder_note: str = ""


def read_video(gpu_index: int = 0) -> VideoFacts:
    """Asks NVDEC and NVENC through PyNvVideoCodec.

    Args:
        gpu_index: As CUDA counts GPUs.
    """
    try:
        codec = load_codec()
    except PlatformError as error:
        return VideoFacts(note=str(error), encoder_note=str(error))
    decoders, engines, note = _decoders(gpu_index)
    encoders, encoder_engines, encoder_note = _encoders(codec, gpu_index)
    return VideoFacts(note, engines, decoders, encoders, encoder_engines, encoder_note)


def ffmpeg_version() -> str:
    """Version of PyAV, and whether its FFmpeg has x264."""
    import av

    try:
        av.Codec("libx264", "w")
    except ValueError:  # av.codec.codec.UnknownCodecError is one
        return f"PyAV {av.__version__}, without x264"
    return f"PyAV {av.__version__} with x264"


def _decoders(gpu_index: int) -> tuple[tuple[DecoderFacts, ...], int, str]:
    found: list[DecoderFacts] = []
    engines = 0
    try:
        stream = CudaStream(gpu_index)
        for name, depth in _FORMATS:
            caps = decoder_caps(stream, name, depth)
            if caps.is_supported:
                found.append(DecoderFacts(name, depth, caps.width_max, caps.height_max))
                engines = max(engines, caps.engines)
    except PlatformError as error:
        return tuple(found), engines, str(error)
    return tuple(found), engines, ""


def _encoders(codec: Any, gpu_index: int) -> tuple[tuple[str, ...], int, str]:
    found: list[str] = []
    engines, note = 0, ""
    for name in _ENCODERS:
        try:
            caps = codec.GetEncoderCaps(gpuid=gpu_index, codec=name)
        except Exception as error:  # PyNvVCException has no public base: there is no encoder
            note = note or f"NVENC cannot be used: {_line(error)}"
            continue
        found.append(name)
        engines = max(engines, int(caps.get("num_encoder_engines", 0)))
    return tuple(found), engines, "" if found else note


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
