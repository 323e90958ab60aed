"""Small videos of every odd kind, made with PyAV where a test needs them.

Picture `i` of a clip is a gradient whose mean luma rises with `i`, so that a test can tell the
order of pictures after a lossy codec: see `luma_of` and `luma_order_is_kept`.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

AUDIO_RATE_HZ = 48_000
_LUMA_STEP = 6
_ROUNDING_S = 0.005  # time stamps that differ by less belong together
_DEGREES_TO_MATRIX = {  # ISO/IEC 14496-12, 16.16 fixed point: a, b, c, d
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


@dataclass(frozen=True, slots=True)
class Audio:
    """One audio stream to be made.

    Attributes:
        codec: FFmpeg's encoder name.
        seconds: Length of its tone.
        start_s: Time of its first sample.
        tone_hz: Frequency of its tone.
        language: ISO 639-2 code, empty for none.
        layout: Its channels, all with the same sound.
        rate_hz: Samples per second.
        is_sweep: Whether its frequency rises, so that every moment sounds different.
        later: Further sounds of the same stream; their own codecs count for nothing.
    """

    codec: str = "aac"
    seconds: float = 1.0
    start_s: float = 0.0
    tone_hz: float = 440.0
    language: str = ""
    layout: str = "mono"
    rate_hz: int = AUDIO_RATE_HZ
    is_sweep: bool = False
    later: Sequence[Audio] = ()


@dataclass(frozen=True, slots=True)
class Clip:
    """One video to be made; the defaults give an ordinary small one.

    Attributes:
        frames: Number of pictures.
        size_wh_px: Width and height.
        rate: Frames per second.
        codec: FFmpeg's encoder name.
        pix_fmt: Pixel format of the encoder.
        pts: Time stamps in `time_base`, None for a constant rate.
        time_base: Unit of `pts`, None for one over the rate.
        options: Encoder options.
        container: Muxer options.
        audio: Audio streams.
        interlaced: Whether pictures are marked as interlaced, top field first.
        sample_aspect: Width over height of one sample.
        color: Matrix, range (1 limited, 2 full), primaries and transfer by H.273 numbers.
    """

    frames: int = 10
    size_wh_px: tuple[int, int] = (64, 48)
    rate: Fraction = Fraction(25)
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    pts: Sequence[int] | None = None
    time_base: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    audio: Sequence[Audio] = ()
    interlaced: bool = False
    sample_aspect: Fraction = Fraction(1)
    color: tuple[int, int, int, int] = (2, 0, 2, 2)


def make(path: Path, clip: Clip | None = None) -> Path:
    """Writes a clip; the suffix selects the container.

    Args:
        path: Where to.
        clip: What to, None for the default one.

    Returns:
        The path.
    """
    clip = clip or Clip()
    with av.open(str(path), "w", options=clip.container) as output:
        video = _add_video(output, clip)
        audio = [(spec, _add_audio(output, spec)) for spec in clip.audio]
        stamps = clip.pts or range(clip.frames)
        for index, pts in enumerate(stamps):
            output.mux(video.encode(_picture(clip, index, pts)))
        output.mux(video.encode(None))
        for spec, stream in audio:
            for part in (spec, *spec.later):
                for frame in _tone(part, stream):
                    output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


def make_audio_only(path: Path, *, cover: bool = False) -> Path:
    """Writes a file with a tone and, where asked, an attached cover picture."""
    with av.open(str(path), "w") as output:
        spec = Audio()
        stream = _add_audio(output, spec)
        picture = _add_cover(output) if cover else None
        for frame in _tone(spec, stream):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if picture is not None:
            output.mux(picture.encode(_picture(Clip(pix_fmt="yuvj420p"), 0, 0)))
            output.mux(picture.encode(None))
    return path


def with_cover(path: Path, video: Path) -> Path:
    """Copies a video's streams behind an attached cover picture, which comes first."""
    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        cover = _add_cover(output)
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams}
        output.mux(cover.encode(_picture(Clip(pix_fmt="yuvj420p"), 0, 0)))
        output.mux(cover.encode(None))
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return path


def rotate(path: Path, degrees_clockwise: int) -> Path:
    """Sets the display matrix of the first track of an MP4 in place."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4  # version 0: the matrix starts 40 bytes into the box's body
    a, b, c, d = _DEGREES_TO_MATRIX[degrees_clockwise]
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at + 40, *matrix)
    path.write_bytes(data)
    return path


def cut(path: Path, source: Path, keep: float) -> Path:
    """Copies the first part of a file's bytes.

    Args:
        path: Where to.
        source: From where.
        keep: Share of the bytes, 0 to 1.
    """
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def damage(path: Path, source: Path, packets: Iterable[int], *, skip: int = 8) -> Path:
    """Copies a file and overwrites the bodies of some of its video packets.

    Args:
        path: Where to.
        source: From where; a container whose packets lie in one piece (MP4, MKV).
        packets: Positions of the packets, 0-based, in decoding order.
        skip: Leading bytes of each packet that stay.
    """
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        found = [bytes(p) for p in container.demux(video=0) if p.size]
    noise = np.random.default_rng(7)
    for index in packets:
        body = found[index]
        at = data.index(body)
        data[at + skip : at + len(body)] = noise.bytes(len(body) - skip)
    path.write_bytes(data)
    return path


def join(path: Path, parts: Iterable[Path]) -> Path:
    """Concatenates the bytes of files, as one may do with MPEG-TS."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def packets_of(path: Path, kind: str, index: int = 0) -> list[tuple[Fraction, bytes]]:
    """Time in seconds and payload of each packet of one stream, in file order.

    Args:
        path: The file.
        kind: `video` or `audio`.
        index: Which of the streams of that kind.
    """
    with av.open(str(path)) as container:
        stream = container.streams.get({kind: index})[0]
        return [
            (Fraction(p.pts or 0) * p.time_base, bytes(p))
            for p in container.demux(stream)
            if p.size
        ]


