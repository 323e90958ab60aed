"""What the video libraries can do on this machine: NVDEC, NVENC, FFmpeg."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualface_client.errors import PlatformError
from dualface_client.settings.cuda import load_codec

#: What sources come in; name in messages, name of PyNvVideoCodec, bit depth.
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
        note: Why nothing is known, empty where it is.
        engines: NVDEC engines, 0 where the library does not say.
        decoders: What they decode.
        encoders: What NVENC encodes.
        encoder_engines: NVENC engines, 0 where there are none or the library does not say.
        encoder_note: Why NVENC cannot be used, empty where it can.
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
    decoders, engines, note = _decoders(codec, gpu_index)
    encoders, encoder_engines, encoder_note = _encoders(codec, gpu_index)
    return VideoFacts(note, engines, decoders, encoders, encoder_engines, encoder_note)


def ffmpeg_version() -> str:
    """Of the FFmpeg that PyAV carries, and whether it has x264."""
    import av

    try:
        av.Codec("libx264", "w")
    except ValueError:  # av.codec.codec.UnknownCodecError is one
        return f"PyAV {av.__version__}, without x264"
    return f"PyAV {av.__version__} with x264"


@functools.cache
def decoder_caps(codec: Any, gpu_index: int, name: str, bit_depth: int) -> Mapping[str, int]:
    """What a GPU's decoders do for one format, asked once in a process.

    The library makes a CUDA context for the question and drops it, which took most of the time of
    opening a file (docs/performance.md).

    Args:
        codec: The `PyNvVideoCodec` module.
        gpu_index: Index as CUDA counts them.
        name: Of `cudaVideoCodec`, such as `HEVC`.
        bit_depth: 8, 10 or 12.

    Returns:
        The library's `GetDecoderCaps`: `supported`, `width_max`, `num_decoder_engines` and more.
    """
    given: Mapping[str, int] = codec.GetDecoderCaps(
        gpuid=gpu_index, codec=getattr(codec.cudaVideoCodec, name), bitdepth=bit_depth
    )
    return given


def _decoders(codec: Any, gpu_index: int) -> tuple[tuple[DecoderFacts, ...], int, str]:
    found: list[DecoderFacts] = []
    engines = 0
    for name, depth in _FORMATS:
        try:
            caps = decoder_caps(codec, gpu_index, name, depth)
        except Exception as error:  # PyNvVCException has no public base; the driver is the cause
            return tuple(found), engines, f"NVDEC cannot be asked: {_line(error)}"
        if caps["supported"]:
            found.append(DecoderFacts(name, depth, caps["width_max"], caps["height_max"]))
            engines = max(engines, int(caps.get("num_decoder_engines", 0)))
    return tuple(found), engines, ""


def _encoders(codec: Any, gpu_index: int) -> tuple[tuple[str, ...], int, str]:
    found: list[str] = []
    engines, note = 0, ""
    for name in _ENCODERS:
        try:
            caps = codec.GetEncoderCaps(gpuid=gpu_index, codec=name)
        except Exception as error:  # as above: how the library says that there is no encoder
            note = note or f"NVENC cannot be used: {_line(error)}"
            continue
        found.append(name)
        engines = max(engines, int(caps.get("num_encoder_engines", 0)))
    return tuple(found), engines, "" if found else note


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