def times_of(path: Path) -> list[Fraction]:
    """Presentation times in seconds of the decoded pictures of the first video stream."""
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base or Fraction(0)
        return [(frame.pts or 0) * base for frame in container.decode(video=0)]


def luma_of(y: npt.NDArray[np.uint8]) -> float:
    """Mean luma of a picture."""
    return float(y.mean())


def luma_order_is_kept(lumas: Sequence[float]) -> bool:
    """Whether pictures come in the order in which `make` wrote them."""
    return all(b - a > _LUMA_STEP / 2 for a, b in itertools.pairwise(lumas))


def gradient_rgb(index: int, size_wh_px: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Picture `index` of a clip, shape `(height, width, 3)`, uint8: brighter to the right."""
    width, height = size_wh_px
    across = np.linspace(0, 60, width).astype(np.uint8)
    down = (np.linspace(0, 20, height) + 20 + _LUMA_STEP * (index % 25)).astype(np.uint8)
    return np.repeat(np.add.outer(down, across)[..., None], 3, axis=2)


def _add_video(output: Any, clip: Clip) -> Any:
    options = {"preset": "ultrafast"} if clip.codec in {"libx264", "libx265"} else {}
    if clip.codec == "libx265":
        options["x265-params"] = "log-level=none"
    stream = output.add_stream(clip.codec, rate=clip.rate, options={**options, **clip.options})
    stream.width, stream.height = clip.size_wh_px
    stream.pix_fmt = clip.pix_fmt
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = clip.time_base or 1 / clip.rate
    context.sample_aspect_ratio = clip.sample_aspect
    matrix, samples, primaries, transfer = clip.color
    context.colorspace, context.color_range = matrix, samples
    context.color_primaries, context.color_trc = primaries, transfer
    return stream


def _add_cover(output: Any) -> Any:
    stream = output.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic.value
    return stream


def _picture(clip: Clip, index: int, pts: int) -> av.VideoFrame:
    rgb = gradient_rgb(index, clip.size_wh_px)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=clip.pix_fmt)
    frame.pts, frame.time_base = pts, clip.time_base or 1 / clip.rate
    return frame


def _add_audio(output: Any, spec: Audio) -> Any:
    stream = output.add_stream(spec.codec, rate=spec.rate_hz)
    stream.layout = spec.layout
    if spec.codec == "wmav2":  # which has no default
        stream.bit_rate = 128_000
    if spec.language:
        stream.metadata["language"] = spec.language
    return stream


def _tone(spec: Audio, stream: Any) -> Iterable[av.AudioFrame]:
    sample_format = stream.codec_context.format.name
    resampler = av.AudioResampler(sample_format, spec.layout, spec.rate_hz)
    total, block = round(spec.seconds * spec.rate_hz), 1024
    first = round(spec.start_s * spec.rate_hz)
    for start in range(0, total, block):
        phase = np.arange(start, min(start + block, total)) * 2 * math.pi * spec.tone_hz
        if spec.is_sweep:
            phase *= 1 + np.arange(start, start + len(phase)) / spec.rate_hz
        samples = (np.sin(phase / spec.rate_hz) * 12_000).astype(np.int16)[None, :]
        samples = np.repeat(samples, stream.layout.nb_channels, axis=1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=spec.layout)
        frame.sample_rate, frame.pts = spec.rate_hz, first + start
        frame.time_base = Fraction(1, spec.rate_hz)
        yield from resampler.resample(frame)


def sound_of(path: Path, index: int = 0, rate_hz: int = 16_000) -> npt.NDArray[np.float32]:
    """The decoded sound of one audio stream, mixed to one channel, from time 0 on.

    Args:
        path: The file.
        index: Which of its audio streams.
        rate_hz: Samples per second of the result.

    Returns:
        Shape `(n,)`; frames follow one another, and a gap between their time stamps is silence.
    """
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", rate_hz)
        pieces = [f for frame in container.decode(audio=index) for f in resampler.resample(frame)]
        pieces += [frame for frame in resampler.resample(None) if frame is not None]
    parts: list[npt.NDArray[np.float32]] = []
    end = 0
    for frame in pieces:
        place = round(Fraction(frame.pts or 0) * (frame.time_base or 0) * rate_hz)
        if abs(place - end) > _ROUNDING_S * rate_hz:
            parts.append(np.zeros(max(0, place - end), np.float32))
        samples = frame.to_ndarray()[0].astype(np.float32)
        parts.append(samples[max(0, -place) :])
        end = sum(map(len, parts))
    return np.concatenate(parts)


def sound_lag_s(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], rate_hz: int
) -> float:
    """By how many seconds the other sound is later, by cross-correlation."""
    size = 1 << (len(one) + len(other)).bit_length()
    spectrum = np.fft.rfft(other, size) * np.conj(np.fft.rfft(one, size))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    return (lag - size if lag > size // 2 else lag) / rate_hz
